"""Where somebody who knows the truth would click to make labels right; points are (y, x)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dinomask.measure.matching import match

Array = npt.NDArray[np.integer]
Point = tuple[float, float]

FITS_IOU = 0.6
"""A cell drawn less well than this is drawn anew."""

HALF_SHARE = 0.25
"""Two cells were found as one where each is at least this share of what was found."""

BEYOND_PX = 3
"""How far a line across a cell begins and ends outside of it."""

NEAR_PX = 2
"""Pixels this far from a line count as those that it crosses."""


def unmatched(one: Array, other: Array) -> list[int]:
    """Return the labels of one image that none of the other fits."""
    matching = match(one, other)
    fitted = matching.reference_index[matching.matched(FITS_IOU)]
    return [int(i) for i in np.delete(matching.reference_ids, fitted)]


def missed_points(truth: Array, labels: Array) -> list[Point]:
    """Return points inside true cells of which nothing was found."""
    points = []
    for label, box in enumerate(ndimage.find_objects(truth), 1):
        if box is None or min(b.start for b in box) < 4:
            continue
        mask = truth[box] == label
        if (labels[box][mask] > 0).mean() < 0.1:
            y, x = deepest_point(mask)
            points.append((box[0].start + y, box[1].start + x))
    return points


def false_point(truth: Array, labels: Array) -> Point:
    """Return a point in the found object that is least on true cells."""
    ids = np.unique(labels[labels > 0])
    on_cells = [(truth[labels == i] > 0).mean() for i in ids]
    rows, cols = np.nonzero(labels == ids[int(np.argmin(on_cells))])
    middle = len(rows) // 2
    return rows[middle] + 0.5, cols[middle] + 0.5


def line_between(truth: Array, labels: Array) -> list[Point]:
    """Return a line between two cells that were found as one; if none were, across the largest."""
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    for label in ids[np.argsort(-areas)]:
        found = labels == label
        cells, shares = np.unique(truth[found & (truth > 0)], return_counts=True)
        order = np.argsort(-shares)[:2]
        if len(cells) < 2 or shares[order[1]] < HALF_SHARE * np.count_nonzero(found):
            continue
        one, other = (np.argwhere(found & (truth == cell)).mean(0) + 0.5 for cell in cells[order])
        along = (other - one) / np.hypot(*(other - one))
        across = np.array([along[1], -along[0]])
        middle = (one + other) / 2
        offsets = np.argwhere(found) + 0.5 - middle
        near = np.abs(offsets @ along) < NEAR_PX
        extent = offsets[near] @ across
        low, high = extent.min(initial=0) - BEYOND_PX, extent.max(initial=0) + BEYOND_PX
        ends = middle + low * across, middle + high * across
        return [(float(y), float(x)) for y, x in ends]
    rows, cols = np.nonzero(labels == ids[int(areas.argmax())])
    x = (cols.min() + cols.max() + 1) / 2
    return [(rows.min() - BEYOND_PX, x), (rows.max() + 1 + BEYOND_PX, x)]


def deepest_point(mask_yx: npt.NDArray[np.bool_]) -> Point:
    """Return the point of a mask that is farthest from its edge."""
    deep = ndimage.distance_transform_edt(np.pad(mask_yx, 1))
    y, x = np.unravel_index(deep.argmax(), deep.shape)
    return float(y) - 0.5, float(x) - 0.5
