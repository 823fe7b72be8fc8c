"""Dask: a cluster of this machine, or a running one of many machines.

Workers send back what they found, and the leading process writes the ledger.
So the output needs no disk that all can write, a full disk stops the run in one
place, and a worker that was given up for lost can't write any more.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import time
import uuid
from typing import TYPE_CHECKING, Any

from dinomask.errors import DinomaskError, EngineError
from dinomask.run.aside import POLL_S
from dinomask.run.engines import cluster_tasks
from dinomask.run.engines.base import Engine
from dinomask.run.engines.cluster_tasks import keep, run_tiles
from dinomask.run.engines.job import Job
from dinomask.run.engines.processes import available_cores
from dinomask.run.engines.tile_work import TileResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from distributed import Client, Future, LocalCluster

    from dinomask.run.engines.tile_work import TileWork
    from dinomask.run.predictor import Predictor

CONNECT_S = 10.0
"""How long a scheduler may take to answer."""

CLOSE_S = 20.0
"""How long an own cluster may take to end; a moment unless the machine is overloaded."""

WORKERLESS_S = 60.0
"""How long a cluster may be without a worker."""

_LISTS_A_THREAD = 2
"""Lists of tiles a worker's thread has at hand, so that it never waits for the next."""

_COUNT_EVERY_S = 2.0


class DaskEngine(Engine):
    """Tiles as tasks of a Dask cluster.

    Dask gives the tiles of a lost worker to another one. A tile at which
    several workers died is given up.

    Parameters
    ----------
    workers : processes of an own cluster on this machine; None takes one a core
    scheduler : address of a running cluster, which is used instead

    Raises
    ------
    EngineError
        If dask.distributed is not installed.
    """

    name = "dask"

    def __init__(self, workers: int | None = None, scheduler: str | None = None) -> None:
        _require_distributed()
        self.workers: int | None = None if scheduler else workers or available_cores()
        self.scheduler = scheduler
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None

    def map(
        self,
        work: TileWork,
        predictor: Predictor,
        tiles: Iterable[int],
        poll: Callable[[], None],
    ) -> Generator[TileResult, None, None]:
        """Yield the result of each tile as it is done."""
        packed = Job.of(work, predictor).pack()
        client = self._connect(predictor.device.type == "cuda")
        task = _Task(client, packed, work.batch(predictor), iter(tiles))
        finished = False
        try:
            yield from task.run(poll)
            finished = True
        finally:
            if not finished:
                task.cancel()
                self.close()
        if self.scheduler:
            self.workers = task.n_workers

    def close(self) -> None:
        """Leave a running cluster; end an own one at once, with what it has in hand."""
        client, cluster = self._client, self._cluster
        self._client = self._cluster = None
        for nanny in cluster.workers.values() if cluster else []:
            # asked politely, a worker first ends its tile
            nanny.auto_restart = False
            with contextlib.suppress(ProcessLookupError, TypeError):
                os.kill(nanny.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        if client is not None:
            client.close(timeout=1)
        if cluster is not None:
            cluster.close(timeout=CLOSE_S)

    def pids(self) -> list[int]:
        """Return the numbers of an own cluster's processes, for those who watch over them."""
        nannies = self._cluster.workers.values() if self._cluster else []
        return [nanny.pid for nanny in nannies if nanny.pid]

    def _connect(self, on_cuda: bool) -> Client:
        from distributed import Client

        if self._client is not None and self._client.status == "running":
            return self._client
        self.close()
        if self.scheduler is None:
            self._cluster = self._start(on_cuda)
        try:
            self._client = Client(
                self.scheduler or self._cluster, timeout=CONNECT_S, set_as_default=False
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise EngineError(
                expected=f"a Dask scheduler that answers at {self.scheduler}",
                got=str(error) or "no answer",
                remedy="Start one with: dask scheduler; then give its address, and check that no"
                " firewall is between.",
            ) from error
        return self._client

    def _start(self, on_cuda: bool) -> LocalCluster:
        from distributed import LocalCluster

        with _usual_allocation():
            return LocalCluster(
                n_workers=self.workers,
                # one reads and keeps what it owns while the other's batch is in the network
                threads_per_worker=2 if on_cuda else 1,
                processes=True,
                # a worker is neither paused nor killed for what the model needs
                memory_limit=None,
                dashboard_address="127.0.0.1:0",
                # what matters of lost workers is said in the results
                silence_logs=logging.CRITICAL,
                preload=[cluster_tasks.__name__],
            )


class _Task:
    """One pass over tiles."""

    def __init__(self, client: Client, packed: bytes, batch: int, tiles: Iterator[int]) -> None:
        from distributed import as_completed

        self.n_workers = 0
        self._client = client
        self._lists = iter(lambda: list(itertools.islice(tiles, batch)), [])
        self._token = uuid.uuid4().hex
        # a task and not scattered data, so that it comes back if the worker that holds it dies
        with _large_graphs():
            self._job = client.submit(keep, packed, key=f"dinomask-job-{self._token}", pure=False)
        self._running: dict[Future[Any], list[int]] = {}
        self._done = as_completed(loop=client.loop, with_results=True, raise_errors=False)
        self._n_threads = 1
        self._counted_s = -_COUNT_EVERY_S
        self._worked_s = time.monotonic()

    def run(self, poll: Callable[[], None]) -> Iterator[TileResult]:
        while True:
            self._check()
            self._hand_out()
            if not self._running:
                return
            if not self._done.has_ready():
                time.sleep(POLL_S / 5)
            for future, result in self._done.next_batch(block=False):
                yield from self._results(self._running.pop(future), future, result)
            poll()

    def cancel(self) -> None:
        with contextlib.suppress(Exception):
            self._client.cancel([*self._running, self._job], force=True)

    def _hand_out(self) -> None:
        while len(self._running) < self._n_threads * _LISTS_A_THREAD:
            tiles = next(self._lists, None)
            if tiles is None:
                return
            future = self._client.submit(
                run_tiles,
                self._job,
                self._token,
                tiles,
                key=f"dinomask-tiles-{self._token}-{tiles[0]}",
                pure=False,
            )
            self._running[future] = tiles
            self._done.add(future)

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

        if future.status == "finished":
            yield from result
            return
        if future.status != "error":
            raise _lost(got="tasks that were cancelled")
        error = future.exception()
        if isinstance(error, KilledWorker):
            for index in tiles:
                reason = "several workers died at it; memory may be short"
                yield TileResult(index, None, reason=reason)
        elif isinstance(error, DinomaskError):
            raise error
        else:
            raise EngineError(
                expected="workers that can run dinomask",
                got=f"{type(error).__name__}: {error}",
                remedy="Install the same version of dinomask, and what it needs, on every worker.",
            ) from error


def _lost(*, got: str) -> EngineError:
    return EngineError(
        expected="a Dask scheduler that stays",
        got=got,
        remedy="Finished tiles are kept; run the same command again when it is back.",
    )


def _usual_allocation() -> contextlib.AbstractContextManager[Any]:
    """Start workers whose memory is not given back after each layer of the network.

    Dask sets MALLOC_TRIM_THRESHOLD_, with which glibc maps every large array anew: a network
    then spends a quarter of its time on page faults.
    """
    import dask

    key = "distributed.nanny.pre-spawn-environ"
    kept = {k: v for k, v in dask.config.get(key).items() if not k.startswith("MALLOC_")}
    return dask.config.set({key: kept})


def _large_graphs() -> contextlib.AbstractContextManager[Any]:
    """Don't warn of an image in memory, which is sent once."""
    import dask

    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"})


def _require_distributed() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise EngineError(
            expected="dask.distributed for the engine dask",
            got=f"no such package ({error})",
            remedy="Install it: pip install 'napari-dinomask[dask]', or use --engine processes.",
        ) from error
