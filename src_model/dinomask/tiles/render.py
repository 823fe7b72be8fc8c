"""Draw instances into label images, window by window, and list them in a table.

Windows of any size give the same pixels, so memory does not grow with the
image and every chunk of the output has one writer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinomask.instances import Array, paste_probability

if TYPE_CHECKING:
    import pandas as pd

    from dinomask.tiles.plan import Box
    from dinomask.tiles.stitch import Stitched

CHUNK_PX = 1024
"""Side of the pieces in which label images are drawn and stored."""

Progress = Callable[[int, int], None]
"""Called with the number of pieces drawn and of all; may raise to stop."""


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
    drawn_yx, members = _draw(stitched, window_yxyx_px)
    return _to_ids(stitched, drawn_yx, members)


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
    """

    def __init__(self, stitched: Stitched, shape_yx: tuple[int, int]) -> None:
        self.stitched = stitched
        self.shape_yx = shape_yx
        self.areas_px: Array = np.zeros(len(stitched), np.int64)
        self._sums_yx = np.zeros((len(stitched), 2), np.float64)
        # empty boxes, grown by every piece of the image that shows the instance
        self._boxes_yxyx_px = np.tile(np.array([*shape_yx, 0, 0], np.int64), (len(stitched), 1))

    @property
    def dtype(self) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
        """The smaller of uint16 and uint32 that holds all ids."""
        fits = len(self.stitched) <= np.iinfo(np.uint16).max
        return np.dtype(np.uint16) if fits else np.dtype(np.uint32)

    def windows(
        self, side_px: int, progress: Progress | None = None
    ) -> Iterator[tuple[Box, Array]]:
        """Yield every square piece and its labels, row by row; run through it once."""
        height, width = self.shape_yx
        n_y, n_x = math.ceil(height / side_px), math.ceil(width / side_px)
        for i in range(n_y * n_x):
            y0, x0 = (i // n_x) * side_px, (i % n_x) * side_px
            window = (y0, x0, min(y0 + side_px, height), min(x0 + side_px, width))
            drawn_yx, members = _draw(self.stitched, window)
            self._count(drawn_yx, members, window)
            # before the yield: a consumer that has all it needs never comes back
            if progress is not None:
                progress(i + 1, n_y * n_x)
            yield window, _to_ids(self.stitched, drawn_yx, members).astype(self.dtype)

    def table(self) -> pd.DataFrame:
        """Return the table of the instances drawn so far."""
        centroids = self._sums_yx / np.maximum(self.areas_px, 1)[:, None]
        return instance_table(self.stitched, self._boxes_yxyx_px, self.areas_px, centroids)

    def _count(self, drawn_yx: Array, members: Array, window_yxyx_px: Box) -> None:
        if not len(members):
            return
        rows, columns = np.nonzero(drawn_yx)
        which, n = drawn_yx[rows, columns] - 1, len(members)
        self.areas_px[members] += np.bincount(which, minlength=n)
        # sums of whole numbers are exact in float64, so no partition changes them
        top, left = window_yxyx_px[:2]
        self._sums_yx[members, 0] += np.bincount(which, weights=rows + top, minlength=n)
        self._sums_yx[members, 1] += np.bincount(which, weights=columns + left, minlength=n)
        for member, box in zip(members, ndimage.find_objects(drawn_yx), strict=False):
            if box is not None:
                grown = self._boxes_yxyx_px[member]
                grown[:2] = np.minimum(grown[:2], (box[0].start + top, box[1].start + left))
                grown[2:] = np.maximum(grown[2:], (box[0].stop + top, box[1].stop + left))


def instance_table(
    stitched: Stitched, boxes_yxyx_px: Array, areas_px: Array, centroids_yx_px: Array
) -> pd.DataFrame:
    """List the instances that own at least one pixel.

    Parameters
    ----------
    stitched : N instances
    boxes_yxyx_px : shape (N, 4), smallest boxes that hold those pixels, half-open
    areas_px : shape (N,), pixels each instance owns in the label image
    centroids_yx_px : shape (N, 2), mean of those pixels' coordinates

    Returns
    -------
    columns id, y0, x0, y1, x1 (box, image pixels, half-open), score, class,
    area_px, centroid_y, centroid_x (pixels), tile
    """
    import pandas as pd

    found = stitched.instances
    table = pd.DataFrame(
        {
            "id": stitched.ids,
            **{name: boxes_yxyx_px[:, i] for i, name in enumerate(("y0", "x0", "y1", "x1"))},
            "score": found.scores,
            "class": found.classes,
            "area_px": areas_px,
            "centroid_y": centroids_yx_px[:, 0],
            "centroid_x": centroids_yx_px[:, 1],
            "tile": stitched.tile_index,
        }
    )
    return table[table["area_px"] > 0].reset_index(drop=True)


def _to_ids(stitched: Stitched, drawn_yx: Array, members: Array) -> Array:
    lookup = np.concatenate([np.zeros(1, np.uint32), stitched.ids[members]])
    labels_yx: Array = lookup[drawn_yx]
    return labels_yx


def _draw(stitched: Stitched, window_yxyx_px: Box) -> tuple[Array, Array]:
    """Draw a window in local numbers: 0 background, k + 1 for the k-th of members."""
    top, left, bottom, right = window_yxyx_px
    best_yx = np.zeros((bottom - top, right - left), np.float32)
    drawn_yx = np.zeros(best_yx.shape, np.int32)
    members = stitched.grid.touching(window_yxyx_px)
    found = stitched.instances
    # in this order a tie belongs to the one drawn first
    for k in np.lexsort((members, -found.scores[members])).tolist():
        index = members[k]
        probability, (y, x) = paste_probability(
            found.masks[index], found.boxes_yxyx_px[index], window_yxyx_px
        )
        height, width = probability.shape
        here = np.s_[y - top : y - top + height, x - left : x - left + width]
        wins = (probability >= 0.5) & (probability > best_yx[here])
        best_yx[here][wins] = probability[wins]
        drawn_yx[here][wins] = k + 1
    return drawn_yx, members
