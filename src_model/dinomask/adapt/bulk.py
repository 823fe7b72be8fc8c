"""Plan one correction of many objects at once, which one step takes back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinomask.adapt.events import Correction, Piece
from dinomask.adapt.finding import Place, require_plane
from dinomask.errors import CorrectionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dinomask.adapt.label_store import LabelStore
    from dinomask.instances import Array

_LARGEST_TABLE = 2**26
"""Labels above this are looked for, as a table up to them would take too much memory."""


def remove_all(store: LabelStore, labels: Iterable[int], *, plane: Place = ()) -> Correction:
    """Plan to delete objects; those that aren't there are passed over.

    Parameters
    ----------
    store : the labels, of which a plane is read whole
    labels : of the objects
    plane : index on the axes before y and x

    Raises
    ------
    CorrectionError
        If none of them is there.
    """
    pieces = find_all(store, labels, plane)
    return Correction("remove", pieces, (), tuple(plane))


def accept_all(store: LabelStore, labels: Iterable[int], *, plane: Place = ()) -> Correction:
    """Plan to say that objects are right as they are; parameters as for `remove_all`."""
    pieces = find_all(store, labels, plane)
    return Correction("accept", pieces, pieces, tuple(plane))


def classify_all(store: LabelStore, classes: Mapping[int, int], *, plane: Place = ()) -> Correction:
    """Plan to say of which classes objects are, which also says that their outlines are right.

    Parameters
    ----------
    store : the labels, of which a plane is read whole
    classes : class of each label, 0 or more
    plane : index on the axes before y and x

    Raises
    ------
    CorrectionError
        If none of them is there, or a class is negative.
    """
    if min(classes.values(), default=0) < 0:
        raise CorrectionError(
            expected="classes of 0 or more",
            got=str(min(classes.values())),
            remedy="Choose among the classes.",
        )
    old = find_all(store, classes, plane)
    new = tuple(dataclasses.replace(piece, class_id=classes[piece.label]) for piece in old)
    return Correction("classify", old, new, tuple(plane))


def find_all(store: LabelStore, labels: Iterable[int], plane: Place = ()) -> tuple[Piece, ...]:
    """Return objects, whole, in the order of their labels; in one look at the plane.

    Raises
    ------
    CorrectionError
        If none of them is there.
    """
    require_plane(store, plane)
    wanted = np.unique(np.fromiter(labels, np.int64))
    wanted = wanted[wanted > 0]
    numbers_yx = _numbered(store.read((0, 0, *store.shape_yx), plane), wanted)
    boxes = ndimage.find_objects(numbers_yx, max_label=len(wanted))
    pieces = []
    for number, (label, box) in enumerate(zip(wanted.tolist(), boxes, strict=True), start=1):
        if box is None:
            continue
        corner = (box[0].start, box[1].start)
        pieces.append(Piece(label, corner, numbers_yx[box] == number, store.class_of(label)))
    if not pieces:
        raise CorrectionError(
            expected="objects that are there",
            got=f"{len(wanted)} that aren't",
            remedy="Choose cells that are on display.",
        )
    return tuple(pieces)


def _numbered(labels_yx: Array, wanted: Array) -> Array:
    """Give the wanted labels numbers from 1, in order, and all others 0."""
    if not len(wanted) or int(wanted[-1]) >= _LARGEST_TABLE:
        place = np.searchsorted(wanted, labels_yx).clip(max=max(len(wanted) - 1, 0))
        found = np.isin(labels_yx, wanted)
        return np.where(found, place + 1, 0).astype(np.int32)
    # one more, for labels above the last
    number_of = np.zeros(int(wanted[-1]) + 2, np.int32)
    number_of[wanted] = np.arange(1, len(wanted) + 1)
    return np.take(number_of, labels_yx, mode="clip")
