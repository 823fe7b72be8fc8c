"""Tiles on the grid of patches of a whole image.

Tiles of a segmentation begin anywhere; these begin at whole patches, so that each place
has one token whatever tile it was computed in.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from dinomask.config import PATCH_PX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.config import TileConfig
    from dinomask.tiles.plan import Box


@dataclasses.dataclass(frozen=True)
class PatchTile:
    """One tile, in whole patches of the image.

    Attributes
    ----------
    index : number in row-major order, from 0
    core_yxyx : patches that the tile gives, half-open
    read_yxyx : patches that the network sees; may overhang an image smaller than a tile
    """

    index: int
    core_yxyx: Box
    read_yxyx: Box


@dataclasses.dataclass(frozen=True)
class PatchPlan:
    """Tiles on the grid of patches; their cores partition it.

    Attributes
    ----------
    shape_yx : of the grid, in patches
    tile, halo : side of what the network sees, and margin around the core, in patches
    """

    shape_yx: tuple[int, int]
    tile: int
    halo: int

    @staticmethod
    def of(shape_scaled_yx: tuple[int, int], config: TileConfig) -> PatchPlan:
        """Plan the tiles of an image of so many model pixels."""
        height, width = (math.ceil(n / PATCH_PX) for n in shape_scaled_yx)
        halo = math.ceil(config.halo_px / PATCH_PX)
        tile = config.tile_px // PATCH_PX
        # a core of at least one patch is left, whatever was rounded up
        return PatchPlan((height, width), tile, min(halo, (tile - 1) // 2))

    def __len__(self) -> int:
        return self._count(self.shape_yx[0]) * self._count(self.shape_yx[1])

    def __getitem__(self, index: int) -> PatchTile:
        if not 0 <= index < len(self):
            msg = f"tile {index} of a plan with {len(self)} tiles"
            raise IndexError(msg)
        row, column = divmod(index, self._count(self.shape_yx[1]))
        top, bottom, y = self._along(row, self.shape_yx[0])
        left, right, x = self._along(column, self.shape_yx[1])
        return PatchTile(index, (top, left, bottom, right), (y, x, y + self.tile, x + self.tile))

    def neighbours(self, index: int) -> Iterator[int]:
        """Yield the tiles beside, above and below one, which see part of what it sees."""
        n_y, n_x = (self._count(size) for size in self.shape_yx)
        row, column = divmod(index, n_x)
        for y, x in ((row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)):
            if 0 <= y < n_y and 0 <= x < n_x:
                yield y * n_x + x

    def _count(self, size: int) -> int:
        if size <= self.tile:
            return 1
        return 1 + -(-(size - self.tile) // (self.tile - 2 * self.halo))

    def _start(self, i: int, n: int, size: int) -> int:
        return 0 if n == 1 else i * (size - self.tile) // (n - 1)

    def _along(self, i: int, size: int) -> tuple[int, int, int]:
        """Core start, core end and read start of the i-th tile along an axis."""
        n = self._count(size)
        start = self._start(i, n, size)
        first = 0 if i == 0 else (self._start(i - 1, n, size) + self.tile + start) // 2
        last = size if i == n - 1 else (start + self.tile + self._start(i + 1, n, size)) // 2
        return first, last, start
