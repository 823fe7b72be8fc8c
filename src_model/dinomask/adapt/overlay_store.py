"""Changes on top of a label image that itself is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dinomask.adapt.finding import find_around, next_after, not_there, require_plane
from dinomask.adapt.geometry import Box, clip_box

if TYPE_CHECKING:
    from dinomask.adapt.events import Piece
    from dinomask.adapt.finding import Place
    from dinomask.adapt.label_store import LabelStore
    from dinomask.instances import Array

_BLOCK_PX = 256


class OverlayStore:
    """Changes on top of another label image, which itself is left alone.

    Parameters
    ----------
    base : what lies below
    """

    def __init__(self, base: LabelStore) -> None:
        self.base = base
        self._extents: dict[tuple[Place, int], Box] = {}
        self._blocks: dict[tuple[Place, int, int], Array] = {}
        self._classes: dict[int, int] = {}
        self._highest = 0

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width."""
        return self.base.shape_yx

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes before y and x."""
        return self.base.leading

    @property
    def max_id(self) -> int:
        """The largest label that can be written."""
        return self.base.max_id

    def read(self, window_yxyx_px: Box, plane: Place = ()) -> Array:
        """Return the labels of a window, changed ones on top."""
        labels_yx = self.base.read(window_yxyx_px, plane)
        for key, block in self._touching(window_yxyx_px):
            if (tuple(plane), *key) in self._blocks:
                here, there = _overlap(window_yxyx_px, block)
                labels_yx[here] = self._blocks[(tuple(plane), *key)][there]
        return labels_yx

    def write(self, corner_yx_px: tuple[int, int], labels_yx: Array, plane: Place = ()) -> None:
        """Change labels, on top only."""
        (y, x), (height, width) = corner_yx_px, labels_yx.shape
        window = (y, x, y + height, x + width)
        self._highest = max(self._highest, int(labels_yx.max(initial=0)))
        for key, block in self._touching(window):
            place = (tuple(plane), *key)
            if place not in self._blocks:
                self._blocks[place] = self.base.read(block, plane)
            here, there = _overlap(window, block)
            self._blocks[place][there] = labels_yx[here]

    def changed(self) -> list[tuple[Place, Box]]:
        """Return the plane and the window of every block that was written to."""
        return [(plane, self._block(i, j)) for plane, i, j in self._blocks]

    def next_id(self) -> int:
        """Return a label that no object has, here or below."""
        return next_after(max(self._highest, self.base.next_id() - 1), self.max_id)

    def find(self, label: int, near: Box | None = None, plane: Place = ()) -> Piece:
        """Return an object, whole, as the changes left it."""
        require_plane(self, plane)
        piece = find_around(self, label, [near, self.extent(label, plane)], plane)
        if piece is None:
            # it may lie where nobody looked yet; what lies below says where
            below = self.base.find(label, near, plane).box_yxyx_px
            piece = find_around(self, label, [below], plane)
        if piece is None:
            raise not_there(label, plane)
        return piece

    def remember(self, piece: Piece, plane: Place = ()) -> None:
        """Take note of where an object lies."""
        self._extents[tuple(plane), piece.label] = piece.box_yxyx_px

    def extent(self, label: int, plane: Place = ()) -> Box | None:
        """Return a window that an object lies in, or lay in below; None if none is known."""
        known = self._extents.get((tuple(plane), label))
        return known or self.base.extent(label, plane)

    def class_of(self, label: int) -> int:
        """Return an object's class; 0 if it has none."""
        return self._classes.get(label, self.base.class_of(label))

    def set_class(self, label: int, class_id: int) -> None:
        """Set an object's class, on top only."""
        self._classes[label] = class_id

    def _touching(self, window_yxyx_px: Box) -> list[tuple[tuple[int, int], Box]]:
        y0, x0, y1, x1 = window_yxyx_px
        rows = range(y0 // _BLOCK_PX, -(-y1 // _BLOCK_PX))
        columns = range(x0 // _BLOCK_PX, -(-x1 // _BLOCK_PX))
        return [((i, j), self._block(i, j)) for i in rows for j in columns]

    def _block(self, i: int, j: int) -> Box:
        y, x = i * _BLOCK_PX, j * _BLOCK_PX
        return clip_box((y, x, y + _BLOCK_PX, x + _BLOCK_PX), self.shape_yx)


def _overlap(window: Box, block: Box) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where window and block overlap, in each of the two."""
    y0, x0 = max(window[0], block[0]), max(window[1], block[1])
    y1, x1 = min(window[2], block[2]), min(window[3], block[3])

    def within(box: Box) -> tuple[slice, slice]:
        return slice(y0 - box[0], y1 - box[0]), slice(x0 - box[1], x1 - box[1])

    return within(window), within(block)
