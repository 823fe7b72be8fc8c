"""PyTorch as it is: runs checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dinomask.nets.backends.run_on import Running, RunOn, choose_device
from dinomask.nets.zoo import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.nets.catalogue import Manifest
    from dinomask.nets.centermask import CenterMask


def load(folder: Path, wanted: RunOn) -> tuple[Running, Manifest]:
    """Load a checkpoint, see `dinomask.nets.backends.load_network`."""
    device = choose_device(wanted.device)
    torch.set_num_threads(wanted.threads)
    model, manifest = load_model(str(folder))
    return Running(placed(model, device), device, wanted.dtype(manifest, device)), manifest


def placed(model: CenterMask, device: torch.device) -> CenterMask:
    """Return a model on a device, its convolutions in the layout that is faster."""
    return model.to(device).to(memory_format=torch.channels_last)
