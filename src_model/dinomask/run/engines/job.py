"""What workers in other processes are told: the work, and which model to load for it."""

from __future__ import annotations

import dataclasses
import pickle
import threading
import uuid
from typing import TYPE_CHECKING

import dinomask
from dinomask.errors import EngineError, ModelError, SettingsError

if TYPE_CHECKING:
    from dinomask.run.engines.tile_work import TileWork
    from dinomask.run.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Job:
    """The work of one run with the description of its model.

    Attributes
    ----------
    work : what to do with a tile; its settings say where and with how many
        threads the network runs
    folder : the checkpoint on the machine where the run began
    weights_sha256 : what must be loaded, from there or under the model's name
    adapter_folder, adapter_sha256 : the same of the adapter; None without one
    version : of this library
    token : tells jobs apart
    """

    work: TileWork
    folder: str
    weights_sha256: str
    version: str
    token: str
    adapter_folder: str | None = None
    adapter_sha256: str | None = None

    @staticmethod
    def of(work: TileWork, predictor: Predictor) -> Job:
        """Describe a run; each worker gets one thread unless the settings say otherwise."""
        from dinomask.nets.adapter_manifest import find_adapter
        from dinomask.nets.catalogue import find_model

        config = work.config
        config = dataclasses.replace(
            config,
            threads=config.threads or 1,
            # a worker that would choose another one would give other bits
            precision=predictor.precision,
            # a manifest elsewhere may have another threshold for the same weights
            detect=dataclasses.replace(
                config.detect, score_threshold=predictor.score_threshold(config.detect)
            ),
        )
        return Job(
            work=dataclasses.replace(work, config=config),
            folder=str(find_model(config.model).resolve()),
            weights_sha256=predictor.manifest.weights_sha256,
            version=dinomask.__version__,
            token=uuid.uuid4().hex,
            adapter_folder=config.adapter and str(find_adapter(config.adapter).resolve()),
            adapter_sha256=predictor.adapter_sha256,
        )

    def pack(self) -> bytes:
        """Return the job as bytes.

        Raises
        ------
        SettingsError
            If the image can't be sent to another process.
        """
        try:
            return pickle.dumps(self, protocol=pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise SettingsError(
                expected="an image that other processes can open",
                got=f"one that can't be sent to them ({error})",
                remedy="Save it as a file or use the engine serial.",
            ) from error


class _Loaded:
    """The model that a worker used last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.key: tuple[object, ...] = ()
        self.predictor: Predictor | None = None


_loaded = _Loaded()


def load_predictor(job: Job) -> Predictor:
    """Load the model of a job, once a process for as many jobs as share it.

    Raises
    ------
    EngineError
        If this worker has another version of the library.
    ModelError
        If the model is missing here, or is another one.
    """
    if job.version != dinomask.__version__:
        raise EngineError(
            expected=f"dinomask {job.version} on every worker",
            got=f"version {dinomask.__version__} on one",
            remedy="Install the same version everywhere and run the same command again.",
        )
    config = job.work.config
    key = (job.weights_sha256, job.adapter_sha256, config.device, config.threads, config.precision)
    with _loaded.lock:
        if _loaded.predictor is None or _loaded.key != key:
            # two models at once may not fit into memory
            _loaded.predictor = None
            _loaded.predictor, _loaded.key = _load(job), key
        return _loaded.predictor


def _load(job: Job) -> Predictor:
    from dinomask.run.predictor import Predictor

    config = job.work.config
    try:
        here = dataclasses.replace(config, model=job.folder, adapter=job.adapter_folder)
        predictor = Predictor.load(here)
    except ModelError:
        # another machine may have it elsewhere
        predictor = Predictor.load(config)
    found = predictor.manifest.weights_sha256
    if found != job.weights_sha256:
        raise ModelError(
            expected=f"the model {config.model} with weights {job.weights_sha256[:12]}…",
            got=f"weights {found[:12]}… on a worker",
            remedy="Copy the checkpoint to the worker, or name it by a folder that all can read.",
        )
    if predictor.adapter_sha256 != job.adapter_sha256:
        raise ModelError(
            expected=f"the adapter {config.adapter} with tensors {_short(job.adapter_sha256)}",
            got=f"{_short(predictor.adapter_sha256)} on a worker",
            remedy="Copy the adapter to the worker, or name it by a folder that all can read.",
        )
    return predictor


def _short(sha256: str | None) -> str:
    return f"{sha256[:12]}…" if sha256 else "none"
