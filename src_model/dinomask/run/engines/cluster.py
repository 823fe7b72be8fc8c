"""Dask: a cluster of this machine, or a running one of many machines.

Workers send back what they found, and the leading process writes the ledger.
So the output needs no disk that all can write, a full disk stops the run in one
place, and a worker that was given up for lost can't write any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

from dinomask.errors import EngineError
from dinomask.run.engines import cluster_tasks
from dinomask.run.engines.base import Engine
from dinomask.run.engines.cluster_pass import ClusterPass
from dinomask.run.engines.job import Job
from dinomask.run.engines.processes import available_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from distributed import Client, LocalCluster

    from dinomask.run.engines.tile_work import TileResult, TileWork
    from dinomask.run.predictor import Predictor

CONNECT_S = 10.0
"""How long a scheduler may take to answer."""

CLOSE_S = 20.0
"""How long an own cluster may take to end; a moment unless the machine is overloaded."""

_DEATHS_BORNE = 0
"""Workers of an own cluster that may die at tiles before Dask gives them back."""


class DaskEngine(Engine):
    """Tiles as tasks of a Dask cluster.

    What a lost worker had in hand is then looked at one tile at a time, and a
    tile at which `MAX_DEATHS` workers died is given up.

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
        self._settings = contextlib.ExitStack()
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
        task = ClusterPass(client, packed, work.batch(predictor), iter(tiles))
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
        self._settings.close()

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

        self._settings.enter_context(_own_settings())
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


def _own_settings() -> contextlib.AbstractContextManager[Any]:
    """Set how Dask treats an own cluster, as long as it runs."""
    import dask

    # With MALLOC_TRIM_THRESHOLD_, which Dask sets, glibc gives memory back after each layer of
    # the network, and maps it anew for the next: a quarter of the time goes into page faults.
    key = "distributed.nanny.pre-spawn-environ"
    kept = {k: v for k, v in dask.config.get(key).items() if not k.startswith("MALLOC_")}
    return dask.config.set(
        {
            key: kept,
            "distributed.scheduler.allowed-failures": _DEATHS_BORNE,
            # Dask gives up for good a worker that isn't there 15 s after another one of its
            # place was lost; importing PyTorch may take as long
            "distributed.deploy.lost-worker-timeout": "1 hour",
        }
    )


def _require_distributed() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise EngineError(
            expected="dask.distributed for the engine dask",
            got=f"no such package ({error})",
            remedy="Install it: pip install 'napari-dinomask[dask]', or use --engine processes.",
        ) from error
