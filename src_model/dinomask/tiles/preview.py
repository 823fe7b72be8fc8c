"""The labels of a run under way: drawn tile by tile, for a screen, and then forgotten.

No seams are joined and nothing is drawn twice, so this is not the result.
"""

from __future__ import annotations

import math
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from dinomask.tiles.edit import put_window
from dinomask.tiles.render import render_window
from dinomask.tiles.stitched import Stitched

if TYPE_CHECKING:
    from dinomask.instances import Array, Instances

IN_MEMORY_PX = 4096**2
"""Images up to this size are previewed in memory (2 bytes a pixel), larger ones on disk."""

LARGEST_SIDE_PX = 2**17
"""Larger previews are drawn at a lower resolution: a file a chunk would be too many files."""

_CHUNK_PX = 512
_SMALLEST_LEVEL_PX = 512


class Preview:
    """A pyramid of labels into which tiles are drawn.

    Ids only tell neighbours apart. Made and drawn in one thread, read in others.

    Parameters
    ----------
    shape_yx : of the image
    planes : numbers of planes, one for each axis before y and x; none for one image

    Attributes
    ----------
    factor : image pixels a pixel of level 0 stands for, along each side
    levels : fine to coarse, each every second pixel of the one before
    n_tiles : drawn so far
    """

    def __init__(self, shape_yx: tuple[int, int], planes: tuple[int, ...] = ()) -> None:
        self.factor = 1
        while max(shape_yx) > self.factor * LARGEST_SIDE_PX:
            self.factor *= 2
        shapes = [(-(-shape_yx[0] // self.factor), -(-shape_yx[1] // self.factor))]
        while max(shapes[-1]) > _SMALLEST_LEVEL_PX:
            shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
        self._planes = planes
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if math.prod(planes) * shapes[0][0] * shapes[0][1] > IN_MEMORY_PX:
            self._folder = tempfile.TemporaryDirectory(
                prefix="dinomask-preview-", ignore_cleanup_errors=True
            )
        self.levels = [self._level(k, shape, len(shapes)) for k, shape in enumerate(shapes)]
        self.n_tiles = 0
        self._n_ids = 0
        self._closed = False
        self._lock = threading.Lock()

    def _level(self, k: int, shape_yx: tuple[int, int], n_levels: int) -> Any:
        shape = (*self._planes, *shape_yx)
        # the coarsest level of an image stays in memory: viewers keep a view of it
        if self._folder is None or (k == n_levels - 1 and not self._planes):
            return np.zeros(shape, np.uint16)
        return zarr.create_array(
            f"{self._folder.name}/{k}",
            shape=shape,
            chunks=(*[1] * len(self._planes), _CHUNK_PX, _CHUNK_PX),
            dtype=np.uint16,
            compressors=BloscCodec(cname="lz4", clevel=1),
            zarr_format=3,
        )

    def draw(
        self,
        core_yxyx_px: tuple[float, float, float, float],
        found: Instances,
        place: tuple[int, ...] = (),
    ) -> bool:
        """Draw what a tile found into what it owns.

        Parameters
        ----------
        core_yxyx_px : in image pixels
        found : in image pixels
        place : index of its plane on the axes before y and x

        Returns
        -------
        Whether anything was drawn.
        """
        y0, x0, y1, x1 = (round(side / self.factor) for side in core_yxyx_px)
        height, width = self.levels[0].shape[-2:]
        y1, x1 = min(y1, height), min(x1, width)
        if y1 <= y0 or x1 <= x0:
            return False
        numbers: Array = np.arange(self._n_ids, self._n_ids + len(found))
        self._n_ids += len(found)
        ids = (1 + numbers % np.iinfo(np.uint16).max).astype(np.uint32)
        stitched = Stitched(found, np.zeros(len(found), np.int64), ids, 0)
        if self.factor > 1:
            stitched = stitched.scaled(1 / self.factor)
        labels_yx = render_window(stitched, (y0, x0, y1, x1)).astype(np.uint16)
        with self._lock:
            if not self._closed and len(found):
                put_window(self.levels, (y0, x0), labels_yx, place)
            self.n_tiles += 1
        return bool(len(found))

    def close(self) -> None:
        """Forget all; nothing is drawn any more."""
        with self._lock:
            self._closed = True
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None
