"""Run compression methods one after another and save what comes out under a name."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dinomask.compress.artefacts import write_artefact
from dinomask.compress.distil import STATES
from dinomask.compress.method import Stage
from dinomask.compress.methods import find_methods
from dinomask.compress.subject import Subject
from dinomask.compress.work import CompressionWarning, Work
from dinomask.config import CompressConfig, as_dict
from dinomask.errors import OutputError, SettingsError
from dinomask.nets.adapters import adapters_folder, save_adapter
from dinomask.nets.catalogue import find_model, list_models, user_models_folder
from dinomask.nets.zoo import MANIFEST_FILE, manifest_bytes, save_checkpoint, write_atomically
from dinomask.run.predictor import choose_device, default_threads
from dinomask.run.report import machine
from dinomask.tiles.outputs import output_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dinomask.compress.material import Material
    from dinomask.compress.method import Method
    from dinomask.run.progress import OnProgress


@dataclasses.dataclass(frozen=True)
class Compressed:
    """What came out of a compression.

    Attributes
    ----------
    folder : the checkpoint, adapter or backend artefact
    name : by which `segment`, `evaluate` and napari use it where it lies among the user's models
    kind : ``model``, ``adapter`` or ``artefact``
    record : the manifest's section ``compression``: source, steps, sizes, what was left out
    """

    folder: Path
    name: str
    kind: str
    record: dict[str, Any]


def compress(
    model: str,
    methods: Sequence[str],
    out: Path | None = None,
    config: CompressConfig | None = None,
    *,
    adapter: str | None = None,
    material: Material | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> Compressed:
    """Make a model smaller or faster, and save it as one that is used by its name.

    Methods are applied in the order of their stages. One that this model or machine can't
    do is left out with a warning that says why; the others go on.

    Parameters
    ----------
    model : name or folder of a checkpoint
    methods : names, see `dinomask.compress.methods`
    out : folder of the result; None takes one among the user's models, named after what
        was done
    config : settings
    adapter : on the model; merged before anything changes the network
    material : the user's images, with or without labels
    overwrite : replace an existing result
    on_progress : called in every step; raising `CancelledError` stops. Nothing is left then but
        the state of a training, from which the same call goes on

    Raises
    ------
    SettingsError
        If a method is unknown, or none of them can be applied.
    ModelError
        If the model can't be loaded.
    DataError
        If no image can be used.
    OutputError
        If there is a result already, or it can't be written.
    """
    config = config or CompressConfig()
    chosen = find_methods(methods)
    subject = Subject.load(model, adapter)
    folder = out or _default_folder(model, adapter, chosen)
    _require_free(folder, overwrite)
    torch.set_num_threads(config.threads or default_threads())
    torch.manual_seed(config.seed)
    building = folder.with_name(f".{folder.name}.building")
    with _scratch(building) as scratch:
        device = choose_device(config.device)
        original = subject.copied().merged()
        work = Work(config, original, material, device, scratch, on_progress)
        before = {"parameters": subject.n_parameters, "bytes": _bytes_of(model)}
        started = time.monotonic()
        subject, steps, skipped = _apply(subject, chosen, work)
        record: dict[str, Any] = {
            "source": _source(work.original, adapter),
            "steps": steps,
            "skipped": skipped,
            "settings": {k: v for k, v in as_dict(config).items() if not isinstance(v, dict)},
            "material": None if material is None else material.record(),
            "before": before,
            "machine": machine(),
            "seconds": round(time.monotonic() - started, 1),
        }
        return _save(subject, folder, scratch, record)


def _apply(
    subject: Subject, methods: Sequence[Method], work: Work
) -> tuple[Subject, list[dict[str, Any]], list[dict[str, str]]]:
    steps: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for method in methods:
        settings = method.settings(work.config)
        if method.changes_model and subject.adapter is not None:
            # a model can't change below an adapter
            subject = subject.merged()
        implementation = method.load()
        reason = _reason(method, subject, work) or implementation.reason_against(subject, settings)
        if reason is not None:
            skipped.append({"method": method.name, "reason": reason})
            warnings.warn(f"{method.name} is left out: {reason}", CompressionWarning, stacklevel=3)
            continue
        started = time.monotonic()
        work.begin(method.name)
        subject = implementation.apply(subject, settings, work)
        subject.model.eval()
        steps.append(
            {
                "method": method.name,
                "settings": None if settings is None else as_dict(settings),
                "notes": list(work.notes),
                "parameters": subject.n_parameters,
                "seconds": round(time.monotonic() - started, 1),
            }
        )
        work.tell(1, 1)
    if not steps:
        raise SettingsError(
            expected="at least one method that this model and machine can do",
            got="; ".join(f"{s['method']}: {s['reason']}" for s in skipped),
            remedy="Choose other methods.",
        )
    return subject, steps, skipped


def _reason(method: Method, subject: Subject, work: Work) -> str | None:
    if method.needs == "images" and work.material is None:
        return "it needs images like those to segment, with or without labels (--data)"
    if method.stage == Stage.EXPORT and subject.artefact is not None:
        return "the model is exported already; each export is a result of its own"
    return None


def _source(original: Subject, adapter: str | None) -> dict[str, Any]:
    manifest = original.manifest
    return {"name": manifest.name, "weights_sha256": manifest.weights_sha256, "adapter": adapter}


def _default_folder(model: str, adapter: str | None, methods: Sequence[Method]) -> Path:
    name = "-".join([adapter or Path(model).name, *(method.name for method in methods)])
    home = adapters_folder() if _only_adapter(methods, adapter) else user_models_folder()
    return home / name


def _only_adapter(methods: Sequence[Method], adapter: str | None) -> bool:
    return adapter is not None and all(method.stage == Stage.ADAPTER for method in methods)


def _require_free(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not (overwrite and folder.is_dir()):
        raise OutputError(
            expected="a folder that does not exist yet",
            got=str(folder),
            remedy="Choose another -o, or add --overwrite.",
        )
    bundled = [path for path in list_models().values() if path.parent != user_models_folder()]
    if folder.resolve() in [path.resolve() for path in bundled]:
        raise OutputError(
            expected="a folder other than a bundled model's",
            got=str(folder),
            remedy="Choose another -o.",
        )


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Give a folder to build in; it stays only if a training in it can go on."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        yield folder
    except BaseException:
        if not any(folder.glob(STATES)):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _bytes_of(model: str) -> int:
    return folder_bytes(find_model(model))


def folder_bytes(folder: Path) -> int:
    """Return the bytes of a model's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _save(subject: Subject, folder: Path, scratch: Path, record: dict[str, Any]) -> Compressed:
    kind = "adapter" if subject.adapter else "artefact" if subject.artefact else "model"
    finished = scratch / "finished"
    shutil.rmtree(finished, ignore_errors=True)
    record["after"] = {"parameters": subject.n_parameters}
    if subject.adapter is not None:
        about = subject.adapter.manifest
        provenance = {**about.provenance, "compression": record}
        about = dataclasses.replace(about, name=folder.name, provenance=provenance)
        save_adapter(finished, subject.adapter.tensors, about)
        record["after"]["bytes"] = folder_bytes(finished)
    else:
        manifest = dataclasses.replace(
            subject.manifest,
            name=folder.name,
            architecture=subject.model.config,
            # figures of the source don't hold for the result
            metrics={},
            compression=record,
        )
        if subject.artefact is None:
            manifest = save_checkpoint(finished, subject.model.state_dict(), manifest)
        else:
            manifest = write_artefact(finished, manifest, subject.artefact)
        # the record is the manifest's too, and is complete only now
        record["after"]["bytes"] = folder_bytes(finished)
        write_atomically(finished / MANIFEST_FILE, manifest_bytes(manifest))
    _put_in_place(finished, folder)
    return Compressed(folder, folder.name, kind, record)


def _put_in_place(finished: Path, folder: Path) -> None:
    try:
        if folder.exists():
            away = finished.with_name("replaced")
            folder.replace(away)
        finished.replace(folder)
    except OSError as error:
        raise output_error(folder, error) from error
