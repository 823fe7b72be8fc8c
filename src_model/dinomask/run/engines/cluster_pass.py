"""One pass of a Dask cluster over the tiles of an image, whatever workers it loses."""

from __future__ import annotations

import collections
import contextlib
import itertools
import time
import uuid
from typing import TYPE_CHECKING, Any

from dinomask.errors import DinomaskError, EngineError
from dinomask.run.aside import POLL_S
from dinomask.run.engines.cluster_tasks import keep, run_tiles
from dinomask.run.engines.processes import MAX_DEATHS
from dinomask.run.engines.tile_work import TileResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client, Future

WORKERLESS_S = 60.0
"""How long a cluster may be without a worker."""

_LISTS_A_THREAD = 2
"""Lists of tiles a worker's thread has at hand, so that it never waits for the next."""

_COUNT_EVERY_S = 2.0


class ClusterPass:
    """One pass over tiles.

    Parameters
    ----------
    client : of the cluster
    packed : the `Job` of every tile
    batch : tiles that a worker takes at once
    tiles : their numbers
    """

    def __init__(self, client: Client, packed: bytes, batch: int, tiles: Iterator[int]) -> None:
        from distributed import as_completed

        self.n_workers = 0
        self._client = client
        self._lists = iter(lambda: list(itertools.islice(tiles, batch)), [])
        self._token = uuid.uuid4().hex
        self._packed = packed
        self._job = self._keep_job()
        self._running: dict[Future[Any], list[int]] = {}
        self._suspects: collections.deque[int] = collections.deque()
        self._deaths: collections.Counter[int] = collections.Counter()
        self._alone: Future[Any] | None = None
        self._numbers = itertools.count()
        self._done = as_completed(loop=client.loop, with_results=True, raise_errors=False)
        self._n_threads = 1
        self._counted_s = -_COUNT_EVERY_S
        self._worked_s = time.monotonic()

    def run(self, poll: Callable[[], None]) -> Iterator[TileResult]:
        """Yield the result of each tile as it is done, and call `poll` often meanwhile."""
        while True:
            self._check()
            self._hand_out()
            if not self._running and not self._suspects:
                return
            if not self._done.has_ready():
                time.sleep(POLL_S / 5)
            for future, result in self._done.next_batch(block=False):
                yield from self._results(self._running.pop(future), future, result)
            poll()

    def cancel(self) -> None:
        """Give up what is not done."""
        with contextlib.suppress(Exception):
            self._client.cancel([*self._running, self._job], force=True)

    def _hand_out(self) -> None:
        if self._suspects:
            # Nothing beside it, which Dask would blame along with it. Nor is it there before a
            # worker is: one that dies while it connects is not started again.
            if not self._running and self.n_workers:
                self._alone = self._submit([self._suspects.popleft()])
            return
        while self._alone is None and len(self._running) < self._n_threads * _LISTS_A_THREAD:
            tiles = next(self._lists, None)
            if tiles is None:
                return
            self._submit(tiles)

    def _keep_job(self) -> Future[Any]:
        # a task and not scattered data, so that it comes back if the worker that holds it dies
        key = f"dinomask-job-{uuid.uuid4().hex}"
        with _large_graphs():
            return self._client.submit(keep, self._packed, key=key, pure=False)

    def _submit(self, tiles: list[int]) -> Future[Any]:
        if self._job.status == "error":
            self._job = self._keep_job()
        future = self._client.submit(
            run_tiles,
            self._job,
            self._token,
            tiles,
            key=f"dinomask-tiles-{self._token}-{next(self._numbers)}",
            pure=False,
        )
        self._running[future] = tiles
        self._done.add(future)
        return future

    def _check(self) -> None:
        """Count the workers now and then.

        Raises
        ------
        EngineError
            If scheduler or workers are lost.
        """
        now = time.monotonic()
        if now - self._counted_s < _COUNT_EVERY_S:
            return
        self._counted_s = now
        try:
            threads = self._client.nthreads() if self._client.status == "running" else None
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise _lost(got=str(error)) from error
        if threads is None:
            raise _lost(got=f"a connection that is {self._client.status}")
        self.n_workers = len(threads)
        self._n_threads = max(1, sum(threads.values()))
        if threads:
            self._worked_s = now
        elif now - self._worked_s > WORKERLESS_S:
            raise EngineError(
                expected="a Dask cluster with workers",
                got=f"none for {WORKERLESS_S:.0f} s",
                remedy="Start some with: dask worker ADDRESS; then run the same command again.",
            )

    def _results(self, tiles: list[int], future: Future[Any], result: Any) -> Iterator[TileResult]:
        from distributed import KilledWorker

        was_alone = future is self._alone
        self._alone = None
        if future.status == "finished":
            yield from result
            return
        if future.status != "error":
            raise _lost(got="tasks that were cancelled")
        error = future.exception()
        if isinstance(error, KilledWorker):
            yield from self._bury(tiles, error.allowed_failures + 1, was_alone)
        elif isinstance(error, DinomaskError):
            raise error
        else:
            raise EngineError(
                expected="workers that can run dinomask",
                got=f"{type(error).__name__}: {error}",
                remedy="Install the same version of dinomask, and what it needs, on every worker.",
            ) from error

    def _bury(self, tiles: list[int], n_lost: int, was_alone: bool) -> Iterator[TileResult]:
        """Take back what lost workers had in hand; give up what kills every worker."""
        self._counted_s = -_COUNT_EVERY_S
        # Dask blames all that a lost worker had in hand, the job with them
        n_lost = 0 if self._job.status == "error" else n_lost
        for index in tiles:
            self._deaths[index] += n_lost
            if not was_alone or self._deaths[index] < MAX_DEATHS:
                self._suspects.append(index)
            else:
                reason = f"{self._deaths[index]} workers died at it; memory may be short"
                yield TileResult(index, None, reason=reason)


def _lost(*, got: str) -> EngineError:
    return EngineError(
        expected="a Dask scheduler that stays",
        got=got,
        remedy="Finished tiles are kept; run the same command again when it is back.",
    )


def _large_graphs() -> contextlib.AbstractContextManager[Any]:
    """Don't warn of an image in memory, which is sent once."""
    import dask

    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"})
