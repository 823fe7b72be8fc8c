"""Objects as corrections hold them: found, drawn, and kept off what belongs to others."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt.events import Piece
from dinomask.adapt.geometry import Box, clip_box
from dinomask.errors import CorrectionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dinomask.adapt.finding import Place
    from dinomask.adapt.label_store import LabelStore
    from dinomask.instances import Array

LARGEST_WINDOW_PX = 2**28
"""Largest window that one correction may span: a gigabyte of labels."""


def object_at(store: LabelStore, label: int, near: Box | None, plane: Place) -> Piece:
    """Return an object by its label.

    Raises
    ------
    CorrectionError
        If it is the background, or there is none.
    """
    if label <= 0:
        raise CorrectionError(
            expected="an object",
            got="background",
            remedy="Click at an object.",
        )
    return store.find(int(label), near, plane)


def drawn_piece(
    store: LabelStore, label: int, mask_yx: Array, corner_yx_px: tuple[int, int], class_id: int
) -> Piece:
    """Return a drawing as far as it lies in the image."""
    mask_yx = np.asarray(mask_yx, bool)
    (y, x), (height, width) = (int(n) for n in corner_yx_px), mask_yx.shape
    a, b, c, d = clip_box((y, x, y + height, x + width), store.shape_yx)
    return Piece(label, (a, b), mask_yx[max(0, a - y) : c - y, max(0, b - x) : d - x], class_id)


def on_free_pixels(store: LabelStore, piece: Piece, names: list[int], plane: Place) -> Piece:
    """Return a piece without the pixels of other objects than those named.

    Raises
    ------
    CorrectionError
        If nothing is left.
    """
    now = store.read(piece.box_yxyx_px, plane)
    free = (now == 0) | np.isin(now, names)
    if not (piece.mask_yx & free).any():
        raise CorrectionError(
            expected="an object with a pixel of its own",
            got="one that lies on other objects altogether",
            remedy="Redraw or remove the objects that are there.",
        )
    return dataclasses.replace(piece, mask_yx=piece.mask_yx & free)


def require_modest(window: Box) -> None:
    """Refuse a correction that spans more than memory should hold.

    Raises
    ------
    CorrectionError
        If its window is larger than `LARGEST_WINDOW_PX`.
    """
    height, width = window[2] - window[0], window[3] - window[1]
    if height * width > LARGEST_WINDOW_PX:
        raise CorrectionError(
            expected=f"a correction within {LARGEST_WINDOW_PX:,} pixels",
            got=f"one that spans {height:,} × {width:,}",
            remedy="Correct objects that lie nearer to each other.",
        )


def sorted_pieces(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """Order pieces by their labels, so that equal corrections are written alike."""
    return tuple(sorted(pieces, key=lambda piece: piece.label))
