"""Label images as OME-Zarr 0.5: a pyramid of chunked levels (zarr 3).

Specification: https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import zarr

from dinomask.tiles.render import CHUNK_PX, Drawing, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dinomask.tiles.plan import Box

SMALLEST_LEVEL_PX = 512
"""The pyramid ends with the first level of which no side is longer."""


def write_zarr(
    drawing: Drawing,
    path: Path,
    pixel_size_um: tuple[float, float] | None,
    progress: Progress | None,
) -> None:
    """Write a label pyramid chunk by chunk, each chunk once.

    Parameters
    ----------
    drawing : what to draw
    path : a folder that does not exist yet
    pixel_size_um : along y and x; without it the axes have no unit
    """
    shapes = [drawing.shape_yx]
    while max(shapes[-1]) > SMALLEST_LEVEL_PX:
        height, width = shapes[-1]
        shapes.append((math.ceil(height / 2), math.ceil(width / 2)))
    group = zarr.create_group(path, zarr_format=3)
    levels = [
        group.create_array(
            str(i),
            shape=shape,
            chunks=(min(CHUNK_PX, shape[0]), min(CHUNK_PX, shape[1])),
            dtype=drawing.dtype,
            fill_value=0,
            dimension_names=("y", "x"),
        )
        for i, shape in enumerate(shapes)
    ]
    for (y0, x0, y1, x1), labels_yx in drawing.windows(CHUNK_PX, progress):
        levels[0][y0:y1, x0:x1] = labels_yx
    for finer, coarser in itertools.pairwise(levels):
        _halve(finer, coarser)
    # last, so that a folder cut short by a power failure isn't taken for a whole one
    group.attrs["ome"] = _metadata(len(shapes), pixel_size_um)


def _halve(finer: zarr.Array[Any], coarser: zarr.Array[Any]) -> None:
    """Fill a level with every second pixel of the one before: ids can't be averaged."""
    for y0, x0, y1, x1 in _chunks(coarser):
        coarser[y0:y1, x0:x1] = finer[2 * y0 : 2 * y1 : 2, 2 * x0 : 2 * x1 : 2]


def _chunks(level: zarr.Array[Any]) -> Iterator[Box]:
    (height, width), (step_y, step_x) = level.shape, level.chunks
    for y0 in range(0, height, step_y):
        for x0 in range(0, width, step_x):
            yield y0, x0, min(y0 + step_y, height), min(x0 + step_x, width)


def _metadata(n_levels: int, pixel_size_um: tuple[float, float] | None) -> dict[str, Any]:
    axes: list[dict[str, str]] = [{"name": name, "type": "space"} for name in "yx"]
    if pixel_size_um is not None:
        axes = [axis | {"unit": "micrometer"} for axis in axes]
    size_y, size_x = pixel_size_um or (1.0, 1.0)
    # pixel i of level k is pixel i * 2**k of level 0: a scale without a shift
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": [size_y * 2**k, size_x * 2**k]}
            ],
        }
        for k in range(n_levels)
    ]
    multiscale = {"name": "labels", "axes": axes, "datasets": datasets, "type": "nearest"}
    return {"version": "0.5", "multiscales": [multiscale], "image-label": {}}
