"""How much two masks share, counted on the masks' own grids, thousands of pairs at once.

Drawing each mask at the image's resolution would take most of the time of
stitching. Cells of the finer mask serve instead: each is looked up in the
other mask, by the same bilinear interpolation that draws it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.tiles.sight import FOREGROUND

if TYPE_CHECKING:
    from dinomask.instances import Array

_HALF = np.float32(127.5)


def centres_within(boxes: Array, views: Array, n_cells: int) -> tuple[Array, Array, Array, Array]:
    """Which rows and columns of each box's grid have their centres in a view.

    Parameters
    ----------
    boxes, views : shape (P, 4), float64; y0, x0, y1, x1, half-open
    n_cells : cells along a side of the grid

    Returns
    -------
    first row, end row, first column, end column; each shape (P,), in [0, n_cells]
    """
    out = []
    for axis in (0, 1):
        cell = np.maximum(boxes[:, axis + 2] - boxes[:, axis], 1e-6) / n_cells
        for end in (views[:, axis], views[:, axis + 2]):
            place = np.clip((end - boxes[:, axis]) / cell - 0.5, -1, n_cells)
            out.append(np.clip(np.ceil(place), 0, n_cells).astype(np.int64))
    return out[0], out[1], out[2], out[3]


def cells_within(masks: Array, boxes: Array, views: Array) -> Array:
    """Return which cells are foreground and have their centre in a view, shape (P, M, M)."""
    n = masks.shape[1]
    top, bottom, left, right = (v[:, None] for v in centres_within(boxes, views, n))
    cells = np.arange(n)
    rows, columns = (cells >= top) & (cells < bottom), (cells >= left) & (cells < right)
    inside: Array = (masks >= FOREGROUND) & rows[:, :, None] & columns[:, None, :]
    return inside


def sample(masks: Array, boxes: Array, at_boxes: Array, n_cells: int) -> Array:
    """Interpolate masks at the cell centres of other grids.

    Parameters
    ----------
    masks : shape (P, M, M), uint8
    boxes : shape (P, 4), what the masks are stretched over
    at_boxes : shape (P, 4), what the other grids are stretched over
    n_cells : cells along a side of the other grids

    Returns
    -------
    shape (P, n_cells, n_cells), float32, 0 to 255; 0 outside the masks' boxes
    """
    pairs = np.arange(len(masks))[:, None]
    lower, upper, weight, inside = _taps(boxes, at_boxes, 0, masks.shape[1], n_cells)
    rows = masks[pairs, lower].astype(np.float32)
    rows += (masks[pairs, upper] - rows) * weight[:, :, None]
    rows *= inside[:, :, None]
    # columns become rows, so that whole rows are copied
    turned = np.ascontiguousarray(rows.transpose(0, 2, 1))
    lower, upper, weight, inside = _taps(boxes, at_boxes, 1, masks.shape[2], n_cells)
    values = turned[pairs, lower]
    values += (turned[pairs, upper] - values) * weight[:, :, None]
    values *= inside[:, :, None]
    return np.asarray(values.transpose(0, 2, 1))


def _taps(
    boxes: Array, at_boxes: Array, axis: int, m: int, n_cells: int
) -> tuple[Array, Array, Array, Array]:
    start, end = boxes[:, axis, None], boxes[:, axis + 2, None]
    first, last = at_boxes[:, axis, None], at_boxes[:, axis + 2, None]
    centres = first + (np.arange(n_cells) + 0.5) * ((last - first) / n_cells)
    position = np.clip((centres - start) * (m / np.maximum(end - start, 1e-6)) - 0.5, 0.0, m - 1.0)
    lower = position.astype(np.int64)
    upper = np.minimum(lower + 1, m - 1)
    inside = (centres >= start) & (centres < end)
    return lower, upper, (position - lower).astype(np.float32), inside.astype(np.float32)


def shared_cells(
    masks: Array, boxes: Array, other_masks: Array, other_boxes: Array, views: Array
) -> Array:
    """Count the cells of each mask that the other mask has too, within a view; shape (P,)."""
    mine = cells_within(masks, boxes, views)
    others = sample(other_masks, other_boxes, boxes, masks.shape[1]) >= _HALF
    return np.asarray(np.count_nonzero(mine & others, axis=(1, 2)))
