"""Draw instances into label images, window by window, and list them in a table.

Windows of any size give the same pixels, so memory does not grow with the
image and every chunk of the output has one writer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from dinomask.tiles.draw import Drawn, Scene, draw
from dinomask.tiles.masks import release_pages
from dinomask.tiles.painters import Painters

if TYPE_CHECKING:
    import pandas as pd

    from dinomask.instances import Array
    from dinomask.tiles.plan import Box
    from dinomask.tiles.stitched import Stitched

CHUNK_PX = 1024
"""Side of the pieces in which label images are drawn and stored."""

_WINDOWS_IN_MEMORY = 64

Progress = Callable[[int, int], None]
"""Called with the number of pieces drawn and of all; may raise to stop."""


def id_dtype(max_id: int) -> np.dtype[np.unsignedinteger]:
    """Return the smaller of uint16 and uint32 that holds all ids up to `max_id`."""
    return np.dtype(np.uint16 if max_id <= np.iinfo(np.uint16).max else np.uint32)


def squares(shape_yx: tuple[int, int], side_px: int) -> Iterator[Box]:
    """Yield the squares that partition an image, row by row; those at its end are cut."""
    height, width = shape_yx
    for y0 in range(0, height, side_px):
        for x0 in range(0, width, side_px):
            yield y0, x0, min(y0 + side_px, height), min(x0 + side_px, width)


def render_window(stitched: Stitched, window_yxyx_px: Box) -> Array:
    """Draw the label image of a window.

    A pixel belongs to the instance with the highest probability there among
    those of at least 0.5; ties go to the higher score, then to the lower id.

    Parameters
    ----------
    stitched : instances of the whole image
    window_yxyx_px : y0, x0, y1, x1 in image pixels, half-open

    Returns
    -------
    shape (y1 - y0, x1 - x0), uint32; ids, 0 is background
    """
    labels_yx = draw(Scene.of(stitched, window_yxyx_px), np.dtype(np.uint32)).labels_yx
    release_pages(stitched.instances.masks)
    return labels_yx


def render_image(
    stitched: Stitched, shape_yx: tuple[int, int], progress: Progress | None = None
) -> tuple[Array, pd.DataFrame]:
    """Draw a whole label image in memory.

    Returns
    -------
    labels : shape (Y, X), uint32
    table : as `instance_table`
    """
    labels_yx = np.zeros(shape_yx, np.uint32)
    drawing = Drawing(stitched, shape_yx)
    for (y0, x0, y1, x1), window in drawing.windows(CHUNK_PX, progress):
        labels_yx[y0:y1, x0:x1] = window
    return labels_yx, drawing.table()


class Drawing:
    """One pass over a label image, counting each instance's pixels on the way.

    Parameters
    ----------
    stitched : instances of the whole image
    shape_yx : in image pixels
    dtype : of the labels; None takes the smaller of uint16 and uint32 that holds all ids
    """

    def __init__(
        self,
        stitched: Stitched,
        shape_yx: tuple[int, int],
        dtype: np.dtype[np.unsignedinteger] | None = None,
    ) -> None:
        self.stitched = stitched
        self.shape_yx = shape_yx
        self.dtype = dtype or id_dtype(int(stitched.ids.max(initial=0)))
        self.areas_px: Array = np.zeros(len(stitched), np.int64)
        self._sums_yx = np.zeros((len(stitched), 2), np.float64)
        # empty boxes, grown by every piece of the image that shows the instance
        self._boxes_yxyx_px = np.tile(np.array([*shape_yx, 0, 0], np.int64), (len(stitched), 1))

    def windows(
        self, side_px: int, progress: Progress | None = None
    ) -> Iterator[tuple[Box, Array]]:
        """Yield every square piece and its labels, row by row; run through it once."""
        total = math.prod(math.ceil(n / side_px) for n in self.shape_yx)
        pieces = self.draw(squares(self.shape_yx, side_px), Painters(1))
        for i, piece in enumerate(pieces):
            # before the yield: a consumer that has all it needs never comes back
            if progress is not None:
                progress(i + 1, total)
            yield piece

    def draw(self, windows: Iterable[Box], painters: Painters) -> Iterator[tuple[Box, Array]]:
        """Yield windows and their labels, in order.

        Parameters
        ----------
        windows : a partition of the image, if the table shall be right
        painters : who draws
        """
        scenes = (Scene.of(self.stitched, window) for window in windows)
        for i, (window, drawn) in enumerate(painters.draw(scenes, self.dtype)):
            self._count(drawn)
            if i % _WINDOWS_IN_MEMORY == 0:
                release_pages(self.stitched.instances.masks)
            yield window, drawn.labels_yx

    def table(self, plane: Mapping[str, int] | None = None) -> pd.DataFrame:
        """Return the table of the instances drawn so far; `plane` as for `instance_table`."""
        centroids = self._sums_yx / np.maximum(self.areas_px, 1)[:, None]
        return instance_table(self.stitched, self._boxes_yxyx_px, self.areas_px, centroids, plane)

    def _count(self, drawn: Drawn) -> None:
        members = drawn.members
        self.areas_px[members] += drawn.areas_px
        # sums of whole numbers are exact in float64, so no partition changes them
        self._sums_yx[members] += drawn.sums_yx
        boxes, here = self._boxes_yxyx_px, drawn.boxes_yxyx_px
        boxes[members, :2] = np.minimum(boxes[members, :2], here[:, :2])
        boxes[members, 2:] = np.maximum(boxes[members, 2:], here[:, 2:])


def instance_table(
    stitched: Stitched,
    boxes_yxyx_px: Array,
    areas_px: Array,
    centroids_yx_px: Array,
    plane: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """List the instances that own at least one pixel.

    Parameters
    ----------
    stitched : N instances
    boxes_yxyx_px : shape (N, 4), smallest boxes that hold those pixels, half-open
    areas_px : shape (N,), pixels each instance owns in the label image
    centroids_yx_px : shape (N, 2), mean of those pixels' coordinates
    plane : the index on each further axis, such as ``{"t": 0, "z": 5}``

    Returns
    -------
    columns id, one for each further axis, y0, x0, y1, x1 (box, image pixels,
    half-open), score, class, area_px, centroid_y, centroid_x (pixels), tile,
    cut (no tile saw the whole of it)
    """
    import pandas as pd

    found = stitched.instances
    table = pd.DataFrame(
        {
            "id": stitched.ids,
            **{axis: np.full(len(found), i, np.int64) for axis, i in (plane or {}).items()},
            **{name: boxes_yxyx_px[:, i] for i, name in enumerate(("y0", "x0", "y1", "x1"))},
            "score": found.scores,
            "class": found.classes,
            "area_px": areas_px,
            "centroid_y": centroids_yx_px[:, 0],
            "centroid_x": centroids_yx_px[:, 1],
            "tile": stitched.tile_index,
            "cut": stitched.is_cut,
        }
    )
    return table[table["area_px"] > 0].reset_index(drop=True)
