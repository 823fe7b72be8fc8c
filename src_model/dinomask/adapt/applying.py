"""Write corrections to labels, if these show what the corrections begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt.finding import require_plane
from dinomask.adapt.geometry import Box, clip_box
from dinomask.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dinomask.adapt.events import Correction, Piece
    from dinomask.adapt.label_store import LabelStore
    from dinomask.instances import Array


def check(correction: Correction, store: LabelStore) -> None:
    """Check that the labels show what a correction begins with.

    Raises
    ------
    ConflictError
        If they don't: an object is missing, has other pixels or another class; or a new one
        would cover what the correction doesn't know of.
    """
    _planned(correction, store)


def apply(correction: Correction, store: LabelStore) -> Box | None:
    """Write what a correction changes.

    In the application `dinomask.adapt.journal.Journal.carry_out` does it, so that the
    correction is on record before.

    Returns
    -------
    The window written; None if no pixel is another (classify, accept).

    Raises
    ------
    ConflictError
        If the labels don't show what it begins with; then nothing is changed.
    OutputError
        If they can't be written.
    """
    window, labels_yx = _planned(correction, store)
    return put(correction, store, window, labels_yx)


def put(correction: Correction, store: LabelStore, window: Box, labels_yx: Array) -> Box | None:
    """Write the result of a correction on a window as read, and its classes."""
    after = compose(correction.after, window)
    changed = compose(correction.before, window) != after
    new_yx = np.where(_covered(correction, window), after, labels_yx).astype(labels_yx.dtype)
    if (new_yx != labels_yx).any():
        store.write(window[:2], new_yx, correction.plane)
    inform(store, correction)
    return window if changed.any() else None


def inform(store: LabelStore, correction: Correction) -> None:
    """Tell labels of the classes and whereabouts of what a correction left."""
    for piece in correction.after:
        store.set_class(piece.label, piece.class_id)
        store.remember(piece, correction.plane)


def compose(pieces: Iterable[Piece], window_yxyx_px: Box) -> Array:
    """Draw objects on a window, int64; 0 elsewhere."""
    y0, x0, y1, x1 = window_yxyx_px
    labels_yx = np.zeros((y1 - y0, x1 - x0), np.int64)
    for piece in pieces:
        top, left, bottom, right = piece.box_yxyx_px
        labels_yx[top - y0 : bottom - y0, left - x0 : right - x0][piece.mask_yx] = piece.label
    return labels_yx


def _covered(correction: Correction, window: Box) -> Array:
    return np.asarray(compose((*correction.before, *correction.after), window) != 0)


def _planned(correction: Correction, store: LabelStore) -> tuple[Box, Array]:
    """Return a correction's window and its labels, after checking them."""
    require_plane(store, correction.plane)
    window = correction.window_yxyx_px
    if clip_box(window, store.shape_yx) != window:
        raise _conflict(expected=f"labels that reach to {window[2:]}", got=f"{store.shape_yx}")
    labels_yx = store.read(window, correction.plane)
    before = compose(correction.before, window)
    involved = np.isin(labels_yx, correction.labels)
    drawn = compose(correction.after, window) != 0
    wrong = (np.where(involved, labels_yx, 0) != before) | (drawn & (labels_yx != before))
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise _conflict(
            expected=f"the label {before[y, x]} at y {window[0] + y}, x {window[1] + x}, which "
            f"the correction ({correction.kind}) begins with",
            got=f"{labels_yx[y, x]} there, and {int(wrong.sum())} pixels in all that differ",
        )
    largest = max((piece.label for piece in correction.after), default=0)
    if largest > store.max_id:
        raise _conflict(expected=f"labels up to {store.max_id}", got=str(largest))
    if correction.kind == "classify":
        for piece in correction.before:
            known = store.class_of(piece.label)
            if known != piece.class_id:
                raise _conflict(
                    expected=f"the object {piece.label} of class {piece.class_id}",
                    got=f"class {known}",
                )
    return window, labels_yx


def _conflict(expected: str, got: str) -> ConflictError:
    return ConflictError(
        expected=expected,
        got=got,
        remedy="The labels were changed elsewhere, or corrected differently; nothing was "
        "changed now. Look at the object and correct it as it is.",
    )
