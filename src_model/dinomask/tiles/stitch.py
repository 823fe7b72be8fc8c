"""Make one set of instances of the tiles' records: every object once.

Each tile owns the objects centred in its core, and also reports those just
beside it, because neighbours predict slightly different boxes. Doubles are
found by their masks, and the better one stays. Of objects that are larger
than the halo tiles report the parts they see, which are joined.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.instances import Array, Instances
from dinomask.tiles.join import Resolution, Sights, clips, intersection, resolve
from dinomask.tiles.masks import MaskStore
from dinomask.tiles.overlap import cells_within, sample
from dinomask.tiles.sight import FOREGROUND, is_cut
from dinomask.tiles.stitched import Pieces, Stitched

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dinomask.tiles.plan import TilePlan

__all__ = ["Pieces", "Stitched", "stitch"]


def stitch(
    plan: TilePlan, records: Iterable[tuple[int, Instances]], folder: Path | None = None
) -> Stitched:
    """Join the records of an image's tiles.

    Instances of different tiles are one object if their masks (probability
    >= 0.5, within the image) share more than half of the smaller one; an IoU
    above one half implies that. The higher score stays, ties go to the lower
    tile, then to the box that comes first. What has no partner stays. Objects
    that read regions cut are joined first (`dinomask.tiles.join.resolve`).

    Parameters
    ----------
    plan : the tiles' places
    records : index and instances of each tile, in any order; each record
        holds what `dinomask.tiles.plan.owned` keeps
    folder : where masks are put when they are too many for memory (an unnamed
        file of 784 bytes an instance); None takes the system's folder for
        temporary files

    Returns
    -------
    The same, to the last bit, whatever the order of the records.

    Raises
    ------
    OutputError
        If the masks don't fit on the disk.
    """
    sights, classes = _gather(plan, records, MaskStore(folder))
    found = resolve(sights)
    kept = np.flatnonzero(~found.dropped & (found.node == np.arange(len(sights))))
    source, pieces = kept.copy(), Pieces.none()
    members = np.flatnonzero(~found.dropped & sights.cut)
    if len(members):
        nodes, best = _best_members(sights, found, members)
        source[np.searchsorted(kept, nodes)] = best
        pieces = _pieces(sights, classes, members, np.searchsorted(kept, found.node[members]))
    instances = Instances(
        sights.boxes[kept].astype(np.float32),
        sights.scores[source],
        classes[source],
        sights.store.in_order(sights.rows[kept]),
    )
    for part in np.split(np.arange(len(pieces)), np.flatnonzero(np.diff(pieces.owner)) + 1):
        _summarise(instances, pieces, part)
    ids = np.arange(1, len(kept) + 1, dtype=np.uint32)
    n_dropped = int(np.count_nonzero(found.dropped))
    return Stitched(instances, sights.tile_index[kept], ids, n_dropped, pieces)


def _gather(
    plan: TilePlan, records: Iterable[tuple[int, Instances]], store: MaskStore
) -> tuple[Sights, Array]:
    """Put the masks aside and the rest in the order of tile and box; classes come extra."""
    parts: dict[int, tuple[Instances, Array, Array, Array]] = {}
    n = 0
    for index, unordered in records:
        if not len(unordered):
            continue
        found = _sorted_by_box(unordered)
        store.append(found.masks)
        tile_index = np.full(len(found), index, np.int64)
        cut = is_cut(plan, tile_index, found)
        cells = _count_cells(found, clips(plan, tile_index, cut))
        flat = dataclasses.replace(found, masks=np.zeros((len(found), 0, 0), np.uint8))
        parts[index] = (flat, cut, cells, np.arange(n, n + len(found)))
        n += len(found)
    order = sorted(parts)
    joined = Instances.concatenate(parts[i][0] for i in order)
    cut, cells, rows = (
        np.concatenate([np.zeros(0, dtype), *(parts[i][k] for i in order)])
        for k, dtype in ((1, bool), (2, np.int64), (3, np.int64))
    )
    tile_index = np.repeat(np.array(order, np.int64), [len(parts[i][0]) for i in order])
    boxes = joined.boxes_yxyx_px.astype(np.float64)
    return Sights(plan, boxes, joined.scores, tile_index, cut, cells, rows, store), joined.classes


def _sorted_by_box(found: Instances) -> Instances:
    boxes = found.boxes_yxyx_px
    return found.take(np.lexsort((-found.scores, *boxes.T[::-1])))


def _count_cells(found: Instances, clips_yxyx: Array) -> Array:
    """Count the foreground cells of each mask whose centres are within its clip."""
    counts = np.count_nonzero(found.masks >= FOREGROUND, axis=(1, 2))
    boxes = found.boxes_yxyx_px.astype(np.float64)
    crossing = np.any(intersection(boxes, clips_yxyx) != boxes, axis=1)
    inside = cells_within(found.masks[crossing], boxes[crossing], clips_yxyx[crossing])
    counts[crossing] = np.count_nonzero(inside, axis=(1, 2))
    return np.asarray(counts, np.int64)


def _best_members(sights: Sights, found: Resolution, members: Array) -> tuple[Array, Array]:
    """Return the objects that pieces make up, and the piece of the highest score of each."""
    order = np.lexsort((members, -sights.scores[members], found.node[members]))
    nodes, first = np.unique(found.node[members][order], return_index=True)
    return nodes, members[order[first]]


def _pieces(sights: Sights, classes: Array, members: Array, owner: Array) -> Pieces:
    order = np.lexsort((members, owner))
    members = members[order]
    parts = Instances(
        sights.boxes[members].astype(np.float32),
        sights.scores[members],
        classes[members],
        sights.masks(members),
    )
    return Pieces(parts, owner[order], sights.clips(members))


def _summarise(instances: Instances, pieces: Pieces, part: Array) -> None:
    """Give one object the box around its pieces, and a coarse mask of them, in place."""
    if not len(part):
        return
    owner = int(pieces.owner[part[0]])
    boxes = pieces.instances.boxes_yxyx_px[part].astype(np.float64)
    clip = pieces.clips_yxyx_px[part]
    inner = intersection(boxes, clip)
    box = np.concatenate([inner[:, :2].min(axis=0), inner[:, 2:].max(axis=0)])
    n = instances.masks.shape[1]
    mask = np.zeros((n, n), np.float32)
    everything = np.full((1, n, n), 255, np.uint8)
    for i, k in enumerate(part.tolist()):
        values = sample(pieces.instances.masks[k : k + 1], boxes[i : i + 1], box[None], n)
        values *= cells_within(everything, box[None], clip[i : i + 1])
        np.maximum(mask, values[0], out=mask)
    instances.boxes_yxyx_px[owner] = box
    instances.masks[owner] = np.round(mask)
