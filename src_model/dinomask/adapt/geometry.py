"""Boxes, drawn regions, and joining the masks of objects.

Pixel (y, x) covers [y, y + 1) × [x, x + 1), so that its centre lies at (y + ½, x + ½).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinomask.adapt.cutting import split_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dinomask.instances import Array

__all__ = [
    "Box",
    "clip_box",
    "grow_box",
    "join_masks",
    "polygon_mask",
    "polygon_within",
    "split_mask",
    "tight_box",
    "union_box",
]

Box = tuple[int, int, int, int]


def tight_box(mask_yx: Array) -> Box | None:
    """Return the smallest half-open box around the pixels that are set; None if none is."""
    rows = np.flatnonzero(mask_yx.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask_yx[rows[0] : rows[-1] + 1].any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def union_box(boxes_yxyx_px: Iterable[Box]) -> Box:
    """Return the smallest box around one box or more."""
    corners = np.array(list(boxes_yxyx_px), np.int64)
    y0, x0 = corners[:, :2].min(axis=0)
    y1, x1 = corners[:, 2:].max(axis=0)
    return int(y0), int(x0), int(y1), int(x1)


def clip_box(box_yxyx_px: Box, shape_yx: tuple[int, int]) -> Box:
    """Return the part of a box inside an image; of height or width 0 if there is none."""
    y0, x0, y1, x1 = box_yxyx_px
    y0, x0 = min(max(y0, 0), shape_yx[0]), min(max(x0, 0), shape_yx[1])
    return y0, x0, max(y0, min(y1, shape_yx[0])), max(x0, min(x1, shape_yx[1]))


def grow_box(box_yxyx_px: Box, by_px: int, shape_yx: tuple[int, int]) -> Box:
    """Return a box with a margin on all sides, as far as the image reaches."""
    y0, x0, y1, x1 = box_yxyx_px
    return clip_box((y0 - by_px, x0 - by_px, y1 + by_px, x1 + by_px), shape_yx)


def polygon_within(polygon_yx_px: Array, window_yxyx_px: Box) -> Array:
    """Return which pixels of a window have their centre inside a polygon.

    Parameters
    ----------
    polygon_yx_px : shape (N, 2), corners
    window_yxyx_px : half-open

    Returns
    -------
    shape (y1 - y0, x1 - x0), bool
    """
    import skimage.draw

    y0, x0, y1, x1 = window_yxyx_px
    mask_yx = np.zeros((max(0, y1 - y0), max(0, x1 - x0)), bool)
    corners = np.asarray(polygon_yx_px, np.float64) - 0.5
    inside = skimage.draw.polygon(  # type: ignore[no-untyped-call]
        corners[:, 0] - y0, corners[:, 1] - x0, mask_yx.shape
    )
    mask_yx[inside] = True
    return mask_yx


def polygon_mask(polygon_yx_px: Array, shape_yx: tuple[int, int]) -> tuple[Array, tuple[int, int]]:
    """Return the pixels of an image inside a polygon, as a mask and the corner where it begins.

    Parameters
    ----------
    polygon_yx_px : shape (N, 2), corners; may reach beyond the image
    shape_yx : of the image

    Returns
    -------
    mask_yx : bool, of the polygon's box within the image; may be empty
    corner_yx_px : of the mask
    """
    low = np.floor(np.min(polygon_yx_px, axis=0)).astype(int)
    high = np.ceil(np.max(polygon_yx_px, axis=0)).astype(int)
    box = clip_box((int(low[0]), int(low[1]), int(high[0]), int(high[1])), shape_yx)
    return polygon_within(polygon_yx_px, box), box[:2]


def join_masks(masks_nyx: Sequence[Array], free_yx: Array, fill_gap_px: int = 2) -> Array:
    """Join masks into one, and close narrow gaps between them.

    A gap is what a morphological closing fills between two of the masks; narrow bays of a
    single one stay.

    Parameters
    ----------
    masks_nyx : of one shape (Y, X), bool; may touch or lie apart
    free_yx : bool, pixels that may be filled
    fill_gap_px : gaps up to twice this wide are filled; 0 fills none

    Returns
    -------
    shape (Y, X), bool
    """
    union_yx = np.logical_or.reduce([np.asarray(mask, bool) for mask in masks_nyx])
    if fill_gap_px < 1 or len(masks_nyx) < 2:
        return np.asarray(union_yx)
    reach = np.arange(-fill_gap_px, fill_gap_px + 1)
    disc = reach[:, None] ** 2 + reach**2 <= fill_gap_px**2
    # padded, since beyond the border is no background to be eaten from
    padded = np.pad(union_yx, fill_gap_px)
    inner = np.s_[fill_gap_px:-fill_gap_px, fill_gap_px:-fill_gap_px]
    closed = ndimage.binary_closing(padded, disc)[inner]
    near = sum(ndimage.binary_dilation(mask, disc).astype(np.int8) for mask in masks_nyx)
    return np.asarray(union_yx | (closed & (near >= 2) & free_yx))
