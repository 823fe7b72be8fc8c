"""A small model with an adapter that learned a little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dinomask.nets.lora import Adapter, attach
from dinomask.nets.losses import Sampling
from tests.nets.small import discs, small_model

if TYPE_CHECKING:
    from torch import Tensor

    from dinomask.config import LoraSettings
    from dinomask.nets.centermask import CenterMask


def output(model: CenterMask, tiles: Tensor) -> Tensor:
    """Everything the model says about a tile, as one vector."""
    model.eval()
    with torch.no_grad():
        pyramid = model.features(tiles)
        dense = model.dense(pyramid)
        _, logits, iou = model.masks(pyramid, [torch.tensor([[5.0, 5, 40, 40]])])
    parts = (dense.class_logits, dense.distances_px, dense.centerness_logits, logits, iou)
    return torch.cat([part.flatten() for part in parts])


def teach(model: CenterMask, steps: int = 3) -> None:
    """Train whatever is trainable."""
    learning = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-2)
    scene, target = discs([(18, 20), (38, 36)], 8, 56)
    torch.manual_seed(1)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        sum(model.losses(scene, [target], Sampling(4, 0)).values()).backward()
        optimiser.step()


def taught(settings: LoraSettings | None = None) -> tuple[CenterMask, Adapter]:
    model = small_model()
    adapter = attach(model, settings)
    teach(model)
    return model, adapter
