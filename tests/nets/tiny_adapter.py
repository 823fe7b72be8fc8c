"""An adapter on the bundled model, without the time to teach one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dinomask.config import FitConfig, LoraSettings
from dinomask.nets.adapters import AdapterManifest, learned_tensors, save_adapter
from dinomask.nets.zoo import load_model
from dinomask.train.fit import prepare_fit

if TYPE_CHECKING:
    from pathlib import Path


def write_tiny_adapter(folder: Path, seed: int = 0, **about: Any) -> AdapterManifest:
    """Save an adapter that changes scores and masks of `tiny` a little."""
    return write_adapter(folder, "tiny", (10, 11), seed, **about)


def write_adapter(
    folder: Path, model: str, blocks: tuple[int, ...], seed: int = 0, **about: Any
) -> AdapterManifest:
    """Save an adapter that changes scores and masks of a model a little."""
    model, base = load_model(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fitting = prepare_fit(model, FitConfig("lora", lora=LoraSettings(rank=2, blocks=blocks)))
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=chance) * 0.01)
            elif name == "mask.out.bias":
                weight.add_(0.05)
    tensors = learned_tensors(model.state_dict(), before)
    manifest = AdapterManifest(folder.name, base.name, base.weights_sha256, fitting.config, **about)
    return save_adapter(folder, tensors, manifest)
