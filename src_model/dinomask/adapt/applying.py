"""Write corrections to labels, if these show what the corrections begin with."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt.finding import require_plane
from dinomask.adapt.geometry import Box, clip_box
from dinomask.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dinomask.adapt.events import Correction, Piece
    from dinomask.adapt.finding import Place
    from dinomask.adapt.label_store import LabelStore
    from dinomask.instances import Array


WHOLE_PX = 2**20
"""Corrections that span more are looked at square by square, where they have objects."""

_SQUARE_PX = 512


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
    planned = _planned(correction, store)
    is_changed = [_put(part, labels_yx, store, correction.plane) for part, labels_yx in planned]
    inform(store, correction)
    return correction.window_yxyx_px if any(is_changed) else None


def inform(store: LabelStore, correction: Correction) -> None:
    """Tell labels of the classes and whereabouts of what a correction left."""
    for piece in correction.after:
        store.set_class(piece.label, piece.class_id)
        store.remember(piece, correction.plane)


def compose(pieces: Iterable[Piece], window_yxyx_px: Box) -> Array:
    """Draw objects on a window, int64; 0 elsewhere, and nothing of what lies outside."""
    y0, x0, y1, x1 = window_yxyx_px
    labels_yx = np.zeros((y1 - y0, x1 - x0), np.int64)
    for piece in pieces:
        top, left, bottom, right = piece.box_yxyx_px
        a, b, c, d = max(y0, top), max(x0, left), min(y1, bottom), min(x1, right)
        mask_yx = piece.mask_yx[a - top : c - top, b - left : d - left]
        labels_yx[a - y0 : c - y0, b - x0 : d - x0][mask_yx] = piece.label
    return labels_yx


@dataclasses.dataclass(frozen=True)
class _Part:
    """What of a correction meets a window."""

    window_yxyx_px: Box
    before: tuple[Piece, ...]
    after: tuple[Piece, ...]


def _parts(correction: Correction) -> list[_Part]:
    """Cut a correction into windows, so that far-flung ones cost what they change."""
    whole = correction.window_yxyx_px
    if (whole[2] - whole[0]) * (whole[3] - whole[1]) <= WHOLE_PX:
        return [_Part(whole, correction.before, correction.after)]
    squares: dict[tuple[int, int], tuple[list[Piece], list[Piece]]] = {}
    for side, pieces in enumerate((correction.before, correction.after)):
        for piece in pieces:
            for square in _squares(piece.box_yxyx_px):
                squares.setdefault(square, ([], []))[side].append(piece)
    parts = []
    for (i, j), (before, after) in sorted(squares.items()):
        y, x = i * _SQUARE_PX, j * _SQUARE_PX
        top, left = max(y, whole[0]), max(x, whole[1])
        bottom, right = min(y + _SQUARE_PX, whole[2]), min(x + _SQUARE_PX, whole[3])
        parts.append(_Part((top, left, bottom, right), tuple(before), tuple(after)))
    return parts


def _squares(box: Box) -> Iterator[tuple[int, int]]:
    rows = range(box[0] // _SQUARE_PX, (box[2] - 1) // _SQUARE_PX + 1)
    columns = range(box[1] // _SQUARE_PX, (box[3] - 1) // _SQUARE_PX + 1)
    return itertools.product(rows, columns)


def _put(part: _Part, labels_yx: Array, store: LabelStore, plane: Place) -> bool:
    """Write the result of a correction on a window as read; tell whether a pixel is another."""
    window = part.window_yxyx_px
    before, after = compose(part.before, window), compose(part.after, window)
    covered = (before != 0) | (after != 0)
    new_yx = np.where(covered, after, labels_yx).astype(labels_yx.dtype)
    if (new_yx != labels_yx).any():
        store.write(window[:2], new_yx, plane)
    return bool((before != after).any())


def _planned(correction: Correction, store: LabelStore) -> list[tuple[_Part, Array]]:
    """Return the windows of a correction and their labels, after checking them."""
    require_plane(store, correction.plane)
    whole = correction.window_yxyx_px
    if clip_box(whole, store.shape_yx) != whole:
        raise _conflict(expected=f"labels that reach to {whole[2:]}", got=f"{store.shape_yx}")
    planned = []
    for part in _parts(correction):
        labels_yx = store.read(part.window_yxyx_px, correction.plane)
        _require_shown(correction, part, labels_yx)
        planned.append((part, labels_yx))
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
    return planned


def _require_shown(correction: Correction, part: _Part, labels_yx: Array) -> None:
    """Check that a window shows what the correction begins with."""
    window = part.window_yxyx_px
    before = compose(part.before, window)
    involved = np.isin(labels_yx, correction.labels)
    drawn = compose(part.after, window) != 0
    wrong = (np.where(involved, labels_yx, 0) != before) | (drawn & (labels_yx != before))
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise _conflict(
            expected=f"the label {before[y, x]} at y {window[0] + y}, x {window[1] + x}, which "
            f"the correction ({correction.kind}) begins with",
            got=f"{labels_yx[y, x]} there, and {int(wrong.sum())} pixels in all that differ",
        )


def _conflict(expected: str, got: str) -> ConflictError:
    return ConflictError(
        expected=expected,
        got=got,
        remedy="The labels were changed elsewhere, or corrected differently; nothing was "
        "changed now. Look at the object and correct it as it is.",
    )
