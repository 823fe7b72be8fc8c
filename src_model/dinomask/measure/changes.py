"""What became of each object between two segmentations of one image."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinomask.measure.overlaps import match

if TYPE_CHECKING:
    from dinomask.instances import Array
    from dinomask.measure.overlaps import Matching

SAME_TAU = 0.5
"""Objects that overlap at least this much (IoU) are one object."""

ALIKE_IOU = 0.9
"""An object that overlaps its former self at least this much has not changed: an outline that
moves by half a pixel all around gives about 0.9 for an object of 20 px."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One object that is new, gone or another.

    Attributes
    ----------
    label : its id in the label image that shows it, the later one if both do
    centre_yx_px : the mean of its pixels' centres there; pixel (i, j) is centred at (i + ½, j + ½)
    box_yxyx_px : the smallest box around it there, half-open
    iou : overlap with its partner, or else with whatever overlaps it most in the other image
    label_before : its id in the earlier image; None if it is new
    """

    label: int
    centre_yx_px: tuple[float, float]
    box_yxyx_px: tuple[int, int, int, int]
    iou: float
    label_before: int | None = None


@dataclasses.dataclass(frozen=True)
class Changes:
    """All that differs between two label images.

    Attributes
    ----------
    gained : only in the later one, by place from top to bottom
    lost : only in the earlier one, by place too
    changed : in both, but of another shape; what changed most comes first
    n_same : in both, and alike
    """

    gained: tuple[Change, ...]
    lost: tuple[Change, ...]
    changed: tuple[Change, ...]
    n_same: int


def compare(
    before_yx: Array, after_yx: Array, *, tau: float = SAME_TAU, alike_iou: float = ALIKE_IOU
) -> Changes:
    """Find the objects gained, lost and changed.

    Objects are paired one to one (Hungarian method, see `Matching.matched`), as
    for the scores. Of an object that was split, the larger part is changed or the
    object is lost, and the others are gained.

    Parameters
    ----------
    before_yx, after_yx : label images of one shape (Y, X), 0 is background
    tau : least IoU of a pair, in (0, 1]
    alike_iou : from this IoU on a pair counts as unchanged

    Raises
    ------
    DataError
        If they are no label images, or of different shapes.
    """
    matching = match(before_yx, after_yx)
    pairs = matching.matched(tau)
    iou = matching.iou
    first, second = matching.reference_index[pairs], matching.prediction_index[pairs]
    best = _best_overlaps(matching)
    gained = np.setdiff1d(np.arange(len(matching.prediction_ids)), second)
    lost = np.setdiff1d(np.arange(len(matching.reference_ids)), first)
    moved = pairs[iou[pairs] < alike_iou]
    moved = moved[np.argsort(iou[moved], kind="stable")]
    new = matching.prediction_index[moved]
    partners = matching.reference_ids[matching.reference_index[moved]]
    return Changes(
        gained=_by_place(_changes(after_yx, matching.prediction_ids[gained], best[1][gained])),
        lost=_by_place(
            _changes(before_yx, lost_ids := matching.reference_ids[lost], best[0][lost], lost_ids)
        ),
        changed=tuple(_changes(after_yx, matching.prediction_ids[new], iou[moved], partners)),
        n_same=len(pairs) - len(moved),
    )


def _best_overlaps(matching: Matching) -> tuple[Array, Array]:
    """Return the highest IoU of each earlier and of each later object; 0 without any."""
    earlier = np.zeros(len(matching.reference_ids))
    later = np.zeros(len(matching.prediction_ids))
    np.maximum.at(earlier, matching.reference_index, matching.iou)
    np.maximum.at(later, matching.prediction_index, matching.iou)
    return earlier, later


def _changes(labels_yx: Array, ids: Array, iou: Array, before: Array | None = None) -> list[Change]:
    """Describe objects, in the order of their ids."""
    if not len(ids):
        return []
    order = np.argsort(ids)
    # numbered anew: ids may be large, and the boxes of all up to the largest are listed
    place = np.searchsorted(ids[order], labels_yx)
    place = np.minimum(place, len(ids) - 1)
    numbered = np.where(ids[order][place] == labels_yx, place + 1, 0)
    boxes = ndimage.find_objects(numbered)
    rows = np.empty(len(ids), np.int64)
    rows[order] = np.arange(len(ids))
    found = []
    for i, row in enumerate(rows.tolist()):
        y, x = boxes[row]
        centre_y, centre_x = np.mean(np.nonzero(numbered[y, x] == row + 1), axis=1) + 0.5
        found.append(
            Change(
                int(ids[i]),
                (float(centre_y + y.start), float(centre_x + x.start)),
                (y.start, x.start, y.stop, x.stop),
                float(iou[i]),
                None if before is None else int(before[i]),
            )
        )
    return found


def _by_place(changes: list[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda change: change.centre_yx_px))
