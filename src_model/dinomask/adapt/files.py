"""Adapters on disk: a folder with ``adapter.safetensors`` and ``adapter.json``.

Nothing is ever unpickled. The manifest holds the hash of the checkpoint that
the adapter was learned on, so that it is never put on another one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load, save

import dinomask
from dinomask.config import LoraSettings, as_dict
from dinomask.errors import ModelError, OutputError, SettingsError
from dinomask.nets.lora import Adapter, attach
from dinomask.nets.zoo import write_together

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from dinomask.nets.centermask import CenterMask
    from dinomask.nets.zoo import Manifest

TENSORS_FILE = "adapter.safetensors"
MANIFEST_FILE = "adapter.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class AdapterManifest:
    """What an adapter is and where it comes from."""

    name: str
    """Name of the adapter."""

    base: str
    """Name of the checkpoint it was learned on."""

    base_sha256: str
    """Hash of that checkpoint's weights."""

    settings: LoraSettings
    """Which layers it changes."""

    tensors_sha256: str = ""
    """Hash of the adapter's tensors."""

    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Images, corrections, settings and figures of the training, notes."""

    dinomask_version: str = dinomask.__version__
    """Version that wrote the adapter."""

    format: int = FORMAT
    """Version of this layout."""


def save_adapter(
    folder: Path,
    adapter: Adapter,
    base: Manifest,
    *,
    provenance: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> AdapterManifest:
    """Write an adapter, both files or neither; the folder's name is its name.

    Parameters
    ----------
    base : manifest of the checkpoint that the adapter sits on
    provenance : anything json can hold

    Raises
    ------
    OutputError
        If there is an adapter already and `overwrite` is off, or can't be written.
    """
    if (folder / MANIFEST_FILE).exists() and not overwrite:
        raise OutputError(
            expected="a folder without an adapter",
            got=f"{folder / MANIFEST_FILE}",
            remedy="Choose another name, or ask to overwrite it.",
        )
    payload = save({k: v.contiguous() for k, v in adapter.state().items()})
    manifest = AdapterManifest(
        folder.name,
        base.name,
        base.weights_sha256,
        adapter.settings,
        hashlib.sha256(payload).hexdigest(),
        provenance or {},
    )
    text = json.dumps(as_dict(manifest), indent=2) + "\n"
    write_together({folder / TENSORS_FILE: payload, folder / MANIFEST_FILE: text.encode()})
    return manifest


def read_adapter_manifest(folder: Path) -> AdapterManifest:
    """Read an adapter's manifest.

    Raises
    ------
    ModelError
        If it is missing, damaged, or of a later version.
    """
    path = folder / MANIFEST_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        _require_known_format(int(raw["format"]), path)
        settings = raw["settings"]
        for name in ("blocks", "targets"):
            settings[name] = None if settings[name] is None else tuple(settings[name])
        settings["block_ranks"] = tuple((int(b), int(r)) for b, r in settings["block_ranks"])
        raw["settings"] = LoraSettings(**settings)
        return AdapterManifest(**raw)
    except (OSError, ValueError, KeyError, TypeError, SettingsError) as error:
        raise ModelError(
            expected="an adapter.json of DINOmask",
            got=f"{path}: {error}",
            remedy="Choose the folder of an adapter, or get it again from where it came.",
        ) from error


def load_adapter(folder: Path, model: CenterMask, base: Manifest) -> Adapter:
    """Put a saved adapter on the checkpoint that it was learned on.

    Parameters
    ----------
    model : as loaded from the checkpoint, without an adapter; changed in place,
        and left as it was if the adapter doesn't fit
    base : the checkpoint's manifest

    Raises
    ------
    ModelError
        If the adapter belongs to another checkpoint, or is damaged.
    """
    manifest = read_adapter_manifest(folder)
    if manifest.base_sha256 != base.weights_sha256:
        raise ModelError(
            expected=f"the checkpoint {manifest.base!r} with the hash {manifest.base_sha256[:12]}…",
            got=f"{base.name!r} with the hash {base.weights_sha256[:12]}…",
            remedy="Choose the model that the adapter was taught on, or teach it on this one.",
        )
    tensors = _read_tensors(folder / TENSORS_FILE, manifest.tensors_sha256)
    adapter = attach(model, manifest.settings)
    try:
        adapter.load_state(tensors)
    except SettingsError as error:
        adapter.detach()
        raise ModelError(
            expected=error.expected,
            got=f"{folder / TENSORS_FILE}: {error.got}",
            remedy="Use the two files that were written together.",
        ) from error
    return adapter


def _read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    try:
        payload = path.read_bytes()
        if hashlib.sha256(payload).hexdigest() == sha256:
            return load(payload)
        got = "another hash"
    except (OSError, SafetensorError) as error:
        got = str(error)
    raise ModelError(
        expected=f"tensors with the hash {sha256[:12]}… of the manifest",
        got=f"{path}: {got}",
        remedy="Get the adapter again from where it came; it is damaged or was exchanged.",
    )


def _require_known_format(written_as: int, path: Path) -> None:
    if written_as > FORMAT:
        raise ModelError(
            expected=f"an adapter of format {FORMAT} or older",
            got=f"format {written_as} in {path}",
            remedy="Update DINOmask.",
        )
