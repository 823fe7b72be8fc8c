"""Where the names of points in a plot go, so that they don't lie on each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.instances import Array

Anchor = tuple[float, float]
"""Which place of a name's box lies on its point: 0, 0 is its upper left corner."""

ANCHORS: tuple[Anchor, ...] = (
    (0.5, 1.4),
    (0.5, -0.4),
    (-0.08, 0.5),
    (1.08, 0.5),
    (-0.04, 1.2),
    (-0.04, -0.2),
    (1.04, 1.2),
    (1.04, -0.2),
    (0.5, 2.6),
    (0.5, -1.6),
)
"""Above, below, beside, at a slant, farther above and below: the first that is free is taken."""

_POINT_PX = 6.0
"""Side of the square that a point keeps free."""


def spread_names(points_xy: Array, sizes_xy: Array, shape_xy: tuple[float, float]) -> list[Anchor]:
    """Choose for each name the side of its point where it covers least.

    Earlier names choose first.

    Parameters
    ----------
    points_xy : shape (M, 2), in pixels from the upper left corner of the plot
    sizes_xy : shape (N, 2), width and height in pixels of the names of the first N points
    shape_xy : width and height of the plot

    Returns
    -------
    N of `ANCHORS`
    """
    points, sizes = np.asarray(points_xy, np.float64), np.asarray(sizes_xy, np.float64)
    half = _POINT_PX / 2
    taken = [np.concatenate([point - half, point + half]) for point in points]
    chosen = []
    for point, size in zip(points[: len(sizes)], sizes, strict=True):
        boxes = [_box(point, size, anchor) for anchor in ANCHORS]
        covered = [_covered(box, taken) + _outside(box, shape_xy) for box in boxes]
        best = int(np.argmin(covered))
        taken.append(boxes[best])
        chosen.append(ANCHORS[best])
    return chosen


def _box(point: Array, size: Array, anchor: Anchor) -> Array:
    corner = point - size * np.array(anchor)
    return np.concatenate([corner, corner + size])


def _covered(box: Array, taken: Sequence[Array]) -> float:
    others = np.stack(taken)
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return float(sides.clip(min=0).prod(axis=1).sum())


def _outside(box: Array, shape_xy: tuple[float, float]) -> float:
    inside = np.minimum(box[2:], shape_xy) - np.maximum(box[:2], 0)
    return float((box[2:] - box[:2]).prod() - inside.clip(min=0).prod())
