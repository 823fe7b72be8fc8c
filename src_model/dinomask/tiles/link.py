"""Link the instances of neighbouring planes into 3-D objects or tracks.

Planes come one after another; what is kept of earlier ones is the last label
image and, to bridge a gap, what of the one before it found no partner.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dinomask.instances import Array
    from dinomask.tiles.plan import Box


class LabelPlane(Protocol):
    """A label image that can be gone through again and again."""

    @property
    def n_labels(self) -> int:
        """The highest label."""
        ...

    @property
    def shape_yx(self) -> tuple[int, int]:
        """In pixels."""
        ...

    def windows(self) -> Iterable[tuple[Box, Array]]:
        """Yield pieces that partition the plane, in one fixed order, the same for all planes."""
        ...


@dataclasses.dataclass(frozen=True)
class Extents:
    """How large the labels of a plane are and where they begin.

    Attributes
    ----------
    areas_px : shape (n + 1,), int64; by label, 0 is the background
    first_px : shape (n + 1,), int64; number, row by row, of the first pixel; it tells labels
        apart by place, so that ties don't depend on numbering
    """

    areas_px: Array
    first_px: Array

    @staticmethod
    def of(plane: LabelPlane) -> Extents:
        """Measure a plane in one pass."""
        areas = np.zeros(plane.n_labels + 1, np.int64)
        first = np.full(plane.n_labels + 1, np.iinfo(np.int64).max)
        for (y0, x0, y1, x1), labels_yx in plane.windows():
            areas += np.bincount(labels_yx.ravel(), minlength=len(areas))
            number = np.arange(y0, y1)[:, None] * plane.shape_yx[1] + np.arange(x0, x1)
            here = np.full_like(first, np.iinfo(np.int64).max)
            # of several writes to one place the last stays: backwards, the first pixel
            here[labels_yx.ravel()[::-1]] = number.ravel()[::-1]
            first = np.minimum(first, here)
        return Extents(areas, first)


def count_overlaps(a: LabelPlane, b: LabelPlane) -> tuple[Array, Array, Array]:
    """Count the pixels that labels of two planes share.

    Returns
    -------
    labels of a, labels of b, shared pixels: each of shape (P,), int64, ordered
    by the labels; pairs that share no pixel are left out
    """
    n = b.n_labels + 1
    keys, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for (_, of_a), (_, of_b) in zip(a.windows(), b.windows(), strict=True):
        both = (of_a > 0) & (of_b > 0)
        found, count = np.unique(of_a[both].astype(np.int64) * n + of_b[both], return_counts=True)
        keys.append(found)
        counts.append(count)
    pairs, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    shared = np.zeros(len(pairs), np.int64)
    np.add.at(shared, inverse, np.concatenate(counts))
    return pairs // n, pairs % n, shared


def match_labels(
    pairs: tuple[Array, Array, Array], a: Extents, b: Extents, iou: float
) -> tuple[Array, Array]:
    """Match labels of two planes one to one: those that are each other's best.

    Two labels match if neither overlaps another by a higher IoU, and theirs
    reaches `iou`. Of equal ones the partner whose first pixel comes first wins.

    Parameters
    ----------
    pairs : as `count_overlaps` returns
    a, b : extents of the two planes
    iou : lowest IoU of a match, above 0

    Returns
    -------
    labels of a and of b, each of shape (M,), ordered by those of a

    Notes
    -----
    Labels of one plane don't overlap, so above an IoU of one half a label has
    at most one partner, and every assignment (greedy, Hungarian, this one)
    gives the same. Below, an optimal assignment may take from two objects that
    are each other's best to give a third one a partner; as its sum over the
    plane grows, touching objects exchange their ends. Being each other's best
    depends on the two objects and their neighbours alone, so that an object far
    away changes nothing, and costs one sort.
    """
    of_a, of_b, shared = pairs
    union = a.areas_px[of_a] + b.areas_px[of_b] - shared
    # equal fractions give equal floats: division is correctly rounded
    overlap = shared / np.maximum(union, 1)
    enough = overlap >= iou
    of_a, of_b, overlap = of_a[enough], of_b[enough], overlap[enough]
    best_of_a = _best(of_a, overlap, b.first_px[of_b])
    best_of_b = _best(of_b, overlap, a.first_px[of_a])
    mutual = best_of_a & best_of_b
    return of_a[mutual], of_b[mutual]


def _best(group: Array, overlap: Array, first_px: Array) -> Array:
    """Mark the best pair of each group, shape (P,), bool."""
    order = np.lexsort((first_px, -overlap, group))
    ordered = group[order]
    marks = np.zeros(len(group), bool)
    marks[order[np.flatnonzero(np.diff(ordered, prepend=-1))]] = True
    return marks


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A plane that was linked: its labels, their extents and their objects."""

    plane: LabelPlane
    extents: Extents
    objects: Array
    taken: Array
    """Which labels have a partner in the next plane, shape (n + 1,), bool."""


class PlaneLinker:
    """Gives instances of successive planes the number of the object they are part of.

    Parameters
    ----------
    iou : lowest IoU of two instances of one object in neighbouring planes
    bridge : link what finds no partner in a plane with the next but one
    """

    def __init__(self, iou: float, bridge: bool = False) -> None:
        self.iou = iou
        self.bridge = bridge
        self.n_objects = 0
        self._last: _Seen | None = None
        self._before: _Seen | None = None

    def restart(self) -> None:
        """Begin another stack: nothing that follows is linked with what was."""
        self._last = self._before = None

    def add(self, plane: LabelPlane) -> Array:
        """Link the next plane.

        Returns
        -------
        shape (n + 1,), uint32; the object of each label, 0 for the background.
        Objects are numbered from 1 as they appear; labels without pixels have none.
        """
        extents = Extents.of(plane)
        objects = np.zeros(plane.n_labels + 1, np.uint32)
        if self._last is not None:
            self._inherit(self._last, plane, extents, objects)
        if self.bridge and self._before is not None:
            self._inherit(self._before, plane, extents, objects)
        new = (objects == 0) & (extents.areas_px > 0)
        new[0] = False
        n_new = int(np.count_nonzero(new))
        objects[new] = np.arange(self.n_objects + 1, self.n_objects + n_new + 1)
        self.n_objects += n_new
        self._before = self._last if self.bridge else None
        self._last = _Seen(plane, extents, objects, np.zeros(len(objects), bool))
        return objects

    def _inherit(self, seen: _Seen, plane: LabelPlane, extents: Extents, objects: Array) -> None:
        """Give labels without an object that of their partners in a plane seen before."""
        of_a, of_b, shared = count_overlaps(seen.plane, plane)
        free = ~seen.taken[of_a] & (objects[of_b] == 0)
        pairs = (of_a[free], of_b[free], shared[free])
        mine, theirs = match_labels(pairs, seen.extents, extents, self.iou)
        objects[theirs] = seen.objects[mine]
        seen.taken[mine] = True
