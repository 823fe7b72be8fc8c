"""Several processes of this machine, each with a model of its own."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import multiprocessing
import os
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from dinomask.errors import DinomaskError, EngineError
from dinomask.run.aside import POLL_S
from dinomask.run.engines.base import Engine
from dinomask.run.engines.job import Job
from dinomask.run.engines.tile_work import TileResult
from dinomask.run.engines.worker import READY, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from multiprocessing.context import SpawnProcess

    from dinomask.run.engines.tile_work import TileWork
    from dinomask.run.predictor import Predictor

MAX_DEATHS = 3
"""A tile at which this many workers died is given up."""

_LISTS_AHEAD = 2
"""Lists of tiles a worker has at hand: one in the network, one being read."""


def available_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclasses.dataclass(eq=False)
class _Worker:
    """A process and the tiles it has in hand, in the order they were handed out."""

    process: SpawnProcess
    connection: Connection
    ready: bool = False
    lists: collections.deque[list[int]] = dataclasses.field(default_factory=collections.deque)

    @staticmethod
    def start() -> _Worker:
        """Start a process; it imports the library by itself."""
        # a forked torch may hang, and Windows and macOS have no fork
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), name="dinomask", daemon=True)
        process.start()
        # so that its death ends the connection
        theirs.close()
        return _Worker(process, ours)

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self.connection.close()

    def send(self, message: Any) -> None:
        """Send bytes as they are, all else pickled."""
        # a worker that has died is noticed where its results are awaited
        try:
            if isinstance(message, bytes):
                self.connection.send_bytes(message)
            else:
                self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def take(self, index: int) -> None:
        """Strike off a tile that is done."""
        for tiles in self.lists:
            if index in tiles:
                tiles.remove(index)
        while self.lists and not self.lists[0]:
            self.lists.popleft()


class ProcessEngine(Engine):
    """Spawned processes, one torch thread each unless the settings say otherwise.

    A process that dies, whoever killed it, is replaced, and what it had in
    hand is done again.

    Parameters
    ----------
    workers : number of processes; None takes one a core
    """

    name = "processes"

    def __init__(self, workers: int | None = None) -> None:
        self.workers: int = workers or available_cores()
        self._pool: list[_Worker] = []

    def map(
        self,
        work: TileWork,
        predictor: Predictor,
        tiles: Iterable[int],
        poll: Callable[[], None],
    ) -> Generator[TileResult, None, None]:
        """Yield the result of each tile as it is done."""
        task = _Task(Job.of(work, predictor).pack(), work.batch(predictor), iter(tiles))
        finished = False
        try:
            while not task.is_done(self._pool):
                self._fill(task)
                for worker in self._listen():
                    yield from self._hear(worker, task)
                poll()
            for worker in self._pool:
                worker.send(None)
            finished = True
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        """End the processes at once."""
        for worker in self._pool:
            worker.process.kill()
        for worker in self._pool:
            worker.stop()
        self._pool = []

    def pids(self) -> list[int]:
        """Return the numbers of the processes, for those who watch over them."""
        return [worker.process.pid or 0 for worker in self._pool]

    def _fill(self, task: _Task) -> None:
        """Start what processes are wanted, and give each enough to do."""
        while len(self._pool) < self.workers and task.has_more():
            self._pool.append(_Worker.start())
        for worker in self._pool:
            if worker not in task.members:
                worker.ready = False
                worker.send(task.job)
                task.members.append(worker)
            task.hand_out(worker)

    def _listen(self) -> list[_Worker]:
        connections = {worker.connection: worker for worker in self._pool}
        return [
            connections[c] for c in wait(list(connections), POLL_S) if isinstance(c, Connection)
        ]

    def _hear(self, worker: _Worker, task: _Task) -> Iterator[TileResult]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._pool.remove(worker)
            worker.process.join()
            how = worker.process.exitcode
            worker.stop()
            yield from task.bury(worker, how)
            return
        if isinstance(message, DinomaskError):
            raise message
        if message == READY:
            worker.ready = True
            task.failed_starts = 0
        else:
            worker.take(message.index)
            yield message


class _Task:
    """One pass over tiles: what is still to hand out, and what killed workers."""

    def __init__(self, job: bytes, batch: int, tiles: Iterator[int]) -> None:
        self.job = job
        self.members: list[_Worker] = []
        self.failed_starts = 0
        self._batch = batch
        self._tiles = tiles
        self._next: list[int] = []
        self._again: collections.deque[int] = collections.deque()
        self._deaths: collections.Counter[int] = collections.Counter()

    def has_more(self) -> bool:
        """Tell whether there is a tile to hand out."""
        if not self._next:
            self._next = list(itertools.islice(self._tiles, self._batch))
        return bool(self._again or self._next)

    def is_done(self, pool: list[_Worker]) -> bool:
        """Tell whether every tile was handed out and has come back."""
        return not self.has_more() and not any(worker.lists for worker in pool)

    def hand_out(self, worker: _Worker) -> None:
        """Give a worker enough to do."""
        while len(worker.lists) < _LISTS_AHEAD and self.has_more():
            # tiles of dead workers alone, so that it is known which one kills
            if worker.lists and (self._again or any(map(self._is_suspect, worker.lists))):
                return
            if self._again:
                tiles = [self._again.popleft()]
            else:
                tiles, self._next = self._next, []
            worker.lists.append(tiles)
            worker.send(list(tiles))

    def _is_suspect(self, tiles: list[int]) -> bool:
        return any(self._deaths[index] for index in tiles)

    def bury(self, worker: _Worker, exit_code: int | None) -> Iterator[TileResult]:
        """Take back what a dead worker had in hand; give up what kills every worker.

        Raises
        ------
        EngineError
            If processes die before they have begun.
        """
        if worker in self.members:
            self.members.remove(worker)
        how = f"signal {-exit_code}" if exit_code and exit_code < 0 else f"exit code {exit_code}"
        held = list(itertools.chain.from_iterable(worker.lists))
        worker.lists.clear()
        if not worker.ready:
            self.failed_starts += 1
            self._again.extend(held)
            if self.failed_starts >= MAX_DEATHS:
                raise EngineError(
                    expected="worker processes that start",
                    got=f"{self.failed_starts} that ended at once ({how})",
                    remedy="In a script, call it under: if __name__ == '__main__'. If memory is"
                    " short, use fewer workers.",
                )
            return
        for index in held:
            self._deaths[index] += 1
            if self._deaths[index] < MAX_DEATHS:
                self._again.append(index)
            else:
                reason = f"{MAX_DEATHS} worker processes died at it ({how}); memory may be short"
                yield TileResult(index, None, reason=reason)
