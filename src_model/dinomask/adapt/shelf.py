"""The shelf: the checkpoints and adapters a user has, with what is known of each."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dinomask.adapt.promotion import standing
from dinomask.errors import DinomaskError, ModelError, OutputError
from dinomask.nets import adapter_manifest as adapters
from dinomask.nets import catalogue
from dinomask.nets.adapter_manifest import (
    AdapterManifest,
    adapters_folder,
    list_adapters,
    read_adapter_manifest,
    require_name,
)
from dinomask.nets.catalogue import (
    BUNDLED,
    Manifest,
    list_models,
    read_manifest,
    user_models_folder,
)
from dinomask.tiles.outputs import output_error, replacing

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["model", "adapter"]

FILES: dict[Kind, tuple[str, str]] = {
    "model": (catalogue.MANIFEST_FILE, "model.safetensors"),
    "adapter": (adapters.MANIFEST_FILE, adapters.TENSORS_FILE),
}
"""The two files that each is made of: what it says about itself, and its tensors. An artefact
has other ones."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One thing on the shelf.

    Attributes
    ----------
    kind : a checkpoint or an adapter
    name, folder : what it is called, and where it lies
    size_mb : of its files, in 10⁶ bytes
    manifest : what it says about itself; None if that is damaged
    state : in words: bundled, in use, kept aside, damaged, or nothing
    reason : why it is kept aside, or what the damage is
    """

    kind: Kind
    name: str
    folder: Path
    size_mb: float
    manifest: Manifest | AdapterManifest | None
    state: str = ""
    reason: str = ""


def list_shelf() -> list[Entry]:
    """Return all checkpoints, then all adapters; damaged ones too, with the reason."""
    states = standing()
    found = [_entry("model", name, folder) for name, folder in list_models().items()]
    return found + [
        _entry("adapter", name, folder, states) for name, folder in list_adapters().items()
    ]


def find_entry(name: str, kind: Kind | None = None) -> Entry:
    """Return what lies on the shelf under a name, or in a folder.

    Raises
    ------
    ModelError
        If there is nothing, or a checkpoint and an adapter of that name.
    """
    kinds: tuple[Kind, ...] = (kind,) if kind else ("model", "adapter")
    known = {"model": list_models(), "adapter": list_adapters()}
    found = [_entry(k, name, known[k][name], standing()) for k in kinds if name in known[k]]
    folder = Path(name)
    if not found and name:
        found = [_entry(k, folder.resolve().name, folder) for k in kinds if holds(k, folder)]
    if len(found) > 1:
        raise ModelError(
            expected=f"one thing called {name!r}",
            got="a model and an adapter",
            remedy="Say which one: --kind model, or --kind adapter.",
        )
    if not found:
        names = ", ".join(n for k in kinds for n in known[k])
        raise ModelError(
            expected=f"the name of {' or '.join(_article(k) for k in kinds)}, or its folder",
            got=f"{name!r}",
            remedy=f"Known names: {names or 'none'}. See: dinomask models list.",
        )
    return found[0]


def find_base(manifest: AdapterManifest) -> str:
    """Return the name of the checkpoint that an adapter was taught on, whatever it is called here.

    Raises
    ------
    ModelError
        If it is not on the shelf.
    """
    for entry in list_shelf():
        base = entry.manifest
        if isinstance(base, Manifest) and base.weights_sha256 == manifest.base_sha256:
            return entry.name
    raise ModelError(
        expected=f"the checkpoint {manifest.base!r} with the hash {manifest.base_sha256[:12]}…",
        got="none with that hash",
        remedy="Add it first: dinomask models add FILE.",
    )


def free_name(name: str) -> str:
    """Return a name that is free: nuclei, or else nuclei-2, nuclei-3 and so on."""
    require_name(name)
    taken = {n.casefold() for n in (*list_models(), *list_adapters())}
    taken |= _names_in(adapters_folder())
    candidate, number = name, 2
    while candidate.casefold() in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def place_for(kind: Kind, name: str) -> Path:
    """Return the folder that a new checkpoint or adapter of that name gets.

    Raises
    ------
    SettingsError
        If the name can't be that of a folder.
    OutputError
        If it is taken.
    """
    require_name(name)
    home = user_models_folder() if kind == "model" else adapters_folder()
    names = _names_in(home) | ({n.casefold() for n in list_models()} if kind == "model" else set())
    if name.casefold() in names:
        raise OutputError(
            expected=f"a new name for {_article(kind)}",
            got=f"{name!r}, which is taken",
            remedy="Choose another one with --name, or remove the old one first.",
        )
    return home / name


def write_notes(name: str, notes: str) -> AdapterManifest:
    """Replace the user's notes about an adapter.

    Raises
    ------
    ModelError
        If it is unknown or damaged.
    OutputError
        If it can't be written.
    """
    entry = find_entry(name, "adapter")
    manifest = dataclasses.replace(read_adapter_manifest(entry.folder), notes=notes)
    with replacing(entry.folder / adapters.MANIFEST_FILE) as temporary:
        temporary.write_bytes(manifest.as_json())
    return manifest


def remove(name: str, kind: Kind | None = None) -> Entry:
    """Delete a checkpoint or an adapter of the user's for good.

    Raises
    ------
    ModelError
        If it is unknown, bundled, in use, or adapters need it.
    OutputError
        If its files can't be deleted.
    """
    entry = find_entry(name, kind)
    homes = (user_models_folder().resolve(), adapters_folder().resolve())
    if entry.folder.resolve().parent not in homes:
        raise _not_removed(name, "one of your own", "comes with DINOmask or lies elsewhere")
    if entry.state == "in use":
        raise _not_removed(name, "one that is not in use", "is in use; roll it back first")
    needing = _adapters_of(entry)
    if needing:
        raise _not_removed(name, "one without adapters", f"is needed by {', '.join(needing)}")
    # out of sight at one stroke, so that no half of it is ever found
    away = entry.folder.with_name(f".{entry.folder.name}.removed")
    try:
        shutil.rmtree(away, ignore_errors=True)
        entry.folder.rename(away)
        shutil.rmtree(away)
    except OSError as error:
        raise output_error(entry.folder, error) from error
    return entry


def merge(name: str, new_name: str) -> Manifest:
    """Make a checkpoint of its own from an adapter and its base.

    Checkpoints hold half precision, so scores can differ in the fourth digit from
    those of the adapter on its base.

    Parameters
    ----------
    name : of the adapter
    new_name : of the checkpoint

    Raises
    ------
    ModelError
        If adapter or base are unknown or damaged.
    OutputError
        If there is a checkpoint of that name, or it can't be written.
    """
    from dinomask.nets.adapters import put_on
    from dinomask.nets.zoo import load_model, save_checkpoint

    entry = find_entry(name, "adapter")
    folder = place_for("model", new_name)
    model, base = load_model(find_base(read_adapter_manifest(entry.folder)))
    merged, adapter = put_on(model, base, entry.folder)
    threshold = base.score_threshold if adapter.score_threshold is None else adapter.score_threshold
    about = {
        "base": {"name": base.name, "sha256": base.weights_sha256},
        "adapter": {"name": adapter.name, "sha256": adapter.tensors_sha256},
        "provenance": adapter.provenance,
    }
    manifest = Manifest(
        new_name,
        merged.config,
        score_threshold=threshold,
        trained_on=base.trained_on,
        training=about,
        licence=base.licence,
    )
    return save_checkpoint(folder, merged.state_dict(), manifest)


def holds(kind: Kind, folder: Path) -> bool:
    """Tell whether a folder looks like that of a checkpoint, or of an adapter."""
    return (folder / FILES[kind][0]).is_file()


def _entry(
    kind: Kind, name: str, folder: Path, states: Mapping[str, tuple[str, str]] | None = None
) -> Entry:
    manifest: Manifest | AdapterManifest | None = None
    state, reason = "", ""
    try:
        if kind == "model":
            manifest = read_manifest(folder)
            state = "bundled" if folder.parent == BUNDLED else ""
        else:
            manifest = read_adapter_manifest(folder)
            state, reason = (states or {}).get(name, ("", ""))
        missing = [f for f in _files(kind, manifest) if not (folder / f).is_file()]
        if missing:
            state, reason = "damaged", f"{missing[0]} is missing"
    except DinomaskError as error:
        state, reason = "damaged", error.got
    size = sum(p.stat().st_size for f in _files(kind, manifest) if (p := folder / f).is_file())
    return Entry(kind, name, folder, size / 1e6, manifest, state, reason)


def _files(kind: Kind, manifest: Manifest | AdapterManifest | None) -> tuple[str, ...]:
    about, tensors = FILES[kind]
    return (about, *manifest.files) if isinstance(manifest, Manifest) else (about, tensors)


def _adapters_of(entry: Entry) -> list[str]:
    if not isinstance(entry.manifest, Manifest):
        return []
    sha256 = entry.manifest.weights_sha256
    others = [e for e in list_shelf() if e.folder != entry.folder]
    if any(
        isinstance(e.manifest, Manifest) and e.manifest.weights_sha256 == sha256 for e in others
    ):
        return []
    return [
        e.name
        for e in others
        if isinstance(e.manifest, AdapterManifest) and e.manifest.base_sha256 == sha256
    ]


def _names_in(folder: Path) -> set[str]:
    return {p.name.casefold() for p in folder.iterdir()} if folder.is_dir() else set()


def _article(kind: Kind) -> str:
    return "an adapter" if kind == "adapter" else "a model"


def _not_removed(name: str, expected: str, got: str) -> ModelError:
    return ModelError(
        expected=f"{expected}, to remove",
        got=f"{name!r}, which {got}",
        remedy="Nothing was deleted.",
    )
