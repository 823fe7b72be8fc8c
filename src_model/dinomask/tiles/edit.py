"""Edit a label pyramid on disk: write windows of level 0 and the pixels above them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from dinomask.errors import InputError, OutputError
from dinomask.tiles.outputs import output_error, table_path
from dinomask.tiles.remeasure import remeasure
from dinomask.tiles.render import CHUNK_PX, squares

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd

    from dinomask.instances import Array
    from dinomask.tiles.plan import Box

_OURS = "dinomask"
_HIGHEST = "highest_id"


def put_window(
    levels: Sequence[Any],
    corner_yx_px: tuple[int, int],
    labels_yx: Array,
    place: tuple[int, ...] = (),
) -> None:
    """Write a window of level 0, and the pixels of all other levels that are taken from it.

    Pixel i of level k is pixel i · 2ᵏ of level 0, so nothing needs to be read.

    Parameters
    ----------
    levels : zarr or numpy arrays, fine to coarse, each of half the height and width
    corner_yx_px : where the window begins, in pixels of level 0
    labels_yx : its labels, within the image
    place : index on the axes before y and x
    """
    y0, x0 = corner_yx_px
    for k, level in enumerate(levels):
        step = 2**k
        top, left = -(-y0 // step), -(-x0 // step)
        piece = labels_yx[top * step - y0 :: step, left * step - x0 :: step]
        if piece.size:
            here = np.s_[top : top + piece.shape[0], left : left + piece.shape[1]]
            level[(*place, *here)] = piece


@dataclasses.dataclass(frozen=True)
class LabelPyramid:
    """The levels of a label image in OME-Zarr, each every second pixel of the one before.

    Attributes
    ----------
    path : its folder
    group : as zarr opened it
    levels : fine to coarse
    """

    path: Path
    group: zarr.Group
    levels: tuple[zarr.Array[Any], ...]

    @staticmethod
    def open(path: Path, *, writable: bool = False) -> LabelPyramid:
        """Open a label image that this library wrote.

        Raises
        ------
        InputError
            If it is missing, or has other levels than are written here.
        """
        try:
            group = zarr.open_group(path, mode="r+" if writable else "r")
            (multiscale,) = cast("Any", group.attrs["ome"])["multiscales"]
            names = [dataset["path"] for dataset in multiscale["datasets"]]
            levels = tuple(cast("zarr.Array[Any]", group[name]) for name in names)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise _no_labels(path, f"{type(error).__name__}: {error}") from error
        if not levels or any(not _is_half(a, b) for a, b in itertools.pairwise(levels)):
            raise _no_labels(path, f"levels of shapes {[level.shape for level in levels]}")
        return LabelPyramid(path, group, levels)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width of level 0."""
        return int(self.levels[0].shape[-2]), int(self.levels[0].shape[-1])

    def read(self, window_yxyx_px: Box, place: tuple[int, ...] = ()) -> Array:
        """Return the labels of a window of level 0, within the image."""
        y0, x0, y1, x1 = window_yxyx_px
        here: tuple[Any, ...] = np.s_[y0:y1, x0:x1]
        return np.asarray(self.levels[0][(*place, *here)])

    def write(
        self, corner_yx_px: tuple[int, int], labels_yx: Array, place: tuple[int, ...] = ()
    ) -> None:
        """Write labels at level 0, and rebuild the levels above; chunk by chunk.

        Each chunk is replaced as a whole, so a crash leaves each either old or
        new. Levels above level 0 may then be old until this window is written
        again.

        Raises
        ------
        OutputError
            If it can't be written.
        """
        with _telling(self.path):
            put_window(self.levels, corner_yx_px, labels_yx, place)
            noted = self._noted()
            highest = int(labels_yx.max(initial=0))
            if noted is not None and highest > noted:
                self._note(highest)

    def next_id(self) -> int:
        """Return an id that no object has; reads all labels if it is nowhere noted.

        Raises
        ------
        OutputError
            If there is none left for this type of labels.
        """
        highest = self._noted()
        if highest is None:
            highest = self._highest()
            with _telling(self.path):
                self._note(highest)
        dtype = self.levels[0].dtype
        if highest >= np.iinfo(dtype).max:
            raise OutputError(
                expected=f"an id up to {np.iinfo(dtype).max}, the largest of {dtype}",
                got="labels that use it",
                remedy="Give the new object the id of a deleted one.",
            )
        return highest + 1

    def _noted(self) -> int | None:
        """Return the highest id as written in the metadata by an earlier edit."""
        ours = self.group.attrs.get(_OURS)
        highest = ours.get(_HIGHEST) if isinstance(ours, dict) else None
        return highest if isinstance(highest, int) else None

    def _note(self, highest: int) -> None:
        ours = self.group.attrs.get(_OURS)
        known = ours if isinstance(ours, dict) else {}
        self.group.attrs[_OURS] = {**known, _HIGHEST: highest}

    def _highest(self) -> int:
        import pandas as pd

        if table_path(self.path).exists():
            ids = pd.read_parquet(table_path(self.path), columns=["id"])["id"]
            return int(ids.max()) if len(ids) else 0
        level = self.levels[0]
        places = itertools.product(*(range(n) for n in level.shape[:-2]))
        windows = itertools.product(places, squares(self.shape_yx, CHUNK_PX))
        return max(int(self.read(window, place).max()) for place, window in windows)


class Region:
    """A window of level 0 in memory, to be edited freely; what differs is written.

    Parameters
    ----------
    pyramid : opened to be written
    window_yxyx_px : in pixels of level 0
    place : index on the axes before y and x

    Attributes
    ----------
    labels_yx : the labels, to be changed in place
    """

    def __init__(
        self, pyramid: LabelPyramid, window_yxyx_px: Box, place: tuple[int, ...] = ()
    ) -> None:
        self.pyramid = pyramid
        self.window_yxyx_px = window_yxyx_px
        self.place = place
        self.labels_yx: Array = pyramid.read(window_yxyx_px, place)
        self._written: Array = self.labels_yx.copy()
        self._touched: set[int] = set()
        self._edited_yxyx_px: Box | None = None
        self._lock = threading.Lock()

    def write(self) -> Box | None:
        """Write the smallest box around what was changed since the last time.

        Safe in a thread while the labels are changed in another one: what is
        changed meanwhile is written the next time.

        Returns
        -------
        The box, in pixels of level 0; None if nothing was changed.

        Raises
        ------
        OutputError
            If it can't be written; the next call tries again.
        """
        with self._lock:
            box = _changed(self._written, self.labels_yx)
            if box is None:
                return None
            y0, x0, y1, x1 = box
            labels_yx = self.labels_yx[y0:y1, x0:x1].copy()
            top, left = self.window_yxyx_px[:2]
            before_yx = self._written[y0:y1, x0:x1]
            differs = before_yx != labels_yx
            self._touched |= set(np.unique(before_yx[differs]).tolist())
            self._touched |= set(np.unique(labels_yx[differs]).tolist())
            self.pyramid.write((top + y0, left + x0), labels_yx, self.place)
            self._written[y0:y1, x0:x1] = labels_yx
            edited = top + y0, left + x0, top + y1, left + x1
            self._edited_yxyx_px = _around(self._edited_yxyx_px or edited, edited)
        return edited

    def remeasure(self) -> pd.DataFrame | None:
        """Bring the table beside the labels up to date with what was written.

        Returns
        -------
        The table; None if there is none, or nothing was written since the last time.

        Raises
        ------
        OutputError
            If it can't be written; the next call tries again.
        """
        with self._lock:
            if self._edited_yxyx_px is None:
                return None
            table = remeasure(self.pyramid, self._touched, self._edited_yxyx_px, self.place)
            self._touched.clear()
            self._edited_yxyx_px = None
        return table


def _changed(before_yx: Array, after_yx: Array) -> Box | None:
    """Return the smallest box around the pixels that differ."""
    differs = before_yx != after_yx
    rows = np.flatnonzero(differs.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(differs.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _around(one: Box, other: Box) -> Box:
    """Return the smallest box around two."""
    (top, left, bottom, right), (y0, x0, y1, x1) = one, other
    return min(top, y0), min(left, x0), max(bottom, y1), max(right, x1)


def _is_half(finer: zarr.Array[Any], coarser: zarr.Array[Any]) -> bool:
    half = tuple(-(-n // 2) for n in finer.shape[-2:])
    return bool(coarser.shape == (*finer.shape[:-2], *half))


def _no_labels(path: Path, got: str) -> InputError:
    return InputError(
        expected=f"a label image in OME-Zarr at {path}, as this program writes it",
        got=got,
        remedy="Choose a .zarr that was written by a segmentation.",
    )


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error
