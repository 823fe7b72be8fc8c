"""The fast gradient sign method: the smallest change of an image that hurts a model most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from dinomask.errors import ModelError
from dinomask.nets.losses import Sampling
from dinomask.train.augment import finish_crop
from dinomask.train.crops import collate

if TYPE_CHECKING:
    from dinomask.instances import Array
    from dinomask.run.predictor import Predictor

TRUE_BOXES = 64
"""Objects a tile whose masks count in the loss."""


def fast_gradient_sign(
    predictor: Predictor, tiles: Array, labels: Array, step: float
) -> Array | None:
    """Move every pixel by a step in the direction that raises the training loss.

    x + ε · sign(∂L/∂x), L the sum of the model's own losses (Goodfellow et al. 2015,
    arXiv 1412.6572).

    Parameters
    ----------
    predictor : a model
    tiles : shape (N, 3, H, W), float32
    labels : shape (N, H, W); -1 unsupervised
    step : ε, in normalised intensity

    Returns
    -------
    shape (N, 3, H, W); None if the model has no gradients, as one that a backend runs
    """
    moved = []
    for tile, truth in zip(tiles, labels, strict=True):
        try:
            gradient = _gradient(predictor, tile, truth)
        except (ModelError, NotImplementedError, RuntimeError):
            return None
        if gradient is None or not gradient.any():
            return None
        moved.append(tile + np.float32(step) * np.sign(gradient))
    return np.stack(moved)


def _gradient(predictor: Predictor, tile: Array, truth: Array) -> Array | None:
    tiles, targets = collate([finish_crop(tile, truth.astype(np.int64))])
    pixels = tiles.to(predictor.device).requires_grad_()
    chance = [torch.Generator().manual_seed(0)]
    with torch.enable_grad():
        losses = predictor.model.losses(
            pixels,
            [t.to(predictor.device) for t in targets],
            Sampling(TRUE_BOXES, 0, chance=chance),
        )
        (gradient,) = torch.autograd.grad(
            torch.stack(list(losses.values())).sum(), pixels, allow_unused=True
        )
    return None if gradient is None else np.asarray(gradient[0].cpu())
