"""Shelves to try things on: a folder of models and adapters that a test owns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dinomask.config import FitConfig
from dinomask.nets.adapter_manifest import AdapterManifest, adapters_folder
from dinomask.nets.adapters import save_adapter
from dinomask.nets.catalogue import BUNDLED, read_manifest

if TYPE_CHECKING:
    from pathlib import Path


def tiny_sha256() -> str:
    return read_manifest(BUNDLED / "tiny").weights_sha256


def put_adapter(name: str, shift: float = 1.0, folder: Path | None = None, **about: Any) -> Path:
    """Save an adapter that shifts the logits of the masks of `tiny`; by name, or elsewhere."""
    folder = folder or adapters_folder() / name
    about = {"base": "tiny", "base_sha256": tiny_sha256(), "fit": FitConfig("frozen")} | about
    tensors = {"weight.mask.out.bias": torch.tensor([shift])}
    save_adapter(folder, tensors, AdapterManifest(name, **about))
    return folder
