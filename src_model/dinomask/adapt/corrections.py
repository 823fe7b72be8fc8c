"""Plan corrections of a label image, and apply them.

The functions named after the kinds of corrections only look: they return what would be changed,
with everything that is needed to take it back. `apply` writes it, if the labels still show what
was planned for. Whoever paints over another object takes its pixels, so that object is part of
the correction.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt.applying import apply, check
from dinomask.adapt.events import Correction, Kind, Piece
from dinomask.adapt.finding import Place, require_plane
from dinomask.adapt.geometry import Box, clip_box, grow_box, join_masks, split_mask, union_box
from dinomask.adapt.pieces import (
    drawn_piece,
    object_at,
    on_free_pixels,
    require_modest,
    sorted_pieces,
)
from dinomask.adapt.reviewed import Reviewed
from dinomask.errors import CorrectionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.adapt.label_store import LabelStore
    from dinomask.instances import Array

__all__ = [
    "Correction",
    "Kind",
    "Piece",
    "Reviewed",
    "accept",
    "add",
    "apply",
    "check",
    "classify",
    "label_at",
    "merge",
    "redraw",
    "remove",
    "replace",
    "split",
]


def label_at(store: LabelStore, point_yx_px: Sequence[float], plane: Place = ()) -> int:
    """Return the label at a point; 0 on background and outside the image."""
    y, x = (int(np.floor(n)) for n in point_yx_px)
    box = clip_box((y, x, y + 1, x + 1), store.shape_yx)
    if box != (y, x, y + 1, x + 1):
        return 0
    return int(store.read(box, plane)[0, 0])


def add(
    store: LabelStore,
    mask_yx: Array,
    corner_yx_px: tuple[int, int],
    *,
    plane: Place = (),
    class_id: int = 0,
    keep_others: bool = False,
) -> Correction:
    """Plan a new object.

    Parameters
    ----------
    store : the labels
    mask_yx : bool; what reaches beyond the image is cut off
    corner_yx_px : where the mask begins
    plane : index on the axes before y and x
    class_id : of the object
    keep_others : take background only, instead of painting over other objects

    Raises
    ------
    CorrectionError
        If no pixel is left.
    OutputError
        If there is no label left for it.
    """
    label = store.next_id()
    piece = drawn_piece(store, label, mask_yx, corner_yx_px, class_id)
    return replace(store, "add", [], [piece], plane, keep_others=keep_others)


def remove(
    store: LabelStore, label: int, *, plane: Place = (), near: Box | None = None
) -> Correction:
    """Plan to delete an object.

    Parameters
    ----------
    store : the labels
    label : of the object
    plane : index on the axes before y and x
    near : a window that shows some of the object, such as the pixel clicked at; without it
        the object is looked for everywhere

    Raises
    ------
    CorrectionError
        If it isn't there.
    """
    return replace(store, "remove", [object_at(store, label, near, plane)], [], plane)


def redraw(
    store: LabelStore,
    label: int,
    mask_yx: Array,
    corner_yx_px: tuple[int, int],
    *,
    plane: Place = (),
    near: Box | None = None,
    keep_others: bool = False,
) -> Correction:
    """Plan another outline of an object; parameters as for `add` and `remove`.

    Raises
    ------
    CorrectionError
        If the object isn't there, or no pixel would be left.
    """
    old = object_at(store, label, near, plane)
    new = drawn_piece(store, label, mask_yx, corner_yx_px, old.class_id)
    return replace(store, "redraw", [old], [new], plane, keep_others=keep_others)


def merge(
    store: LabelStore,
    labels: Sequence[int],
    *,
    plane: Place = (),
    near: Box | None = None,
    fill_gap_px: int = 2,
) -> Correction:
    """Plan to make one object of several, that touch or lie apart.

    Parameters
    ----------
    store : the labels
    labels : two or more; the first keeps its label and class
    plane : index on the axes before y and x
    near : a window that shows some of each
    fill_gap_px : background gaps between them up to twice this wide are filled

    Raises
    ------
    CorrectionError
        If there are fewer than two, one isn't there, or they lie too far apart to be one.
    """
    names = list(dict.fromkeys(int(label) for label in labels))
    if len(names) < 2:
        raise CorrectionError(
            expected="two objects or more, to merge them",
            got=f"the labels {names}",
            remedy="Click at one, then at the other.",
        )
    pieces = [object_at(store, label, near, plane) for label in names]
    box = union_box(piece.box_yxyx_px for piece in pieces)
    window = grow_box(box, fill_gap_px, store.shape_yx)
    require_modest(window)
    free_yx = store.read(window, plane) == 0
    joined = join_masks([piece.within(window) for piece in pieces], free_yx, fill_gap_px)
    kept = Piece(names[0], window[:2], joined, pieces[0].class_id)
    return replace(store, "merge", pieces, [kept], plane)


def split(
    store: LabelStore,
    label: int,
    line_yx_px: Array,
    *,
    plane: Place = (),
    near: Box | None = None,
) -> Correction:
    """Plan to cut an object along a line; the largest part keeps the label, all keep the class.

    Parameters
    ----------
    store : the labels
    label : of the object
    line_yx_px : shape (N, 2), as `dinomask.adapt.geometry.split_mask` takes it
    plane : index on the axes before y and x
    near : a window that shows some of the object

    Raises
    ------
    CorrectionError
        If the object isn't there, or the line can't part it.
    OutputError
        If there are no labels left for the parts.
    """
    old = object_at(store, label, near, plane)
    parts = split_mask(old.mask_yx, line_yx_px, old.corner_yx_px)
    first_new = store.next_id()
    pieces = []
    for k in range(1, int(parts.max()) + 1):
        name = label if k == 1 else first_new + k - 2
        pieces.append(Piece(name, old.corner_yx_px, parts == k, old.class_id))
    return replace(store, "split", [old], pieces, plane)


def classify(
    store: LabelStore,
    label: int,
    class_id: int,
    *,
    plane: Place = (),
    near: Box | None = None,
) -> Correction:
    """Plan to say of which class an object is, which also says that its outline is right.

    Raises
    ------
    CorrectionError
        If the object isn't there, or the class is negative.
    """
    if class_id < 0:
        raise CorrectionError(
            expected="a class of 0 or more",
            got=str(class_id),
            remedy="Choose one of the classes.",
        )
    old = object_at(store, label, near, plane)
    new = dataclasses.replace(old, class_id=class_id)
    return Correction("classify", (old,), (new,), tuple(plane))


def accept(
    store: LabelStore, label: int, *, plane: Place = (), near: Box | None = None
) -> Correction:
    """Plan to say that an object is right as it is.

    Raises
    ------
    CorrectionError
        If it isn't there.
    """
    old = object_at(store, label, near, plane)
    return Correction("accept", (old,), (old,), tuple(plane))


def replace(
    store: LabelStore,
    kind: Kind,
    gone: Sequence[Piece],
    drawn: Sequence[Piece],
    plane: Place = (),
    *,
    keep_others: bool = False,
) -> Correction:
    """Plan that some objects give way to others; the step that all kinds are made of.

    Parameters
    ----------
    store : the labels
    kind : what it is called
    gone : objects as they are now, whole
    drawn : what is to be there; no two overlap
    plane : index on the axes before y and x
    keep_others : take background and the pixels of `gone` only

    Raises
    ------
    CorrectionError
        If nothing of a drawing is left, or it spans too much.
    """
    require_plane(store, plane)
    names = [piece.label for piece in gone]
    if keep_others:
        drawn = [on_free_pixels(store, piece, names, plane) for piece in drawn]
    require_modest(union_box(piece.box_yxyx_px for piece in (*gone, *drawn)))
    others: dict[int, Piece] = {}
    for piece in drawn:
        under = store.read(piece.box_yxyx_px, plane)[piece.mask_yx]
        for label in np.unique(under).tolist():
            if label and label not in names and label not in others:
                others[label] = store.find(label, piece.box_yxyx_px, plane)
    rests = [other.without(drawn) for other in others.values()]
    return Correction(
        kind,
        sorted_pieces([*gone, *others.values()]),
        sorted_pieces([*drawn, *(rest for rest in rests if rest is not None)]),
        tuple(plane),
    )
