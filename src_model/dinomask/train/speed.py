"""How a training uses the machine: precision, attention, and memory against time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dinomask.errors import ModelError
from dinomask.nets.precision import uses_bf16

if TYPE_CHECKING:
    from dinomask.config import TrainConfig
    from dinomask.nets.centermask import CenterMask


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Return the precision of the network's arithmetic; losses are always in float32."""
    enabled = uses_bf16(config.precision, device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def prepare_speed(model: CenterMask, config: TrainConfig, device: torch.device) -> None:
    """Choose how the backbone computes in a training, in place.

    Raises
    ------
    ModelError
        If activations shall not be kept and the backbone can't compute them again.
    """
    if device.type == "cpu":
        # the gradient of the fused kernel takes three times that of plain products there
        for module in model.backbone.modules():
            if getattr(module, "fused_attn", False):
                module.fused_attn = False  # type: ignore[assignment]
    if not config.checkpoint_gradients:
        return
    parts = [m for m in model.backbone.modules() if hasattr(m, "set_grad_checkpointing")]
    if not parts:
        raise ModelError(
            expected="a backbone that can compute activations a second time",
            got=model.config.backbone,
            remedy="Leave out checkpoint_gradients, or take a smaller batch.",
        )
    for part in parts:
        part.set_grad_checkpointing(True)  # type: ignore[operator]
