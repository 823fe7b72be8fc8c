"""Weights of the artefacts that PyTorch itself runs, in one file beside the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from dinomask.nets.centermask import CenterMask
from dinomask.nets.zoo import WEIGHTS_FILE, load_weights

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.nets.catalogue import Manifest


def build(folder: Path, manifest: Manifest) -> CenterMask:
    """Build the model of an artefact and load its weights, in evaluation mode.

    Raises
    ------
    ModelError
        If they don't fit the architecture.
    """
    model = CenterMask(manifest.architecture)
    load_weights(model, folder / WEIGHTS_FILE)
    return model.eval()


def linear_weights(model: nn.Module) -> list[str]:
    """Return the names of the weights of linear layers, which 8 bits are for."""
    return [
        f"{name}.weight" for name, layer in model.named_modules() if isinstance(layer, nn.Linear)
    ]
