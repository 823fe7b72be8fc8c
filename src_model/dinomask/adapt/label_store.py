"""Label images that can be corrected, in memory and on disk, behind one face."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dinomask.adapt.events import Piece
from dinomask.adapt.finding import find_around, next_after, not_there, require_plane
from dinomask.adapt.geometry import tight_box
from dinomask.errors import CorrectionError
from dinomask.tiles.outputs import table_path

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.adapt.finding import Place
    from dinomask.adapt.geometry import Box
    from dinomask.instances import Array
    from dinomask.tiles.edit import LabelPyramid

SCANNED_PX = 2**22
"""Images in memory up to this size are looked at whole to find an object: 4 ms."""

_SEARCH_PX = 2048


class LabelStore(Protocol):
    """A label image that corrections read and write; 0 is background.

    `plane` is the index on the axes before y and x, empty for a single plane.
    """

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width."""

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes before y and x."""

    @property
    def max_id(self) -> int:
        """The largest label that can be written."""

    def read(self, window_yxyx_px: Box, plane: Place = ()) -> Array:
        """Return a copy of the labels of a window inside the image."""

    def write(self, corner_yx_px: tuple[int, int], labels_yx: Array, plane: Place = ()) -> None:
        """Write labels; raises OutputError if they can't be written."""

    def next_id(self) -> int:
        """Return a label that no object has; raises OutputError if none is left."""

    def find(self, label: int, near: Box | None = None, plane: Place = ()) -> Piece:
        """Return an object, whole; `near` is a window that shows some of it.

        Raises
        ------
        CorrectionError
            If it isn't there.
        """

    def class_of(self, label: int) -> int:
        """Return an object's class; 0 if it has none."""

    def set_class(self, label: int, class_id: int) -> None:
        """Set an object's class."""

    def remember(self, piece: Piece, plane: Place = ()) -> None:
        """Take note of where an object lies, so that it is found though it is far-flung."""

    def extent(self, label: int, plane: Place = ()) -> Box | None:
        """Return a window that some or all of an object lies in; None if none is known."""


class ArrayStore:
    """A label image in memory, changed in place.

    Parameters
    ----------
    labels : shape (…, Y, X), whole numbers
    classes : class of each label that has one

    Raises
    ------
    CorrectionError
        If it is no label image, or can't be changed.
    """

    def __init__(self, labels: Array, classes: dict[int, int] | None = None) -> None:
        if labels.ndim < 2 or labels.dtype.kind not in "iu" or not labels.flags.writeable:
            kind = "" if labels.flags.writeable else "read-only "
            raise CorrectionError(
                expected="labels as whole numbers with axes (…, Y, X), to be changed in place",
                got=f"{kind}{labels.dtype} of shape {labels.shape}",
                remedy="Give a writable copy of integers.",
            )
        self.labels = labels
        self._classes = dict(classes or {})
        self._highest: int | None = None
        self._extents: dict[tuple[Place, int], Box] = {}

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.labels.shape[-2]), int(self.labels.shape[-1])

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes before y and x."""
        return tuple(int(n) for n in self.labels.shape[:-2])

    @property
    def max_id(self) -> int:
        """The largest label that can be written."""
        return int(np.iinfo(self.labels.dtype).max)

    def read(self, window_yxyx_px: Box, plane: Place = ()) -> Array:
        """Return a copy of the labels of a window."""
        y0, x0, y1, x1 = window_yxyx_px
        require_plane(self, plane)
        return np.array(self.labels[plane][y0:y1, x0:x1])

    def write(self, corner_yx_px: tuple[int, int], labels_yx: Array, plane: Place = ()) -> None:
        """Write labels."""
        (y, x), (height, width) = corner_yx_px, labels_yx.shape
        require_plane(self, plane)
        self.labels[plane][y : y + height, x : x + width] = labels_yx
        if self._highest is not None:
            # never lower, so that an undone object's id stays its own
            self._highest = max(self._highest, int(labels_yx.max(initial=0)))

    def next_id(self) -> int:
        """Return a label that no object has, nor had since the first call."""
        # what others painted meanwhile counts, too
        highest = max(self._highest or 0, int(self.labels.max(initial=0)))
        self._highest = highest
        return next_after(highest, self.max_id)

    def find(self, label: int, near: Box | None = None, plane: Place = ()) -> Piece:
        """Return an object, whole.

        In images of more than `SCANNED_PX` pixels, pieces far from `near` and from each other
        are found if a correction made them, as in a `PyramidStore`.
        """
        require_plane(self, plane)
        piece = None
        if self._is_large and near is not None:
            piece = find_around(self, label, [near, self.extent(label, plane)], plane)
        if piece is None:
            piece = Piece.cut(self.labels[plane], label, class_id=self.class_of(label))
        if piece is None:
            raise not_there(label, plane)
        return piece

    def class_of(self, label: int) -> int:
        """Return an object's class; 0 if it has none."""
        return self._classes.get(label, 0)

    def set_class(self, label: int, class_id: int) -> None:
        """Set an object's class."""
        self._classes[label] = class_id

    def remember(self, piece: Piece, plane: Place = ()) -> None:
        """Take note of where an object lies; its id is not given again."""
        self._highest = max(self._highest or 0, piece.label)
        self._extents[tuple(plane), piece.label] = piece.box_yxyx_px

    def extent(self, label: int, plane: Place = ()) -> Box | None:
        """Return a window around an object, as far as known; None if it isn't there."""
        if self._is_large:
            return self._extents.get((tuple(plane), label))
        return tight_box(self.labels[plane] == label)

    @property
    def _is_large(self) -> bool:
        return self.shape_yx[0] * self.shape_yx[1] > SCANNED_PX


class PyramidStore:
    """A label image on disk; every level of the pyramid is kept in step.

    Parameters
    ----------
    pyramid : opened to be written
    classes : class of each label; None takes them from the table of instances beside the labels
    """

    def __init__(self, pyramid: LabelPyramid, classes: dict[int, int] | None = None) -> None:
        self.pyramid = pyramid
        self._extents: dict[tuple[Place, int], Box] = {}
        self._classes = None if classes is None else dict(classes)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width of level 0."""
        return self.pyramid.shape_yx

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes before y and x."""
        return tuple(int(n) for n in self.pyramid.levels[0].shape[:-2])

    @property
    def max_id(self) -> int:
        """The largest label that can be written."""
        return int(np.iinfo(self.pyramid.levels[0].dtype).max)

    def read(self, window_yxyx_px: Box, plane: Place = ()) -> Array:
        """Return the labels of a window."""
        require_plane(self, plane)
        return np.array(self.pyramid.read(window_yxyx_px, plane))

    def write(self, corner_yx_px: tuple[int, int], labels_yx: Array, plane: Place = ()) -> None:
        """Write labels at all levels."""
        require_plane(self, plane)
        self.pyramid.write(corner_yx_px, labels_yx, plane)

    def next_id(self) -> int:
        """Return a label that no object has, nor had before."""
        return self.pyramid.next_id()

    def find(self, label: int, near: Box | None = None, plane: Place = ()) -> Piece:
        """Return an object, whole; slow without `near` for one that was never corrected.

        Pieces that lie further than `dinomask.adapt.finding.GAP_PX` from all others are found
        if a correction made them.
        """
        require_plane(self, plane)
        piece = find_around(self, label, [near, self.extent(label, plane)], plane)
        if piece is None:
            piece = find_around(self, label, [self._search(label, plane)], plane)
        if piece is None:
            raise not_there(label, plane)
        return piece

    def _search(self, label: int, plane: Place) -> Box | None:
        """Look for a pixel of an object, in the coarsest level that shows one."""
        for k, level in reversed(list(enumerate(self.pyramid.levels))):
            height, width = level.shape[-2:]
            corners = itertools.product(range(0, height, _SEARCH_PX), range(0, width, _SEARCH_PX))
            for y, x in corners:
                here: tuple[Any, ...] = np.s_[y : y + _SEARCH_PX, x : x + _SEARCH_PX]
                hits = np.argwhere(np.asarray(level[(*plane, *here)]) == label)
                if len(hits):
                    row, column = (int(n) << k for n in hits[0] + (y, x))
                    return row, column, row + 1, column + 1
        return None

    def remember(self, piece: Piece, plane: Place = ()) -> None:
        """Take note of where an object lies."""
        self._extents[tuple(plane), piece.label] = piece.box_yxyx_px

    def extent(self, label: int, plane: Place = ()) -> Box | None:
        """Return where a corrected object lay; None for others."""
        return self._extents.get((tuple(plane), label))

    def class_of(self, label: int) -> int:
        """Return an object's class; 0 if it has none."""
        return self._known_classes().get(label, 0)

    def set_class(self, label: int, class_id: int) -> None:
        """Set an object's class, for this session; the journal keeps it."""
        self._known_classes()[label] = class_id

    def _known_classes(self) -> dict[int, int]:
        if self._classes is None:
            self._classes = table_classes(self.pyramid.path)
        return self._classes


def table_classes(labels: Path) -> dict[int, int]:
    """Return the classes of the table of instances beside a label image, but for class 0."""
    table = table_path(labels)
    if not table.exists():
        return {}
    import pandas as pd

    found = pd.read_parquet(table, columns=["id", "class"])
    found = found[found["class"] != 0]
    return dict(zip(found["id"].tolist(), found["class"].tolist(), strict=True))
