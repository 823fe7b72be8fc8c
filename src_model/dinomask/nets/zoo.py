"""The weights of checkpoints: load them with their model, save them with their hash.

Nothing is ever unpickled. Weights are stored in half precision and carry their
hash, so a damaged or exchanged file is noticed before it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

import dinomask
from dinomask.errors import ModelError, OutputError
from dinomask.nets.artefact import source_title
from dinomask.nets.catalogue import (
    BUNDLED,
    FORMAT,
    MANIFEST_FILE,
    Manifest,
    find_model,
    list_models,
    read_manifest,
    user_models_folder,
)
from dinomask.nets.centermask import CenterMask
from dinomask.nets.packing import pack, unpack
from dinomask.nets.reshape import with_shared, without_shared

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.nets.network import Network

__all__ = [
    "BUNDLED",
    "FORMAT",
    "MANIFEST_FILE",
    "WEIGHTS_FILE",
    "Manifest",
    "file_sha256",
    "find_model",
    "list_models",
    "load_model",
    "load_weights",
    "manifest_bytes",
    "read_manifest",
    "require_torch",
    "save_checkpoint",
    "user_models_folder",
    "write_atomically",
    "write_together",
]

WEIGHTS_FILE = "model.safetensors"


def load_model(name: str) -> tuple[CenterMask, Manifest]:
    """Build a model and load its weights, in evaluation mode, on the CPU.

    Parameters
    ----------
    name : see `find_model`

    Raises
    ------
    ModelError
        If the model is unknown, its weights don't have the manifest's hash, they
        don't fit its architecture, or it is the artefact of a backend.
    """
    folder = find_model(name)
    manifest = read_manifest(folder)
    if manifest.backend is not None:
        raise _needs_torch(manifest)
    path = folder / WEIGHTS_FILE
    if not path.is_file() or file_sha256(path) != manifest.weights_sha256:
        raise ModelError(
            expected=f"weights with the hash {manifest.weights_sha256[:12]}… of the manifest",
            got=f"{path} {'of another hash' if path.is_file() else 'missing'}",
            remedy="Copy the whole checkpoint folder again, or reinstall.",
        )
    model = CenterMask(manifest.architecture)
    load_weights(model, path)
    return model.eval(), manifest


def require_torch(network: Network, manifest: Manifest) -> CenterMask:
    """Return a network as the PyTorch model that it is.

    Raises
    ------
    ModelError
        If a backend runs it; the message names the checkpoint it was made of.
    """
    if not isinstance(network, CenterMask):
        raise _needs_torch(manifest)
    return network


def _needs_torch(manifest: Manifest) -> ModelError:
    info = manifest.backend
    kind = "another backend" if info is None else info.title
    source = "its source" if info is None else source_title(info)
    return ModelError(
        expected="a PyTorch checkpoint, whose layers and gradients this needs",
        got=f"{manifest.name!r}, made for {kind}",
        remedy=f"Use {source}, of which it was made.",
    )


def load_weights(model: CenterMask, path: Path) -> None:
    """Load a weights file into a model of the same architecture.

    Raises
    ------
    ModelError
        If the file is damaged or of another architecture.
    """
    try:
        state = {k: v.float() for k, v in unpack(load_file(path)).items()}
        model.load_state_dict(with_shared(state, model.state_dict(), model.config.shape))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            expected="weights that fit the model's architecture",
            got=f"{path}: {str(error).splitlines()[-1].strip()}",
            remedy="Use the weights and manifest that were written together.",
        ) from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(folder: Path, state: dict[str, torch.Tensor], manifest: Manifest) -> Manifest:
    """Write weights in half precision and the manifest, both or neither.

    Only a crash between the two renames can part them; that leaves a hash that
    doesn't fit, which `load_model` reports, and never a wrong result.

    Returns
    -------
    the manifest with the weights' hash
    """
    state = without_shared(state, manifest.architecture.shape)
    stored = pack({k: _compact(v) for k, v in state.items()})
    payload = save(stored, metadata={"format": "pt"})
    manifest = dataclasses.replace(
        manifest,
        weights_sha256=hashlib.sha256(payload).hexdigest(),
        # written anew, whatever it was made of
        dinomask_version=dinomask.__version__,
        format=FORMAT,
    )
    write_together(
        {folder / WEIGHTS_FILE: payload, folder / MANIFEST_FILE: manifest_bytes(manifest)}
    )
    return manifest


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the content of a manifest's file."""
    return (json.dumps(dataclasses.asdict(manifest), indent=2) + "\n").encode()


def _compact(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    half = value.half()
    # variances of a batch norm can lie beyond the range of half precision
    return half if torch.isfinite(half).all() else value


def write_atomically(path: Path, payload: bytes) -> None:
    """Write a file so that either the old or the new content is there.

    Raises
    ------
    OutputError
        If the disk is full or the folder can't be written.
    """
    write_together({path: payload})


def write_together(payloads: dict[Path, bytes]) -> None:
    """Write files of one folder; none is replaced before all are safely on disk.

    Raises
    ------
    OutputError
        If the disk is full or the folder can't be written.
    """
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in payloads}
    path = next(iter(payloads))
    try:
        for path, payload in payloads.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporaries[path].open("wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except OSError as error:
        raise OutputError(
            expected=f"to write {path}",
            got=error.strerror or str(error),
            remedy="Free some space or choose a folder you may write to; the old file is intact.",
        ) from error
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
