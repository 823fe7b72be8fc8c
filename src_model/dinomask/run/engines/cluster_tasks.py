"""What runs on the workers of a Dask cluster."""

from __future__ import annotations

import pickle
import signal
import threading
from typing import TYPE_CHECKING

from dinomask.errors import EngineError, InputError, SourceChangedError

if TYPE_CHECKING:
    from dinomask.run.engines.job import Job
    from dinomask.run.engines.tile_work import TileResult

_lock = threading.Lock()
_jobs: dict[str, Job] = {}
"""The job that this process works on, by its token."""


def keep(packed: bytes) -> bytes:
    """Hold a packed job for the workers that ask for it."""
    return packed


def run_tiles(packed: bytes, token: str, tiles: list[int]) -> list[TileResult]:
    """Work through tiles; opens the image and loads the model with the first ones.

    Raises
    ------
    EngineError
        If this worker can't open the image, or has another version of the library.
    ModelError
        If the model is missing here, or is another one.
    """
    from dinomask.run.engines.job import load_predictor
    from dinomask.run.engines.tile_work import predict

    job = _unpack(packed, token)
    return list(predict(job.work, load_predictor(job), tiles, _nothing))


def dask_setup(worker: object) -> None:
    """Prepare a worker of an own cluster; Dask calls it by this name.

    Ctrl-C reaches every process of a terminal, and the leading one decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _unpack(packed: bytes, token: str) -> Job:
    with _lock:
        if token not in _jobs:
            try:
                job = pickle.loads(packed)
            except SourceChangedError:
                raise
            except InputError as error:
                raise EngineError(
                    expected="an image that every worker can open",
                    got=str(error),
                    remedy="Put it where all workers find it under the same path.",
                ) from error
            _jobs.clear()
            _jobs[token] = job
        return _jobs[token]


def _nothing() -> None:
    """Tasks are cancelled from outside."""
