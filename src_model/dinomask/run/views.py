"""Views of a tile for test-time augmentation: flips, quarter turns and scales."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.config import PATCH_PX
from dinomask.image.resample import resample_window

if TYPE_CHECKING:
    from dinomask.config import DetectConfig
    from dinomask.instances import Array, Instances

SYMMETRIES: dict[str, tuple[tuple[bool, bool, bool], ...]] = {
    "off": ((False, False, False),),
    "flips": tuple((False, y, x) for y in (False, True) for x in (False, True)),
    "full": tuple((t, y, x) for t in (False, True) for y in (False, True) for x in (False, True)),
}
"""Swap of the axes, flip along y, flip along x, a view. The four flips and the eight
symmetries of a square are groups: the views of a flipped tile are the flipped tile's views,
so what is joined from all of them turns with the image exactly."""


@dataclasses.dataclass(frozen=True)
class View:
    """One way to look at a tile: resample, then flip, then swap the axes.

    Attributes
    ----------
    swap : y and x change places; with one flip that is a quarter turn
    flip_y, flip_x : mirror along the axis
    scale : of the view to the tile; rounded so that sides are multiples of 14
    """

    swap: bool = False
    flip_y: bool = False
    flip_x: bool = False
    scale: float = 1.0

    def apply(self, tile_cyx: Array) -> Array:
        """Show a tile of shape (C, H, W) this way; H and W multiples of 14."""
        height, width = tile_cyx.shape[1:]
        rows, columns = self._sides(height, width)
        if (rows, columns) != (height, width):
            ratios = (rows / height, columns / width)
            tile_cyx = resample_window(
                tile_cyx, (0, 0), (height, width), ratios, (0, 0, rows, columns)
            )
        step_y, step_x = (-1 if flip else 1 for flip in (self.flip_y, self.flip_x))
        flipped = tile_cyx[:, ::step_y, ::step_x]
        return np.ascontiguousarray(np.swapaxes(flipped, 1, 2) if self.swap else flipped)

    def restore(self, found: Instances, shape_yx: tuple[int, int]) -> Instances:
        """Bring instances found in this view of a tile of `shape_yx` into the tile's frame."""
        boxes, masks = found.boxes_yxyx_px, found.masks
        if self.swap:
            boxes, masks = boxes[:, [1, 0, 3, 2]], np.swapaxes(masks, 1, 2)
        sides = self._sides(*shape_yx)
        if self.flip_y:
            boxes, masks = _mirror(boxes, 0, sides[0]), masks[:, ::-1]
        if self.flip_x:
            boxes, masks = _mirror(boxes, 1, sides[1]), masks[:, :, ::-1]
        if sides != tuple(shape_yx):
            ratios = np.array([n / m for n, m in zip(shape_yx, sides, strict=True)] * 2)
            boxes = (boxes * ratios).astype(np.float32)
        return dataclasses.replace(found, boxes_yxyx_px=boxes, masks=np.ascontiguousarray(masks))

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        """Size of the resampled tile, before its axes are swapped."""
        if self.scale == 1:
            return height, width
        rows, columns = (max(1, round(n * self.scale / PATCH_PX)) for n in (height, width))
        return rows * PATCH_PX, columns * PATCH_PX


def plan_views(config: DetectConfig) -> tuple[View, ...]:
    """List the views that the settings ask for, the plain one first."""
    return tuple(
        View(*symmetry, scale=scale)
        for scale in (1.0, *config.tta_scales)
        for symmetry in SYMMETRIES[config.tta]
    )


def _mirror(boxes_yxyx: Array, axis: int, side: int) -> Array:
    mirrored: Array = boxes_yxyx.copy()
    mirrored[:, axis] = side - boxes_yxyx[:, axis + 2]
    mirrored[:, axis + 2] = side - boxes_yxyx[:, axis]
    return mirrored
