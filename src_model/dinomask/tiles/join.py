"""Which of the tiles' sights show one object: doubles, and pieces of what is cut."""

from __future__ import annotations

import collections
import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dinomask.tiles.grid import BoxGrid
from dinomask.tiles.overlap import cells_within, centres_within, shared_cells

if TYPE_CHECKING:
    from dinomask.instances import Array
    from dinomask.tiles.masks import MaskStore
    from dinomask.tiles.plan import TilePlan

SEAM_OVERLAP = 0.5
"""Two tiles' masks are one object if they share more than this part of the smaller."""

PIECE_SHARE = 0.05
"""Two pieces are of one object only if they share more than this part of the smaller piece.

A sliver of one object that lies in another's piece joins nothing."""

_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class Sights:
    """What all tiles saw, in the order of tile and box; masks are elsewhere.

    Attributes
    ----------
    plan : the tiles' places
    boxes : shape (N, 4), float64, image pixels
    scores : shape (N,)
    tile_index : shape (N,), int64
    cut : shape (N,), bool; the tile's read region ends within the mask
    n_cells : shape (N,); foreground cells of the mask, those within `clips`
    rows : shape (N,); where the masks are in the store
    store : the masks
    """

    plan: TilePlan
    boxes: Array
    scores: Array
    tile_index: Array
    cut: Array
    n_cells: Array
    rows: Array
    store: MaskStore

    def __len__(self) -> int:
        return len(self.scores)

    def clips(self, which: Array) -> Array:
        """Return where sights count, shape (len(which), 4): the image, cut ones the read region."""
        return clips(self.plan, self.tile_index[which], self.cut[which])

    @functools.cached_property
    def areas(self) -> Array:
        """Area of each mask within its clip, in square pixels, shape (N,)."""
        return np.asarray(self.n_cells * self._cell_areas)

    @functools.cached_property
    def _cell_areas(self) -> Array:
        n = self.store.side_cells
        return np.asarray(np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1) / n**2)

    def masks(self, which: Array) -> Array:
        """Return a copy of masks, shape (len(which), M, M)."""
        return self.store.take(self.rows[which])


@dataclasses.dataclass(frozen=True)
class Resolution:
    """What becomes of each sight.

    Attributes
    ----------
    node : shape (N,), int64; the first sight of the object that a sight is
        part of; itself, but for pieces that are joined
    dropped : shape (N,), bool; another sight of the same object is better
    """

    node: Array
    dropped: Array


def clips(plan: TilePlan, tile_index: Array, cut: Array) -> Array:
    """Return where sights count: within the image, and cut ones within their read region.

    Parameters
    ----------
    tile_index, cut : shape (N,)

    Returns
    -------
    shape (N, 4), float64, in image pixels
    """
    height, width = plan.shape_yx
    out = np.tile(np.array([0.0, 0.0, height, width]), (len(tile_index), 1))
    ends = plan.ends_image_yxyx(tile_index[cut])
    out[cut] = intersection(out[cut], ends)
    return out


def intersection(a: Array, b: Array) -> Array:
    """Return what two sets of boxes share, shape (N, 4); ends may lie before starts."""
    return np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1)


def resolve(sights: Sights) -> Resolution:
    """Find the sights that show one object, and choose.

    1. A piece that agrees, where both tiles see, with a sight of the whole
       (IoU above one half) gives way to it.
    2. Pieces that agree with each other there (more than half of the smaller)
       are one object, and so are chains of them.
    3. Of objects that then share more than half of the smaller one, the higher
       score stays; ties go to the lower tile, then to the first box.
    """
    a, b = _seam_pairs(sights)
    node, dropped = np.arange(len(sights)), np.zeros(len(sights), bool)
    cut = sights.cut[a] | sights.cut[b]
    if cut.any():
        wholes, pieces = _cut_pairs(sights, a[cut], b[cut])
        dropped[wholes] = True
        node = _components(len(sights), pieces[~dropped[pieces].any(axis=1)])
    open_ = ~dropped[a] & ~dropped[b] & (node[a] != node[b])
    a, b = a[open_], b[open_]
    one = _doubles(sights, a, b)
    dropped |= _drop_poorer(sights, node, node[a[one]], node[b[one]])[node]
    return Resolution(node, dropped)


def _seam_pairs(sights: Sights) -> tuple[Array, Array]:
    """Pairs of different tiles that may be one object, ordered by their tiles.

    Cores are apart, so of two boxes that share area at least one leaves its core.
    """
    boxes = sights.boxes
    cores = sights.plan.cores_image_yxyx(sights.tile_index)
    leaves = np.any((boxes[:, :2] < cores[:, :2]) | (boxes[:, 2:] > cores[:, 2:]), axis=1)
    del cores

    def worth_a_look(a: Array, b: Array) -> Array:
        other = sights.tile_index[a] != sights.tile_index[b]
        return np.asarray(other & (sights.cut[a] | sights.cut[b] | _could_share(sights, a, b)))

    return BoxGrid.of(boxes).pairs(leaves, worth_a_look)


def _smaller_first(sights: Sights, a: Array, b: Array) -> tuple[Array, Array]:
    swap = sights.areas[b] < sights.areas[a]
    return np.where(swap, b, a), np.where(swap, a, b)


def _could_share(sights: Sights, a: Array, b: Array) -> Array:
    """Tell pairs whose boxes share enough; most neighbours share but a narrow strip."""
    small, large = _smaller_first(sights, a, b)
    top, bottom, left, right = centres_within(
        sights.boxes[small], sights.boxes[large], sights.store.side_cells
    )
    return np.asarray((bottom - top) * (right - left) > SEAM_OVERLAP * sights.n_cells[small])


def _doubles(sights: Sights, a: Array, b: Array) -> Array:
    """Tell pairs whose masks share more than half of the smaller one, shape (P,), bool."""
    worth = np.flatnonzero(_could_share(sights, a, b))
    one = np.zeros(len(a), bool)
    for first in range(0, len(worth), _AT_ONCE):
        part = worth[first : first + _AT_ONCE]
        small, large = _smaller_first(sights, a[part], b[part])
        view = intersection(sights.clips(small), sights.clips(large))
        shared = shared_cells(
            sights.masks(small),
            sights.boxes[small],
            sights.masks(large),
            sights.boxes[large],
            view,
        )
        one[part] = shared > SEAM_OVERLAP * sights.n_cells[small]
    return one


def _cut_pairs(sights: Sights, a: Array, b: Array) -> tuple[Array, Array]:
    """Compare sights of which at least one is cut, where both tiles see.

    Returns
    -------
    pieces that agree with a sight of the whole, shape (W,), and pairs of
    pieces that agree with each other, shape (P, 2)
    """
    wholes, pairs = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
    for first in range(0, len(a), _AT_ONCE):
        one, other = a[first : first + _AT_ONCE], b[first : first + _AT_ONCE]
        area_one, area_other, shared = _areas_in_common_view(sights, one, other)
        both = sights.cut[one] & sights.cut[other]
        iou_holds = shared > 0.5 * (area_one + area_other - shared)
        pieces = np.where(sights.cut[one], one, other)
        wholes.append(pieces[~both & iou_holds])
        smallest = np.minimum(sights.areas[one], sights.areas[other])
        agree = shared > SEAM_OVERLAP * np.minimum(area_one, area_other)
        agree &= both & (shared > PIECE_SHARE * smallest)
        pairs.append(np.stack([one[agree], other[agree]], axis=1))
    return np.concatenate(wholes), np.concatenate(pairs)


def _areas_in_common_view(sights: Sights, a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Areas of both masks and of what they share where both tiles see, in square pixels."""
    everywhere = np.ones(len(a), bool)
    plan = sights.plan
    view = intersection(
        clips(plan, sights.tile_index[a], everywhere), clips(plan, sights.tile_index[b], everywhere)
    )
    # what they share is counted on the finer of the two grids
    swap = sights._cell_areas[b] < sights._cell_areas[a]
    fine, coarse = np.where(swap, b, a), np.where(swap, a, b)
    masks, other_masks = sights.masks(fine), sights.masks(coarse)
    boxes, other_boxes = sights.boxes[fine], sights.boxes[coarse]
    shared = shared_cells(masks, boxes, other_masks, other_boxes, view) * sights._cell_areas[fine]
    area_fine = _area(masks, boxes, view) * sights._cell_areas[fine]
    area_coarse = _area(other_masks, other_boxes, view) * sights._cell_areas[coarse]
    return (
        np.where(swap, area_coarse, area_fine),
        np.where(swap, area_fine, area_coarse),
        np.asarray(shared),
    )


def _area(masks: Array, boxes: Array, view: Array) -> Array:
    return np.asarray(np.count_nonzero(cells_within(masks, boxes, view), axis=(1, 2)))


def _components(n: int, pairs: Array) -> Array:
    """Give the sights that pairs join the number of the first of them, shape (n,)."""
    node = np.arange(n)
    members, local = np.unique(pairs, return_inverse=True)
    if len(members):
        local = local.reshape(pairs.shape)
        graph = coo_array(
            (np.ones(len(pairs), np.int8), (local[:, 0], local[:, 1])), shape=(len(members),) * 2
        )
        _, component = connected_components(graph, directed=False)
        # members ascend, so the first of a component is its smallest
        _, first = np.unique(component, return_index=True)
        node[members] = members[first][component]
    return node


def _drop_poorer(sights: Sights, node: Array, a: Array, b: Array) -> Array:
    """Mark the nodes that a better one stands for, shape (N,), bool."""
    dropped = np.zeros(len(sights), bool)
    partners: dict[int, list[int]] = collections.defaultdict(list)
    for i, j in zip(a.tolist(), b.tolist(), strict=True):
        partners[i].append(j)
        partners[j].append(i)
    scores = sights.scores.copy()
    np.maximum.at(scores, node, sights.scores)
    matched = np.array(sorted(partners), np.int64)
    for i in matched[np.lexsort((matched, -scores[matched]))].tolist():
        if not dropped[i]:
            dropped[partners[i]] = True
    return dropped
