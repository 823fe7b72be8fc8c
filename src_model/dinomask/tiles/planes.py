"""Label images of planes, kept compressed while neighbours are compared."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np

from dinomask.tiles.painters import Painters
from dinomask.tiles.render import CHUNK_PX, Drawing, squares
from dinomask.tiles.stack import LabelStack
from dinomask.tiles.write import joined_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from dinomask.instances import Array
    from dinomask.tiles.plan import Box
    from dinomask.tiles.render import Progress
    from dinomask.tiles.stitched import Stitched


@dataclasses.dataclass(frozen=True)
class DrawnPlane:
    """One plane's label image, drawn once and gone through often.

    Label images shrink to a hundredth, so planes of any size are at hand
    without their pixels in memory.

    Attributes
    ----------
    n_labels : the highest label
    shape_yx : in pixels
    pieces : square windows and their labels, compressed
    """

    n_labels: int
    shape_yx: tuple[int, int]
    pieces: tuple[tuple[Box, bytes], ...] = dataclasses.field(repr=False)

    def windows(self) -> Iterator[tuple[Box, Array]]:
        """Yield every piece, row by row, as uint32."""
        for (y0, x0, y1, x1), packed in self.pieces:
            labels = np.frombuffer(imagecodecs.lz4_decode(packed, header=True), np.uint32)
            yield (y0, x0, y1, x1), labels.reshape(y1 - y0, x1 - x0)


def draw_plane(stitched: Stitched, shape_yx: tuple[int, int]) -> DrawnPlane:
    """Draw the instances of one plane.

    Parameters
    ----------
    stitched : instances of the plane; their ids are its labels
    shape_yx : in pixels
    """
    drawing = Drawing(stitched, shape_yx)
    pieces = tuple(
        (window, bytes(imagecodecs.lz4_encode(labels_yx.astype(np.uint32).tobytes(), header=True)))
        for window, labels_yx in drawing.windows(CHUNK_PX)
    )
    n_labels = int(stitched.ids.max(initial=0))
    return DrawnPlane(n_labels, shape_yx, pieces)


def draw_stack(
    planes: Iterable[Stitched],
    shape: tuple[int, ...],
    axes: str,
    dtype: np.dtype[np.unsignedinteger],
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, Array]:
    """Draw the label images of a movie or stack in memory.

    Parameters
    ----------
    planes, shape, axes : as for `dinomask.tiles.write.write_stack`
    dtype : of the labels
    progress : told after each piece; may raise to stop

    Returns
    -------
    table : as `write_stack`
    labels : of that shape and dtype
    """
    labels = np.zeros(shape, dtype)
    stack = LabelStack(planes, shape, axes, dtype, {}, Painters(1), progress)
    windows = functools.partial(squares, stack.shape_yx, CHUNK_PX)
    for place, (y0, x0, y1, x1), labels_yx in stack.pieces(windows, len(list(windows()))):
        labels[place][y0:y1, x0:x1] = labels_yx
    return joined_table(stack.tables), labels
