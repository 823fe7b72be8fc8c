"""Resampling on one global grid, so that tiles cut anywhere agree to the bit.

Scaled pixel ``j`` covers the image interval ``[j / scale, (j + 1) / scale)``.
The filter is a triangle as wide as the larger of the two pixels: bilinear
interpolation when enlarging, an antialiased average when reducing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image

Array = npt.NDArray[Any]
Window = tuple[int, int, int, int]

PAD_VALUE = 0.5
"""What the network sees outside the image: mid grey, close to the mean of its input."""


def scaled_length(n_px: int, scale: float) -> int:
    """Return how many scaled pixels an axis of `n_px` pixels has, at least 1."""
    # rounded first: 1000 * 0.07 is 70.00000000000001 and must not become 71
    return max(1, math.ceil(round(n_px * scale, 6)))


def source_range(start: int, stop: int, scale: float, n_px: int) -> tuple[int, int]:
    """Return the half-open range of pixels that the scaled pixels start…stop need."""
    support = max(1.0, 1.0 / scale)
    first = math.floor((start + 0.5) / scale - 0.5 - support)
    last = math.ceil((stop - 0.5) / scale - 0.5 + support)
    return max(0, min(first, n_px - 1)), min(n_px, max(last + 1, 1))


def _resample_axis(
    image: Array, axis: int, start: int, stop: int, scale: float, first_px: int, n_px: int
) -> Array:
    support = max(1.0, 1.0 / scale)
    centre = (np.arange(start, stop) + 0.5) / scale - 0.5
    low = np.ceil(centre - support).astype(np.int64)
    taps = math.floor(2 * support) + 1
    moved = np.moveaxis(image, axis, 0)
    out = np.zeros((stop - start, *moved.shape[1:]), np.float32)
    total = np.zeros(stop - start, np.float64)
    weights = []
    for k in range(taps):
        index = low + k
        weight = np.clip(1.0 - np.abs(index - centre) / support, 0.0, None)
        weight[(index < 0) | (index >= n_px)] = 0.0
        total += weight
        weights.append((index, weight))
    total[total == 0] = 1.0
    for index, weight in weights:
        rows = np.clip(index - first_px, 0, len(moved) - 1)
        share = (weight / total).astype(np.float32).reshape(-1, *[1] * (moved.ndim - 1))
        out += share * moved[rows]
    return np.moveaxis(out, 0, axis)


def resample_window(
    image_cyx: Array,
    origin_yx_px: tuple[int, int],
    shape_yx: tuple[int, int],
    scale_yx: tuple[float, float],
    window_yxyx: Window,
) -> Array:
    """Resample to a window of the scaled image.

    Parameters
    ----------
    image_cyx : shape (C, y, x), a piece of the image that holds at least the
        ranges given by `source_range`
    origin_yx_px : where that piece begins in the image
    shape_yx : of the whole image, in pixels
    scale_yx : scaled pixels a pixel along y and x
    window_yxyx : half-open, in scaled pixels, within the scaled image

    Returns
    -------
    shape (C, h, w), float32
    """
    y0, x0, y1, x1 = window_yxyx
    rows = _resample_axis(image_cyx, 1, y0, y1, scale_yx[0], origin_yx_px[0], shape_yx[0])
    return _resample_axis(rows, 2, x0, x1, scale_yx[1], origin_yx_px[1], shape_yx[1])


def clip_window(window_yxyx: Window, shape_yx: tuple[int, int]) -> Window:
    """Return the part of a window that lies in an image; may be empty."""
    y0, x0, y1, x1 = window_yxyx
    top, left = min(max(y0, 0), shape_yx[0]), min(max(x0, 0), shape_yx[1])
    return top, left, max(top, min(y1, shape_yx[0])), max(left, min(x1, shape_yx[1]))


def read_scaled(image: Image, normaliser: Normaliser, scale: float, window_yxyx: Window) -> Array:
    """Read, normalise and resample a window that may overhang the image.

    Parameters
    ----------
    image : read at the coarsest level that is at least as fine as `scale`
    normaliser : fitted on this image
    scale : scaled pixels a pixel of level 0
    window_yxyx : half-open, in scaled pixels

    Returns
    -------
    shape (3, h, w), float32; `PAD_VALUE` outside the image
    """
    y0, x0, y1, x1 = window_yxyx
    out = np.full((3, y1 - y0, x1 - x0), PAD_VALUE, np.float32)
    height, width = (scaled_length(n, scale) for n in image.shape_yx)
    inner = clip_window(window_yxyx, (height, width))
    if inner[0] == inner[2] or inner[1] == inner[3]:
        return out
    level = image.level_for(scale)
    level_y, level_x = image.level_scale_yx(level)
    scale_y, scale_x = scale / level_y, scale / level_x
    n_y, n_x = image.level_shape_yx(level)
    top, bottom = source_range(inner[0], inner[2], scale_y, n_y)
    left, right = source_range(inner[1], inner[3], scale_x, n_x)
    piece = normaliser.apply(image.read((top, left, bottom, right), level))
    if not normaliser.is_rgb:
        # the channels of grey are alike
        piece = piece[:1]
    sampled = resample_window(piece, (top, left), (n_y, n_x), (scale_y, scale_x), inner)
    out[:, inner[0] - y0 : inner[2] - y0, inner[1] - x0 : inner[3] - x0] = sampled
    return out
