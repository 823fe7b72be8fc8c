"""Join what was found in several views of a tile: one instance an object.

Instances of different views that cover each other by at least half are one
object. Boxes are averaged as in weighted boxes fusion (Solovyev, Wang and
Gabruseva, arXiv 1910.13302), masks as probabilities on the averaged box.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.instances import Array, Instances, paste_probability

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE_SPREAD = 0.4
"""Spread, in log size, of the trust in a view that shows an object larger or smaller than the
target."""

FUSE_IOU = 0.5
"""Masks of two views with at least this IoU show one object. Of two masks that don't overlap
in their own view at most one can have more than this with any other."""


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """A mask as pixels of the tile."""

    mask_yx: Array
    origin_yx: tuple[int, int]
    area_px: int

    @staticmethod
    def of(mask: Array, box_yxyx_px: Array, shape_yx: tuple[int, int]) -> _Drawn:
        probability, origin_yx = paste_probability(mask, box_yxyx_px, (0, 0, *shape_yx))
        drawn = probability >= 0.5
        return _Drawn(drawn, origin_yx, int(np.count_nonzero(drawn)))

    def iou(self, other: _Drawn) -> float:
        (y, x), (other_y, other_x) = self.origin_yx, other.origin_yx
        top, left = max(y, other_y), max(x, other_x)
        bottom = min(y + self.mask_yx.shape[0], other_y + other.mask_yx.shape[0])
        right = min(x + self.mask_yx.shape[1], other_x + other.mask_yx.shape[1])
        if bottom <= top or right <= left:
            return 0.0
        mine = self.mask_yx[top - y : bottom - y, left - x : right - x]
        theirs = other.mask_yx[top - other_y : bottom - other_y, left - other_x : right - other_x]
        shared = int(np.count_nonzero(mine & theirs))
        return shared / max(self.area_px + other.area_px - shared, 1)


def fuse(
    views: Sequence[Instances],
    shape_yx: tuple[int, int],
    scales: Sequence[float] = (),
    target_px: float = 1.0,
) -> Instances:
    """Join the instances of V views.

    The score is the mean over all views, with 0 for those that don't show the
    object. So it stays on the scale of a single view's scores, and the same
    threshold holds: what all views see keeps its score, what one of them
    imagines sinks to a V-th. Box and mask are means over the views that show it,
    weighted by score. A view counts in all of these means as far as it shows objects
    of this size well (`trust`): at a scale at which an object is a speck, or fills the
    tile, that it isn't seen says nothing.

    Parameters
    ----------
    views : what each view found, in the tile's frame; no two instances of one
        view show the same object
    shape_yx : of the tile, in model pixels
    scales : of each view to the tile; empty takes all for the same
    target_px : diameter at which the model sees objects best, in a view's pixels

    Returns
    -------
    best score first; the order of the views doesn't matter
    """
    joined = Instances.concatenate(views)
    of_view = np.repeat(np.arange(len(views)), [len(v) for v in views])
    log_scales = np.log(np.asarray(scales or [1.0] * len(views), np.float64) / target_px)
    diameters = joined.diameters_px()
    fused = []
    for rows in group_instances(joined, of_view, shape_yx):
        trusts = trust(np.log(max(diameters[rows[0]], 1e-3)) + log_scales)
        fused.append(_fuse_group(joined.take(np.array(rows)), of_view[rows], trusts))
    result = Instances.concatenate(fused) if fused else joined
    return result.take(_ranked(result))


def trust(log_sizes: Array) -> Array:
    """Return how much each view counts for an object, shape (V,), 1 for the best.

    Parameters
    ----------
    log_sizes : shape (V,), log of the object's diameter in each view, relative to the
        target's
    """
    exponent = -0.5 * (log_sizes / SIZE_SPREAD) ** 2
    return np.asarray(np.exp(exponent - exponent.max()))


def group_instances(
    joined: Instances, of_view: Array, shape_yx: tuple[int, int]
) -> list[list[int]]:
    """Decide which instances show one object, at most one of each view.

    Each instance, best score first, joins the group whose first (and so best)
    mask it covers most, among those without one of its view; with an IoU below
    `FUSE_IOU` to all of them it begins a group.

    Parameters
    ----------
    joined : N instances in the tile's frame
    of_view : shape (N,), which view each comes from
    shape_yx : of the tile

    Returns
    -------
    rows of each group, the best first
    """
    groups: list[list[int]] = []
    seeds: list[_Drawn] = []
    seed_boxes = np.zeros_like(joined.boxes_yxyx_px)
    for row in _ranked(joined).tolist():
        box = joined.boxes_yxyx_px[row]
        drawn = _Drawn.of(joined.masks[row], box, shape_yx)
        best, best_iou = -1, FUSE_IOU
        for g in _touching(box, seed_boxes[: len(groups)]).tolist():
            same = joined.classes[groups[g][0]] == joined.classes[row]
            if same and all(of_view[i] != of_view[row] for i in groups[g]):
                iou = drawn.iou(seeds[g])
                if iou >= best_iou and (best < 0 or iou > best_iou):
                    best, best_iou = g, iou
        if best >= 0:
            groups[best].append(row)
        else:
            seed_boxes[len(groups)] = box
            groups.append([row])
            seeds.append(drawn)
    return groups


def _ranked(found: Instances) -> Array:
    """Order by score, ties by box, so that it doesn't matter in which order they came."""
    return np.lexsort((*found.boxes_yxyx_px.T[::-1], -found.scores))


def _touching(box_yxyx: Array, boxes_yxyx: Array) -> Array:
    apart = (boxes_yxyx[:, :2] >= box_yxyx[2:]) | (boxes_yxyx[:, 2:] <= box_yxyx[:2])
    return np.flatnonzero(~apart.any(axis=1))


def _fuse_group(members: Instances, of_view: Array, trusts: Array) -> Instances:
    """Average the instances of one object to one.

    Parameters
    ----------
    members : the object's instances
    of_view : shape (N,), which view each comes from
    trusts : shape (V,), how much each view counts
    """
    scores = members.scores.astype(np.float64) * trusts[of_view]
    weights = scores / scores.sum() if scores.any() else np.full(len(scores), 1 / len(scores))
    box = (weights @ members.boxes_yxyx_px.astype(np.float64)).astype(np.float32)
    mask = sum(
        weight * resample_mask(member, member_box, box)
        for weight, member, member_box in zip(
            weights, members.masks, members.boxes_yxyx_px, strict=True
        )
    )
    return Instances(
        box[None],
        np.array([scores.sum() / trusts.sum()], np.float32),
        members.classes[:1],
        np.round(np.asarray(mask)[None]).astype(np.uint8),
    )


def resample_mask(mask: Array, box_yxyx_px: Array, to_yxyx_px: Array) -> Array:
    """Sample a mask at the cell centres of another box, bilinearly; 0 outside its own.

    Parameters
    ----------
    mask : shape (M, M), on `box_yxyx_px`
    box_yxyx_px, to_yxyx_px : shape (4,)

    Returns
    -------
    shape (M, M), float64, in the mask's unit
    """
    sampled = mask.astype(np.float64)
    for axis in range(2):
        m = mask.shape[axis]
        start, end = (float(box_yxyx_px[axis + i]) for i in (0, 2))
        first, last = (float(to_yxyx_px[axis + i]) for i in (0, 2))
        centres = first + (np.arange(m) + 0.5) * ((last - first) / m)
        position = (centres - start) * (m / max(end - start, 1e-6)) - 0.5
        inside = (position >= -0.5) & (position < m - 0.5)
        position = np.clip(position, 0, m - 1)
        lower = position.astype(np.intp)
        upper, weight = np.minimum(lower + 1, m - 1), position - lower
        shape = (-1, 1) if axis == 0 else (1, -1)
        weight, inside = weight.reshape(shape), inside.reshape(shape)
        low, high = (np.take(sampled, i, axis=axis) for i in (lower, upper))
        sampled = (low + (high - low) * weight) * inside
    return sampled
