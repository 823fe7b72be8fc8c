"""Cut an image of any size into tiles: computed one at a time, never listed."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import InputError, SettingsError

if TYPE_CHECKING:
    from dinomask.config import TileConfig
    from dinomask.instances import Array, Instances

Box = tuple[int, int, int, int]
"""y0, x0, y1, x1 in whole pixels, half-open."""


@dataclasses.dataclass(frozen=True)
class Tile:
    """One piece of an image, with all that is needed to put its result back.

    Attributes
    ----------
    index : number in row-major order, from 0
    core_yxyx_px : what the tile owns, in scaled pixels
    read_yxyx_px : what the network sees, in scaled pixels; always a square of
        `tile_px`, so it may overhang an image that is smaller than a tile
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

    Attributes
    ----------
    shape_yx : in image pixels
    scale : model pixels per image pixel
    config : tile side, halo and seam margin, in model pixels
    """

    shape_yx: tuple[int, int]
    scale: float
    config: TileConfig

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
        side = self.config.tile_px
        return Tile(
            index=index,
            core_yxyx_px=(top, left, bottom, right),
            read_yxyx_px=(read_top, read_left, read_top + side, read_left + side),
        )

    def core_image_yxyx(self, tile: Tile) -> tuple[float, float, float, float]:
        """Return a tile's core in image pixels; neighbours share their border exactly."""
        y0, x0, y1, x1 = tile.core_yxyx_px
        return y0 / self.scale, x0 / self.scale, y1 / self.scale, x1 / self.scale

    def read_image_yxyx(self, tile: Tile) -> tuple[float, float, float, float]:
        """Return a tile's read region in image pixels."""
        y0, x0, y1, x1 = tile.read_yxyx_px
        return y0 / self.scale, x0 / self.scale, y1 / self.scale, x1 / self.scale

    def _scaled(self, size_px: int) -> int:
        # rounded first: 1000 * 0.07 is 70.00000000000001 and must not become 71
        return max(1, math.ceil(round(size_px * self.scale, 6)))

    def _count(self, size: int) -> int:
        """Fewest tiles of which neighbours overlap by two halos."""
        tile, halo = self.config.tile_px, self.config.halo_px
        if size <= tile:
            return 1
        return 1 + -(-(size - tile) // (tile - 2 * halo))

    def _start(self, i: int, n: int, size: int) -> int:
        """First scaled pixel read by the i-th of n tiles along an axis."""
        return 0 if n == 1 else i * (size - self.config.tile_px) // (n - 1)

    def _along(self, i: int, size: int) -> tuple[int, int, int]:
        """Core start, core end and read start of the i-th tile along an axis."""
        n, tile = self._count(size), self.config.tile_px
        start = self._start(i, n, size)
        first = 0 if i == 0 else (self._start(i - 1, n, size) + tile + start) // 2
        last = size if i == n - 1 else (start + tile + self._start(i + 1, n, size)) // 2
        return first, last, start


def plan_tiles(shape_yx: tuple[int, int], scale: float, config: TileConfig) -> TilePlan:
    """Plan the tiles of an image.

    Parameters
    ----------
    shape_yx : in image pixels
    scale : model pixels per image pixel
    config : tile side, halo and seam margin, in model pixels

    Raises
    ------
    InputError
        If the image has no pixels.
    SettingsError
        If the scale is not above 0.
    """
    return TilePlan((int(shape_yx[0]), int(shape_yx[1])), float(scale), config)


def owned(plan: TilePlan, tile: Tile, instances: Instances) -> Instances:
    """Keep the instances whose box centre lies in a tile's core or just beside it.

    Neighbouring tiles predict slightly different boxes, so a centre near a
    seam can fall outside both cores. Each tile therefore keeps what lies up to
    `seam_px` outside its core; `stitch` drops the doubles. At the image's edge
    the core has no end: an object cut by the edge may be centred beyond it.

    Parameters
    ----------
    plan, tile : the tile that was predicted
    instances : boxes in image pixels
    """
    boxes: Array = instances.boxes_yxyx_px.astype(np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    seam = plan.config.seam_px / plan.scale
    y0, x0, y1, x1 = plan.core_image_yxyx(tile)
    _, _, bottom, right = tile.core_yxyx_px
    height, width = plan.shape_scaled_yx
    low = np.array([y0 - seam if y0 > 0 else -np.inf, x0 - seam if x0 > 0 else -np.inf])
    high = np.array([y1 + seam, x1 + seam])
    high[np.array([bottom == height, right == width])] = np.inf
    return instances.take(np.all((centres >= low) & (centres < high), axis=1))
