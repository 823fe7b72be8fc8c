"""Adapters: what a training changed of a checkpoint, saved apart and put on again.

``lora.*`` are LoRA's matrices, ``weight.*`` are all other weights that differ
from the checkpoint's, whole: base + (new − base) isn't new to the last bit in
floating point. So any way to fit makes an adapter, with LoRA or without.

Putting one on merges it. What a gate measures is then to the bit what loads,
if it measures `merge_tensors` of `rounded` tensors. Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from dinomask.errors import ModelError, OutputError, SettingsError
from dinomask.nets.adapter_manifest import (
    MANIFEST_FILE,
    TENSORS_FILE,
    AdapterManifest,
    adapters_folder,
    find_adapter,
    list_adapters,
    read_adapter_manifest,
    require_name,
)
from dinomask.nets.adapter_merge import LORA, WEIGHT, merge_tensors
from dinomask.nets.lora import BACKBONE_PREFIX
from dinomask.nets.packing import pack, unpack
from dinomask.nets.zoo import write_together

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from dinomask.nets.catalogue import Manifest
    from dinomask.nets.centermask import CenterMask

__all__ = [
    "LORA",
    "MANIFEST_FILE",
    "TENSORS_FILE",
    "WEIGHT",
    "AdapterManifest",
    "adapters_folder",
    "find_adapter",
    "learned_tensors",
    "list_adapters",
    "merge_tensors",
    "put_on",
    "read_adapter_manifest",
    "read_tensors",
    "require_base",
    "require_name",
    "rounded",
    "save_adapter",
    "touched_weights",
]


def learned_tensors(
    state: Mapping[str, Tensor], base_state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return what a fitted model's state has learned beyond its checkpoint.

    Parameters
    ----------
    state : of a model that `dinomask.train.fit.prepare_fit` prepared, such as its
        average over a training; with LoRA layers in or without
    base_state : of the plain model as loaded; heads may have fewer classes

    Returns
    -------
    copies on the CPU; empty if nothing was learned
    """
    learned: dict[str, Tensor] = {}
    for name, value in state.items():
        if ".lora_" in name:
            learned[LORA + name] = _copied(value)
            continue
        plain = name.replace(".base_layer.", ".")
        before = base_state.get(plain)
        if before is None or before.shape != value.shape:
            learned[WEIGHT + plain] = _copied(value)
        elif not torch.equal(before.cpu(), value.detach().cpu()):
            learned[WEIGHT + plain] = _copied(value)
    return learned


def rounded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as they are stored: backbone weights in half precision, others as they are.

    LoRA and heads are small and keep float32. Doing it twice changes nothing.
    """
    return {
        name: _half(value) if name.startswith(WEIGHT + BACKBONE_PREFIX) else _copied(value)
        for name, value in tensors.items()
    }


def save_adapter(
    folder: Path,
    tensors: Mapping[str, Tensor],
    manifest: AdapterManifest,
    *,
    overwrite: bool = False,
) -> AdapterManifest:
    """Write an adapter, both files or neither.

    Parameters
    ----------
    tensors : from `learned_tensors`; stored as `rounded`
    manifest : its hash of the tensors is filled in

    Returns
    -------
    the manifest as written

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
    stored = rounded(tensors)
    payload = save(pack(stored, int8=[n for n in stored if manifest.int8 and n.startswith(LORA)]))
    sha256 = hashlib.sha256(payload).hexdigest()
    manifest = dataclasses.replace(manifest, tensors_sha256=sha256)
    write_together({folder / TENSORS_FILE: payload, folder / MANIFEST_FILE: manifest.as_json()})
    return manifest


def read_tensors(folder: Path, manifest: AdapterManifest) -> dict[str, Tensor]:
    """Return an adapter's tensors, checked against the hash.

    Raises
    ------
    ModelError
        If they are missing or damaged.
    """
    path = folder / TENSORS_FILE
    try:
        payload = path.read_bytes()
        if hashlib.sha256(payload).hexdigest() == manifest.tensors_sha256:
            tensors = unpack(load(payload))
            if manifest.format > 1:
                return tensors
            return {_renamed(name): value for name, value in tensors.items()}
        got = "another hash"
    except (OSError, SafetensorError) as error:
        got = str(error)
    raise ModelError(
        expected=f"tensors with the hash {manifest.tensors_sha256[:12]}… of the manifest",
        got=f"{path}: {got}",
        remedy="Get the adapter again from where it came; it is damaged or was exchanged.",
    )


def touched_weights(folder: Path) -> set[str]:
    """Return the names of the plain model's weights that an adapter changes.

    Raises
    ------
    ModelError
        If it is missing or damaged.
    """
    names = read_tensors(folder, read_adapter_manifest(folder))
    plain = {name.removeprefix(WEIGHT) for name in names if name.startswith(WEIGHT)}
    lora = {name.removeprefix(LORA) for name in names if name.startswith(LORA)}
    return plain | {f"{name.partition('.lora_')[0]}.weight" for name in lora}


def require_base(manifest: AdapterManifest, base: Manifest) -> None:
    """Refuse a checkpoint that an adapter was not learned on.

    Raises
    ------
    ModelError
        If the hashes differ.
    """
    if manifest.base_sha256 != base.weights_sha256:
        raise ModelError(
            expected=f"the checkpoint {manifest.base!r} with the hash"
            f" {manifest.base_sha256[:12]}…, for the adapter {manifest.name!r}",
            got=f"{base.name!r} with the hash {base.weights_sha256[:12]}…",
            remedy="Choose the model that the adapter was taught on, or teach it on this one.",
        )


def put_on(model: CenterMask, base: Manifest, folder: Path) -> tuple[CenterMask, AdapterManifest]:
    """Merge a saved adapter into the checkpoint that it was learned on.

    Parameters
    ----------
    model : as loaded from the checkpoint; used up, but left as it was if the
        adapter doesn't fit
    base : the checkpoint's manifest
    folder : of the adapter

    Returns
    -------
    the plain, merged model in evaluation mode, and the adapter's manifest

    Raises
    ------
    ModelError
        If the adapter belongs to another checkpoint, or is damaged.
    """
    manifest = read_adapter_manifest(folder)
    require_base(manifest, base)
    tensors = read_tensors(folder, manifest)
    try:
        merged = merge_tensors(model, manifest.fit, tensors, manifest.class_names)
    except SettingsError as error:
        raise ModelError(
            expected=error.expected,
            got=f"{folder / TENSORS_FILE}: {error.got}",
            remedy="Use the two files that were written together.",
        ) from error
    return merged.eval(), manifest


def _renamed(name: str) -> str:
    """Return a tensor's name for that of format 1."""
    return WEIGHT + name.removeprefix("head.") if name.startswith("head.") else name


def _copied(value: Tensor) -> Tensor:
    return value.detach().cpu().clone().contiguous()


def _half(value: Tensor) -> Tensor:
    value = _copied(value)
    if value.dtype != torch.float32:
        return value
    half = value.half()
    # variances of a batch norm can lie beyond the range of half precision
    return half if torch.isfinite(half).all() else value
