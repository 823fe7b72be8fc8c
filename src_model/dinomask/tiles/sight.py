"""What a tile sees of an object: the whole of it, or a part that its read region cuts.

A read region is a core with a halo, so what reaches from the core to the end
of the read region is larger than the halo. Of such objects every tile keeps
its own sight, whoever owns their centre; `stitch` joins them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dinomask.instances import Array, Instances
    from dinomask.tiles.plan import Tile, TilePlan

CUT_PX = 2.0
"""A mask that ends closer than this to the end of the read region, in model pixels, is cut."""

FOREGROUND = 128
"""A mask's cell belongs to the object from this byte on: a probability of one half."""


def mask_extents(instances: Instances) -> Array:
    """Return the smallest boxes that hold the masks' cells of at least one half.

    Returns
    -------
    shape (N, 4), float64, in the boxes' pixels; inf, inf, -inf, -inf for a
    mask without such a cell
    """
    boxes = instances.boxes_yxyx_px.astype(np.float64)
    inside = instances.masks >= FOREGROUND
    out = np.empty((len(boxes), 4), np.float64)
    for axis in (0, 1):
        used = np.asarray(inside.any(axis=2 - axis))
        n = used.shape[1]
        cell = (boxes[:, axis + 2] - boxes[:, axis]) / n
        out[:, axis] = boxes[:, axis] + used.argmax(axis=1) * cell
        out[:, axis + 2] = boxes[:, axis + 2] - used[:, ::-1].argmax(axis=1) * cell
    out[~np.any(inside, axis=(1, 2))] = (np.inf, np.inf, -np.inf, -np.inf)
    return out


def is_cut(plan: TilePlan, tile_index: Array, instances: Instances) -> Array:
    """Tell which sights end at the end of their tile's read region.

    Where the read region ends with the image nothing is cut off.

    Parameters
    ----------
    tile_index : shape (N,), the tile that saw each
    instances : N sights, in image pixels

    Returns
    -------
    shape (N,), bool
    """
    margin = CUT_PX / plan.scale
    ends = plan.ends_image_yxyx(tile_index)
    ends[:, :2] += margin
    ends[:, 2:] -= margin
    # few boxes come near an end, and the masks of the others need no look
    cut = _leaves(instances.boxes_yxyx_px.astype(np.float64), ends)
    near = np.flatnonzero(cut)
    cut[near] = _leaves(mask_extents(instances.take(near)), ends[near])
    return cut


def owned(plan: TilePlan, tile: Tile, instances: Instances) -> Instances:
    """Keep the instances that a tile has to report.

    Those whose box centre lies in its core or just beside it: neighbouring
    tiles predict slightly different boxes, so a centre near a seam can fall
    outside both cores. Each tile therefore keeps what lies up to `seam_px`
    outside its core; `stitch` drops the doubles. At the image's edge the core
    has no end: an object cut by the edge may be centred beyond it.

    And those that reach into its core but are larger than the halo: cut by
    its read region, or by that of the tile that owns the centre.

    Parameters
    ----------
    plan, tile : the tile that was predicted
    instances : boxes in image pixels
    """
    boxes = instances.boxes_yxyx_px.astype(np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    core = _grown_core(plan, tile)
    keep = np.all((centres >= core[:2]) & (centres < core[2:]), axis=1)
    rest = np.flatnonzero(~keep & _meets(boxes, core))
    if not len(rest):
        return instances.take(keep)
    others = instances.take(rest)
    index = np.full(len(rest), tile.index, np.int64)
    large = is_cut(plan, index, others)
    large |= _leaves(boxes[rest], plan.ends_image_yxyx(plan.tiles_at(centres[rest])))
    keep[rest] = large & _meets(mask_extents(others), core)
    return instances.take(keep)


def _grown_core(plan: TilePlan, tile: Tile) -> Array:
    """Core and seam margin in image pixels, without end where the image ends; shape (4,)."""
    seam = plan.config.seam_px / plan.scale
    y0, x0, y1, x1 = plan.core_image_yxyx(tile)
    _, _, bottom, right = tile.core_yxyx_px
    height, width = plan.shape_scaled_yx
    return np.array(
        [
            y0 - seam if y0 > 0 else -np.inf,
            x0 - seam if x0 > 0 else -np.inf,
            np.inf if bottom == height else y1 + seam,
            np.inf if right == width else x1 + seam,
        ]
    )


def _leaves(boxes: Array, ends: Array) -> Array:
    outside = np.any((boxes[:, :2] < ends[:, :2]) | (boxes[:, 2:] > ends[:, 2:]), axis=1)
    # a mask without a cell has no extent
    return np.asarray(outside & (boxes[:, 0] <= boxes[:, 2]))


def _meets(boxes: Array, window: Array) -> Array:
    meets: Array = np.all((boxes[:, :2] < window[2:]) & (boxes[:, 2:] > window[:2]), axis=1)
    return meets
