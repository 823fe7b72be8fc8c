"""Bring labels up to what a journal says, after a crash between the two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt.finding import require_plane
from dinomask.adapt.geometry import clip_box
from dinomask.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.adapt.events import Correction, Piece
    from dinomask.adapt.finding import Place
    from dinomask.adapt.geometry import Box
    from dinomask.adapt.label_store import LabelStore
    from dinomask.instances import Array

_BLOCK_PX = 256


def catch_up(effects: Sequence[Correction], store: LabelStore) -> int:
    """Let labels show the outcome of corrections, of which they show some or parts of some.

    Every pixel must have a label that it had at one time in the course of these corrections:
    then it was only left behind, and gets its last one. It doesn't matter which were written,
    in what order, and which only in part.

    Parameters
    ----------
    effects : what was done, in order
    store : the labels

    Returns
    -------
    Number of pixels written.

    Raises
    ------
    ConflictError
        If a pixel has another label; then nothing is changed.
    OutputError
        If the labels can't be written.
    """
    blocks: dict[tuple[Place, int, int], _Block] = {}
    for correction in effects:
        require_plane(store, correction.plane)
        for i, j in _blocks_of(correction):
            box = clip_box(_box(i, j), store.shape_yx)
            place = (correction.plane, i, j)
            if place not in blocks:
                blocks[place] = _Block(store.read(box, correction.plane), box)
            blocks[place].follow(correction)
    for (plane, _, _), block in blocks.items():
        block.require_known(plane)
    # a crash in the last one may have come between the levels of a pyramid
    due = {(effects[-1].plane, i, j) for i, j in _blocks_of(effects[-1])} if effects else set()
    return sum(block.write(store, place[0], place in due) for place, block in blocks.items())


class _Block:
    """A square of labels, what they should be in the end, and which were met on the way."""

    def __init__(self, now_yx: Array, box: Box) -> None:
        self.now_yx = now_yx
        self.box = box
        self.last_yx = now_yx.astype(np.int64)
        self.is_known = np.zeros(now_yx.shape, bool)
        self.is_touched = np.zeros(now_yx.shape, bool)

    def follow(self, correction: Correction) -> None:
        before = _drawn(correction.before, self.box)
        after = _drawn(correction.after, self.box)
        touched = (before != 0) | (after != 0)
        self.is_known |= touched & ((self.now_yx == before) | (self.now_yx == after))
        self.last_yx[touched] = after[touched]
        self.is_touched |= touched

    def require_known(self, plane: Place) -> None:
        strange = self.is_touched & ~self.is_known
        if strange.any():
            y, x = np.argwhere(strange)[0]
            where = f"y {self.box[0] + y}, x {self.box[1] + x}"
            raise ConflictError(
                expected="labels as the journal left them",
                got=f"{self.now_yx[y, x]} at {where}{f', plane {plane}' if plane else ''}, "
                "which no correction put there",
                remedy="The labels were changed elsewhere, or are others; bring those back that "
                "the journal belongs to, or move the journal away.",
            )

    def write(self, store: LabelStore, plane: Place, is_due: bool) -> int:
        n = int((self.last_yx != self.now_yx).sum())
        if n or is_due:
            store.write(self.box[:2], self.last_yx.astype(self.now_yx.dtype), plane)
        return n


def _drawn(pieces: Sequence[Piece], box: Box) -> Array:
    labels_yx = np.zeros((box[2] - box[0], box[3] - box[1]), np.int64)
    for piece in pieces:
        if _meet(piece.box_yxyx_px, box):
            labels_yx[piece.within(box)] = piece.label
    return labels_yx


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _blocks_of(correction: Correction) -> list[tuple[int, int]]:
    y0, x0, y1, x1 = correction.window_yxyx_px
    rows = range(y0 // _BLOCK_PX, -(-y1 // _BLOCK_PX))
    columns = range(x0 // _BLOCK_PX, -(-x1 // _BLOCK_PX))
    return [(i, j) for i in rows for j in columns]


def _box(i: int, j: int) -> Box:
    y, x = i * _BLOCK_PX, j * _BLOCK_PX
    return y, x, y + _BLOCK_PX, x + _BLOCK_PX
