"""Cut an image of any size into tiles: computed one at a time, never listed."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from dinomask.config.model import SIDE_STEP_PX
from dinomask.config.segment import MIN_TILE_PX
from dinomask.errors import InputError, SettingsError
from dinomask.tiles.sight import owned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.config import TileConfig
    from dinomask.instances import Array

__all__ = ["Box", "Tile", "TilePlan", "owned", "plan_tiles"]

Box = tuple[int, int, int, int]
"""y0, x0, y1, x1 in whole pixels, half-open."""


@dataclasses.dataclass(frozen=True)
class Tile:
    """One piece of an image, with all that is needed to put its result back.

    Attributes
    ----------
    index : number in row-major order, from 0
    core_yxyx_px : what the tile owns, in scaled pixels
    read_yxyx_px : what the network sees, in scaled pixels; of `TilePlan.tile_yx_px`, so it
        may overhang an image that is smaller
    """

    index: int
    core_yxyx_px: Box
    read_yxyx_px: Box


@dataclasses.dataclass(frozen=True)
class TilePlan:
    """The tiles of one image; `plan[i]` computes the i-th.

    Scaled pixel j covers the image interval [j / scale, (j + 1) / scale).
    Cores partition the scaled image. Reads are spread evenly from edge to
    edge and cores end midway in their overlaps, so no tile is a sliver and
    every core has at least the configured halo, except at the image's edge.
    All tiles are of one size, no larger than what the image needs.

    Attributes
    ----------
    shape_yx : in image pixels
    scale : model pixels per image pixel
    config : longest tile side, halo and seam margin, in model pixels
    side_step_px : what sides of tiles are multiples of, as far as `TileConfig.tile_px` allows
    """

    shape_yx: tuple[int, int]
    scale: float
    config: TileConfig
    side_step_px: int = SIDE_STEP_PX

    def __post_init__(self) -> None:
        if len(self.shape_yx) != 2 or min(self.shape_yx) < 1:
            raise InputError(
                expected="an image of at least 1 x 1 pixel",
                got=f"shape {tuple(self.shape_yx)}",
                remedy="Choose an image or a region that has pixels.",
            )
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise SettingsError(
                expected="a scale above 0",
                got=f"{self.scale!r}",
                remedy="Give the objects' diameter in pixels, above 0.",
            )

    @property
    def shape_scaled_yx(self) -> tuple[int, int]:
        """Size of the resampled image, in scaled pixels."""
        return self._scaled(self.shape_yx[0]), self._scaled(self.shape_yx[1])

    @property
    def grid_yx(self) -> tuple[int, int]:
        """Number of tiles along y and x."""
        height, width = self.shape_scaled_yx
        return self._count(height), self._count(width)

    @property
    def tile_yx_px(self) -> tuple[int, int]:
        """Size of what the network sees of each tile: `tile_px`, or less where that will do."""
        height, width = self.shape_scaled_yx
        return self._side(height), self._side(width)

    def __len__(self) -> int:
        n_y, n_x = self.grid_yx
        return n_y * n_x

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            msg = f"tile {index} of a plan with {len(self)} tiles"
            raise IndexError(msg)
        row, column = divmod(index, self.grid_yx[1])
        height, width = self.shape_scaled_yx
        top, bottom, read_top = self._along(row, height)
        left, right, read_left = self._along(column, width)
        tall, wide = self.tile_yx_px
        return Tile(
            index=index,
            core_yxyx_px=(top, left, bottom, right),
            read_yxyx_px=(read_top, read_left, read_top + tall, read_left + wide),
        )

    def core_image_yxyx(self, tile: Tile) -> tuple[float, float, float, float]:
        """Return a tile's core in image pixels; neighbours share their border exactly."""
        y0, x0, y1, x1 = tile.core_yxyx_px
        return y0 / self.scale, x0 / self.scale, y1 / self.scale, x1 / self.scale

    def read_image_yxyx(self, tile: Tile) -> tuple[float, float, float, float]:
        """Return a tile's read region in image pixels."""
        y0, x0, y1, x1 = tile.read_yxyx_px
        return y0 / self.scale, x0 / self.scale, y1 / self.scale, x1 / self.scale

    def cores_image_yxyx(self, indices: Array) -> Array:
        """Return the cores of many tiles in image pixels, shape (N, 4), as `core_image_yxyx`."""
        top, bottom, left, right, _, _ = self._of_many(indices)
        return np.stack([top, left, bottom, right], axis=1) / self.scale

    def reads_image_yxyx(self, indices: Array) -> Array:
        """Return the read regions of many tiles in image pixels, shape (N, 4)."""
        _, _, _, _, top, left = self._of_many(indices)
        tall, wide = self.tile_yx_px
        return np.stack([top, left, top + tall, left + wide], axis=1) / self.scale

    def ends_image_yxyx(self, indices: Array) -> Array:
        """Return where the sight of many tiles ends within the image, shape (N, 4).

        The borders of their read regions in image pixels; -inf and inf where
        a read region goes up to the image's edge or beyond: there nothing is
        hidden from it.
        """
        ends = self.reads_image_yxyx(indices)
        _, _, _, _, top, left = self._of_many(indices)
        height, width = self.shape_scaled_yx
        tall, wide = self.tile_yx_px
        ends[top <= 0, 0], ends[left <= 0, 1] = -np.inf, -np.inf
        ends[top + tall >= height, 2], ends[left + wide >= width, 3] = np.inf, np.inf
        return ends

    def tiles_at(self, points_yx_px: Array) -> Array:
        """Return the tile whose core holds each point, shape (N,), int64.

        Parameters
        ----------
        points_yx_px : shape (N, 2), image pixels; those outside the image go
            to the nearest tile
        """
        scaled = np.asarray(points_yx_px, np.float64).reshape(-1, 2) * self.scale
        row, column = (
            self._holding(scaled[:, axis], self.shape_scaled_yx[axis]) for axis in (0, 1)
        )
        return np.asarray(row * self.grid_yx[1] + column, np.int64)

    def tiles_touching(self, window_yxyx_px: Box) -> Iterator[int]:
        """Yield the tiles whose cores share area with a window in image pixels, in order."""
        y0, x0, y1, x1 = window_yxyx_px
        if y1 <= y0 or x1 <= x0:
            return
        n_x = self.grid_yx[1]
        # the last point inside, as cores are half-open
        corners = np.nextafter(np.array([[y0, x0], [y1, x1]], np.float64), [[y0, x0], [-1, -1]])
        first, last = self.tiles_at(corners).tolist()
        for row in range(first // n_x, last // n_x + 1):
            for column in range(first % n_x, last % n_x + 1):
                yield row * n_x + column

    def _scaled(self, size_px: int) -> int:
        # rounded first: 1000 * 0.07 is 70.00000000000001 and must not become 71
        return max(1, math.ceil(round(size_px * self.scale, 6)))

    def _count(self, size: int) -> int:
        """Fewest tiles of which neighbours overlap by two halos."""
        tile, halo = self.config.tile_px, self.config.halo_px
        if size <= tile:
            return 1
        return 1 + -(-(size - tile) // (tile - 2 * halo))

    def _side(self, size: int) -> int:
        """Least side with which as many tiles overlap by two halos."""
        n = self._count(size)
        needed = math.ceil((size + 2 * self.config.halo_px * (n - 1)) / n)
        step = self.side_step_px
        side = max(MIN_TILE_PX, step * math.ceil(needed / step))
        return min(side, self.config.tile_px)

    def _start(self, i: int, n: int, size: int) -> int:
        """First scaled pixel read by the i-th of n tiles along an axis."""
        return 0 if n == 1 else i * (size - self._side(size)) // (n - 1)

    def _along(self, i: int, size: int) -> tuple[int, int, int]:
        """Core start, core end and read start of the i-th tile along an axis."""
        n, side = self._count(size), self._side(size)
        start = self._start(i, n, size)
        first = 0 if i == 0 else (self._start(i - 1, n, size) + side + start) // 2
        last = size if i == n - 1 else (start + side + self._start(i + 1, n, size)) // 2
        return first, last, start

    def _along_many(self, i: Array, size: int) -> tuple[Array, Array, Array]:
        """`_along` of many tiles."""
        n, side = self._count(size), self._side(size)
        before, start, after = (
            np.zeros_like(i) if n == 1 else (i + k) * (size - side) // (n - 1) for k in (-1, 0, 1)
        )
        first = np.where(i == 0, 0, (before + side + start) // 2)
        last = np.where(i == n - 1, size, (start + side + after) // 2)
        return first, last, start

    def _of_many(self, indices: Array) -> tuple[Array, ...]:
        """Core top, bottom, left and right, and read top and left, of many tiles."""
        rows, columns = np.divmod(np.asarray(indices, np.int64), self.grid_yx[1])
        top, bottom, read_top = self._along_many(rows, self.shape_scaled_yx[0])
        left, right, read_left = self._along_many(columns, self.shape_scaled_yx[1])
        return top, bottom, left, right, read_top, read_left

    def _holding(self, scaled: Array, size: int) -> Array:
        """Which tile along an axis has the core that holds a scaled coordinate."""
        n = self._count(size)
        guess = np.clip(scaled, 0, size - 1) / max(size, 1) * n
        i = np.clip(guess.astype(np.int64), 0, n - 1)
        # reads are spread evenly and cores nearly so: the guess is at most one or two off
        while True:
            first, last, _ = self._along_many(i, size)
            step = ((scaled >= last) & (i < n - 1)).astype(np.int64) - (
                (scaled < first) & (i > 0)
            ).astype(np.int64)
            if not step.any():
                return i
            i = i + step


def plan_tiles(
    shape_yx: tuple[int, int],
    scale: float,
    config: TileConfig,
    side_step_px: int = SIDE_STEP_PX,
) -> TilePlan:
    """Plan the tiles of an image.

    Parameters
    ----------
    shape_yx : in image pixels
    scale : model pixels per image pixel
    config : tile side, halo and seam margin, in model pixels
    side_step_px : what the network wants sides to be multiples of, see
        `dinomask.nets.network.Network.side_step_px`

    Raises
    ------
    InputError
        If the image has no pixels.
    SettingsError
        If the scale is not above 0.
    """
    return TilePlan((int(shape_yx[0]), int(shape_yx[1])), float(scale), config, side_step_px)
