"""How well outlines agree, apart from how well areas do.

IoU forgives large objects a crooked outline. Boundary IoU (Cheng et al. 2021,
arXiv 2103.16562) is the IoU of the two rims alone: of each mask, what lies within
a distance d of its outline. There d is a share of the image's diagonal; here it is
given in pixels, since the size of an image says nothing about its cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinomask.measure.overlaps import match

if TYPE_CHECKING:
    from dinomask.instances import Array

RIM_PX = 2
"""Width of a rim, in pixels."""


def boundary_ious(
    reference_yx: Array, prediction_yx: Array, *, tau: float = 0.5, rim_px: int = RIM_PX
) -> Array:
    """Return the boundary IoU of every matched pair.

    Parameters
    ----------
    reference_yx, prediction_yx : label images, as in `match`
    tau : least IoU of a pair, in (0, 1]
    rim_px : width d of the rims

    Returns
    -------
    shape (M,), in the order of the matched pairs; empty where none match
    """
    matching = match(reference_yx, prediction_yx)
    pairs = matching.matched(tau)
    if not len(pairs):
        return np.zeros(0)
    reference_ids = matching.reference_ids[matching.reference_index[pairs]]
    prediction_ids = matching.prediction_ids[matching.prediction_index[pairs]]
    windows = _windows(reference_yx, reference_ids), _windows(prediction_yx, prediction_ids)
    found = []
    for i, (a, b) in enumerate(zip(*windows, strict=True)):
        window = _joined(a, b)
        first = rim(reference_yx[window] == reference_ids[i], rim_px)
        second = rim(prediction_yx[window] == prediction_ids[i], rim_px)
        found.append(np.count_nonzero(first & second) / np.count_nonzero(first | second))
    return np.array(found)


def rim(mask_yx: Array, rim_px: int) -> Array:
    """Return the pixels of a mask whose distance to the nearest pixel outside is at most d.

    What lies beyond the array counts as outside, as in the paper.
    """
    distance = ndimage.distance_transform_edt(np.pad(mask_yx, 1))[1:-1, 1:-1]
    found: Array = mask_yx & (distance <= rim_px)
    return found


def _windows(labels_yx: Array, ids: Array) -> list[tuple[slice, slice]]:
    """Return the box of each object."""
    order = np.argsort(ids)
    place = np.minimum(np.searchsorted(ids[order], labels_yx), len(ids) - 1)
    boxes = ndimage.find_objects(np.where(ids[order][place] == labels_yx, place + 1, 0))
    windows: list[tuple[slice, slice]] = [boxes[0]] * len(ids)
    for row, box in zip(order.tolist(), boxes, strict=True):
        windows[row] = box
    return windows


def _joined(a: tuple[slice, slice], b: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return the smallest window that holds both."""
    y, x = (slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return y, x
