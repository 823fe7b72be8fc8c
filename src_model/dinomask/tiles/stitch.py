"""Make one set of instances of the tiles' records: every object once.

Each tile owns the objects centred in its core, and also reports those just
beside it, because neighbours predict slightly different boxes. Doubles are
found by their masks, and the better one stays.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from dinomask.instances import Array, Instances, paste_probability
from dinomask.tiles.grid import BoxGrid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dinomask.tiles.plan import TilePlan

SEAM_OVERLAP = 0.5
"""Two tiles' masks are one object if they share more than this part of the smaller."""

_MASKS_KEPT = 8192


@dataclasses.dataclass(frozen=True)
class Stitched:
    """All instances of an image, in the order of their tiles.

    Attributes
    ----------
    instances : N instances in image pixels, sorted by tile, then by box
    tile_index : shape (N,), int64; the tile that found each
    ids : shape (N,), uint32; 1 to N, so ids follow the tiles' order
    n_seam_duplicates : how many were dropped as a second sight of an object
    """

    instances: Instances
    tile_index: Array
    ids: Array
    n_seam_duplicates: int

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def grid(self) -> BoxGrid:
        """The instances by place."""
        return BoxGrid.of(self.instances.boxes_yxyx_px)


def stitch(plan: TilePlan, records: Iterable[tuple[int, Instances]]) -> Stitched:
    """Join the records of an image's tiles.

    Instances of different tiles are one object if their masks (probability
    >= 0.5, within the image) share more than half of the smaller one; an IoU
    above one half implies that. The higher score stays, ties go to the lower
    tile, then to the box that comes first. What has no partner stays.

    Parameters
    ----------
    plan : the tiles' places
    records : index and instances of each tile, in any order; each record
        holds what `dinomask.tiles.plan.owned` keeps

    Returns
    -------
    The same, to the last bit, whatever the order of the records.
    """
    parts = {index: _sorted_by_box(found) for index, found in records if len(found)}
    indices = sorted(parts)
    counts = [len(parts[i]) for i in indices]
    tile_index = np.repeat(np.array(indices, np.int64), counts)
    masks = [parts[i].masks for i in indices]
    flat = [dataclasses.replace(parts[i], masks=parts[i].masks[:, :0, :0]) for i in indices]
    parts.clear()
    joined = Instances.concatenate(flat)
    kept = np.flatnonzero(~_doubles(plan, joined, tile_index, _MaskRows(masks)))
    return Stitched(
        instances=dataclasses.replace(joined.take(kept), masks=_gather(masks, kept)),
        tile_index=tile_index[kept],
        ids=np.arange(1, len(kept) + 1, dtype=np.uint32),
        n_seam_duplicates=len(joined) - len(kept),
    )


def _sorted_by_box(found: Instances) -> Instances:
    boxes = found.boxes_yxyx_px
    return found.take(np.lexsort((-found.scores, *boxes.T[::-1])))


class _MaskRows:
    """The tiles' masks under one numbering, without joining them."""

    def __init__(self, masks: list[Array]) -> None:
        self._masks = masks
        self._starts = np.cumsum([0, *(len(m) for m in masks)])

    def __getitem__(self, index: int) -> Array:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        mask: Array = self._masks[part][index - self._starts[part]]
        return mask


def _gather(masks: list[Array], kept: Array) -> Array:
    """Join the kept masks, freeing each tile's as it is copied: memory is not doubled."""
    if not masks:
        return Instances.empty().masks
    out = np.empty((len(kept), *masks[0].shape[1:]), np.uint8)
    start = written = 0
    for i, part in enumerate(masks):
        end = start + len(part)
        lo, hi = np.searchsorted(kept, [start, end])
        out[written : written + hi - lo] = part[kept[lo:hi] - start]
        written += int(hi - lo)
        start = end
        masks[i] = part[:0].copy()
    return out


def _doubles(plan: TilePlan, found: Instances, tile_index: Array, masks: _MaskRows) -> Array:
    """Mark the instances to drop, shape (N,), bool."""
    a, b = _seam_pairs(plan, found, tile_index)
    partners: dict[int, list[int]] = collections.defaultdict(list)
    height, width = plan.shape_yx

    @functools.lru_cache(maxsize=_MASKS_KEPT)
    def drawn(index: int) -> _Drawn:
        probability, origin_yx = paste_probability(
            masks[index], found.boxes_yxyx_px[index], (0, 0, height, width)
        )
        mask_yx = probability >= 0.5
        return _Drawn(mask_yx, origin_yx, int(np.count_nonzero(mask_yx)))

    for i, j in zip(a.tolist(), b.tolist(), strict=True):
        if _is_one_object(drawn(i), drawn(j)):
            partners[i].append(j)
            partners[j].append(i)
    matched = np.array(sorted(partners), np.int64)
    dropped = np.zeros(len(found), bool)
    # instances are in the order of tile and box already, so their number breaks ties
    for i in matched[np.lexsort((matched, -found.scores[matched]))].tolist():
        if not dropped[i]:
            dropped[partners[i]] = True
    return dropped


def _seam_pairs(plan: TilePlan, found: Instances, tile_index: Array) -> tuple[Array, Array]:
    """Pairs of different tiles whose boxes overlap, ordered by their tiles.

    Cores are apart, so of two such boxes at least one leaves its own core.
    """
    cores = _cores(plan, tile_index)
    boxes = found.boxes_yxyx_px.astype(np.float64)
    leaves = np.any((boxes[:, :2] < cores[:, :2]) | (boxes[:, 2:] > cores[:, 2:]), axis=1)
    a, b = BoxGrid.of(boxes).pairs(leaves)
    other = tile_index[a] != tile_index[b]
    a, b = a[other], b[other]
    order = np.lexsort((b, a, tile_index[b], tile_index[a]))
    return a[order], b[order]


def _cores(plan: TilePlan, tile_index: Array) -> Array:
    """Core of each instance's tile in image pixels, shape (N, 4)."""
    tiles, inverse = np.unique(tile_index, return_inverse=True)
    cores = [plan.core_image_yxyx(plan[int(i)]) for i in tiles]
    return np.array(cores, np.float64).reshape(-1, 4)[inverse]


@dataclasses.dataclass(frozen=True)
class _Drawn:
    mask_yx: Array
    origin_yx: tuple[int, int]
    area_px: int

    def cut(self, top: int, left: int, bottom: int, right: int) -> Array:
        y, x = self.origin_yx
        return self.mask_yx[top - y : bottom - y, left - x : right - x]


def _is_one_object(a: _Drawn, b: _Drawn) -> bool:
    (a_y, a_x), (b_y, b_x) = a.origin_yx, b.origin_yx
    top, left = max(a_y, b_y), max(a_x, b_x)
    bottom = min(a_y + a.mask_yx.shape[0], b_y + b.mask_yx.shape[0])
    right = min(a_x + a.mask_yx.shape[1], b_x + b.mask_yx.shape[1])
    needed = SEAM_OVERLAP * min(a.area_px, b.area_px)
    # most neighbours share a strip too narrow to hold enough, whatever is drawn in it
    if max(bottom - top, 0) * max(right - left, 0) <= needed:
        return False
    shared = a.cut(top, left, bottom, right) & b.cut(top, left, bottom, right)
    return bool(np.count_nonzero(shared) > needed)
