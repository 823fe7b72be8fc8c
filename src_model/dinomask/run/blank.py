"""Tiles too even to hold an object, told apart without the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dinomask.instances import Array
    from dinomask.tiles.plan import Tile, TilePlan

BLOCK_PX = 4
"""Side of the blocks that are averaged, in model pixels. An object of 8 px, the smallest
that the model knows, covers at least one of them; white noise sinks to a quarter."""

CONTRAST_FLOOR = 0.004
"""Smallest difference of two blocks' means, in normalised units, that may be an object: a
step of an 8-bit image that uses its whole range. To nuclei of twice this contrast, brighter or
darker than a noiseless background, the bundled model gives no answer of any score; it reports
them from four times on. Noise of a camera mostly lies above the floor, so what is skipped is
padding, saturated glass and the like: a needless look costs less than a lost cell."""


def is_blank(plan: TilePlan, tile: Tile, tile_cyx: Array) -> bool:
    """Tell whether a tile is too even to hold an object.

    Parameters
    ----------
    plan, tile : where it lies; what overhangs the image is left out
    tile_cyx : shape (3, H, W), or (1, H, W) of grey, float32, normalised
    """
    top, left, bottom, right = tile.read_yxyx_px
    height, width = plan.shape_scaled_yx
    inside = tile_cyx[:, max(-top, 0) : height - top, max(-left, 0) : width - left]
    return block_contrast(inside[:, : bottom - top, : right - left]) < CONTRAST_FLOOR


def block_contrast(image_cyx: Array) -> float:
    """Return the largest difference, within one channel, of the means of two blocks.

    Parameters
    ----------
    image_cyx : shape (C, Y, X), at least one pixel
    """
    spare = [(0, 0)] + [(0, -n % BLOCK_PX) for n in image_cyx.shape[1:]]
    whole = np.pad(image_cyx, spare, mode="edge")
    n_channels, height, width = whole.shape
    blocks = whole.reshape(n_channels, height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
    means = blocks.mean(axis=(2, 4), dtype=np.float64)
    return float(np.ptp(means, axis=(1, 2)).max())
