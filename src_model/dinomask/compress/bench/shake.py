"""Changes of a tile that a model should bear: what a worse day at the microscope does to it.

All are on normalised tiles, in which objects and background differ by about 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinomask.image.resample import PAD_VALUE
from dinomask.instances import UNSUPERVISED

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.instances import Array

    Shake = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]

NOISE_SIGMA = 0.1
BLUR_SIGMA_PX = 1.5
GAIN = 1.4
ANGLE_DEG = 30.0
MASKED_SHARE = 0.1
MASKED_PX = 28
FGSM_STEP = 0.03
"""Every pixel moves by so much, in the direction that raises the loss most (fast gradient sign,
Goodfellow et al. 2015, arXiv 1412.6572)."""


def noise(tile: Array, labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Add Gaussian noise."""
    return tile + rng.normal(0, NOISE_SIGMA, tile.shape).astype(np.float32), labels


def blur(tile: Array, labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Put it out of focus."""
    return ndimage.gaussian_filter(tile, (0, BLUR_SIGMA_PX, BLUR_SIGMA_PX)), labels


def brightness(tile: Array, labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Make it brighter and richer in contrast."""
    return tile * np.float32(GAIN), labels


def rotation(tile: Array, labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Turn it; nothing is known of what comes into its corners."""
    turned = ndimage.rotate(tile, ANGLE_DEG, axes=(2, 1), reshape=False, order=1, cval=PAD_VALUE)
    truth = ndimage.rotate(labels, ANGLE_DEG, (1, 0), reshape=False, order=0, cval=UNSUPERVISED)
    return turned, truth


def masked(tile: Array, labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Blank out some squares."""
    grid = [-(-n // MASKED_PX) for n in labels.shape]
    blank = rng.random(grid) < MASKED_SHARE
    mask = np.kron(blank, np.ones((MASKED_PX, MASKED_PX), bool))
    hidden = mask[: labels.shape[0], : labels.shape[1]]
    return np.where(hidden, np.float32(PAD_VALUE), tile), labels


SHAKES: dict[str, Shake] = {
    "noise": noise,
    "blur": blur,
    "brightness": brightness,
    "rotation": rotation,
    "masked": masked,
}
"""By the name in tables; ``fgsm`` comes beside them, where a variant has gradients."""


def shake(kind: str, tiles: Array, labels: Array, seed: int = 0) -> tuple[Array, Array]:
    """Change tiles and, where they move, their labels.

    Parameters
    ----------
    kind : one of `SHAKES`, or ``clean`` for no change
    tiles : shape (N, 3, H, W), float32
    labels : shape (N, H, W)
    seed : of chance

    Returns
    -------
    arrays of the same shapes
    """
    if kind == "clean":
        return tiles, labels
    pairs = [
        SHAKES[kind](tile, truth, np.random.default_rng((seed, i)))
        for i, (tile, truth) in enumerate(zip(tiles, labels, strict=True))
    ]
    return (
        np.stack([tile for tile, _ in pairs]).astype(np.float32),
        np.stack([truth for _, truth in pairs]),
    )
