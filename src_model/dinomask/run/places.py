"""Where in an image it is worth to look."""

from __future__ import annotations

import contextlib
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dinomask.config.model import PATCH_PX
from dinomask.config.segment import MIN_TILE_PX
from dinomask.errors import ChunkError
from dinomask.image.resample import scaled_length

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image

Array = npt.NDArray[Any]

CROP_PX = 168
"""Side of the crops, in model pixels, where the image is that large."""


def busy_points(image: Image, normaliser: Normaliser, n_grid: int = 8, block_px: int = 64) -> Array:
    """Rank places of an image by how much there is to see.

    Blocks on an even grid are compared by the standard deviation of their
    normalised intensities; those that can't be read are passed over.

    Returns
    -------
    shape (N, 2), y and x of block centres in image pixels, busiest first
    """
    found = list(_blocks(image, normaliser, n_grid, block_px))
    points = np.array([point for point, _ in found]).reshape(-1, 2)
    return points[np.argsort([-contrast for _, contrast in found], kind="stable")]


def activity(image: Image, normaliser: Normaliser) -> float:
    """Return how much there is to see: the highest contrast of a block, as in `busy_points`."""
    blocks = _blocks(image, normaliser, n_grid=4, block_px=64)
    return max((contrast for _, contrast in blocks), default=0.0)


def _blocks(
    image: Image, normaliser: Normaliser, n_grid: int, block_px: int
) -> Iterator[tuple[tuple[float, float], float]]:
    """Yield centre and standard deviation of blocks on an even grid."""
    height, width = image.shape_yx
    tops = np.unique(np.linspace(0, max(height - block_px, 0), n_grid).astype(int))
    lefts = np.unique(np.linspace(0, max(width - block_px, 0), n_grid).astype(int))
    for y, x in itertools.product(tops.tolist(), lefts.tolist()):
        window = (y, x, min(y + block_px, height), min(x + block_px, width))
        with contextlib.suppress(ChunkError):
            contrast = float(normaliser.apply(image.read(window)).std())
            yield ((window[0] + window[2]) / 2, (window[1] + window[3]) / 2), contrast


def crop_windows(
    shape_yx: tuple[int, int], points_yx_px: Array, scale: float, n: int
) -> list[tuple[int, int, int, int]]:
    """Place up to n crops on the busiest points, without repeating a place.

    Returns
    -------
    half-open square windows in scaled pixels, of side `CROP_PX` or, where the
    image is smaller, the least multiple of 14 from `MIN_TILE_PX` that shows all of it
    """
    size = [scaled_length(length, scale) for length in shape_yx]
    side = min(CROP_PX, max(MIN_TILE_PX, math.ceil(max(size) / PATCH_PX) * PATCH_PX))
    windows: list[tuple[int, int, int, int]] = []
    for point in points_yx_px:
        start = []
        for axis in range(2):
            first = round(float(point[axis]) * scale - side / 2)
            spare = size[axis] - side
            start.append(min(max(first, 0), spare) if spare > 0 else 0)
        window = (start[0], start[1], start[0] + side, start[1] + side)
        far = all(abs(window[0] - w[0]) + abs(window[1] - w[1]) >= side // 2 for w in windows)
        if far:
            windows.append(window)
        if len(windows) == n:
            break
    return windows
