"""Label images as OME-Zarr 0.5: a pyramid of chunked levels (zarr 3).

Specification: https://ngff.openmicroscopy.org/0.5/

Each level holds every second pixel of the one before. Ids can't be averaged,
and the commonest of four pixels is no better: it makes background of thin
objects and of those in a crowd level by level, and depends on the levels in
between. Every second pixel keeps each object's share of the area on average,
and level k is an exact sample of level 0, so that a piece of any level can be
made anew from the pixels it stands for.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from dinomask.tiles.render import CHUNK_PX, squares

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dinomask.instances import Array
    from dinomask.tiles.plan import Box
    from dinomask.tiles.stack import LabelStack

SMALLEST_LEVEL_PX = 512
"""The pyramid ends with the first level of which no side is longer."""

SHARD_PX = 4096
"""Side of the files in which chunks are put together, in levels larger than two of them.

A file a chunk would be a million files for an image of a million pixels squared."""


def write_zarr(stack: LabelStack, path: Path) -> None:
    """Write a label pyramid, each chunk (or shard) once.

    Parameters
    ----------
    stack : what to draw
    path : a folder that does not exist yet
    """
    group = zarr.create_group(path, zarr_format=3)
    levels = [
        _create_level(group, str(k), stack, shape) for k, shape in enumerate(_shapes(stack.shape))
    ]
    _write_first(stack, levels[0])
    for finer, coarser in itertools.pairwise(levels):
        for place in stack.places():
            _halve(finer, coarser, place)
    if stack.notes:
        group.attrs["dinomask"] = dict(stack.notes)
    # last, so that a folder cut short by a power failure isn't taken for a whole one
    group.attrs["ome"] = _metadata(stack, len(levels))


def _shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shape of each level: height and width are halved, the other axes stay."""
    shapes = [shape]
    while max(shapes[-1][-2:]) > SMALLEST_LEVEL_PX:
        height, width = shapes[-1][-2:]
        shapes.append((*shape[:-2], math.ceil(height / 2), math.ceil(width / 2)))
    return shapes


def _create_level(
    group: zarr.Group, name: str, stack: LabelStack, shape: tuple[int, ...]
) -> zarr.Array[Any]:
    single = (1,) * (len(shape) - 2)
    sharded = max(shape[-2:]) > 2 * SHARD_PX
    side = [CHUNK_PX if sharded else min(CHUNK_PX, n) for n in shape[-2:]]
    return group.create_array(
        name,
        shape=shape,
        chunks=(*single, *side),
        shards=(*single, SHARD_PX, SHARD_PX) if sharded else None,
        dtype=stack.dtype,
        fill_value=0,
        dimension_names=tuple(stack.axes),
    )


def _write_first(stack: LabelStack, level: zarr.Array[Any]) -> None:
    """Draw level 0; the chunks of a shard are collected and written at once."""
    side_px = _file_px(level)
    total = math.prod(math.ceil(n / CHUNK_PX) for n in stack.shape_yx)

    def windows() -> Iterator[Box]:
        for file in squares(stack.shape_yx, side_px):
            yield from _within(file)

    pieces = stack.pieces(windows, total)
    for place, file in itertools.product(stack.places(), squares(stack.shape_yx, side_px)):
        y0, x0, y1, x1 = file
        labels_yx = np.zeros((y1 - y0, x1 - x0), stack.dtype)
        for _ in _within(file):
            _, (top, left, bottom, right), piece = next(pieces)
            labels_yx[top - y0 : bottom - y0, left - x0 : right - x0] = piece
        if labels_yx.any():
            _put(level, place, file, labels_yx)


def _halve(finer: zarr.Array[Any], coarser: zarr.Array[Any], place: tuple[int, ...]) -> None:
    """Fill a plane of a level with every second pixel of the one before."""
    for file in squares((coarser.shape[-2], coarser.shape[-1]), _file_px(coarser)):
        y0, x0, y1, x1 = file
        labels_yx = np.zeros((y1 - y0, x1 - x0), coarser.dtype)
        for top, left, bottom, right in _within(file):
            source: tuple[Any, ...] = np.s_[2 * top : 2 * bottom, 2 * left : 2 * right]
            piece = np.asarray(finer[(*place, *source)])[::2, ::2]
            labels_yx[top - y0 : bottom - y0, left - x0 : right - x0] = piece
        if labels_yx.any():
            _put(coarser, place, file, labels_yx)


def _put(level: zarr.Array[Any], place: tuple[int, ...], window: Box, labels_yx: Array) -> None:
    y0, x0, y1, x1 = window
    here: tuple[Any, ...] = np.s_[y0:y1, x0:x1]
    level[(*place, *here)] = labels_yx


def _file_px(level: zarr.Array[Any]) -> int:
    """Side of what is one file: a shard, or a chunk."""
    return SHARD_PX if level.shards else CHUNK_PX


def _within(window_yxyx_px: Box) -> Iterator[Box]:
    """Yield the chunks of a file."""
    top, left, bottom, right = window_yxyx_px
    for y0, x0, y1, x1 in squares((bottom - top, right - left), CHUNK_PX):
        yield top + y0, left + x0, top + y1, left + x1


def _metadata(stack: LabelStack, n_levels: int) -> dict[str, Any]:
    axes = []
    for name in stack.axes:
        kind, unit = ("time", "second") if name == "t" else ("space", "micrometer")
        known = {"unit": unit} if name in stack.spacing else {}
        axes.append({"name": name, "type": kind} | known)
    # pixel i of level k is pixel i * 2**k of level 0: a scale without a shift
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {
                    "type": "scale",
                    "scale": [
                        float(stack.spacing.get(a, 1.0)) * (2**k if a in "yx" else 1)
                        for a in stack.axes
                    ],
                }
            ],
        }
        for k in range(n_levels)
    ]
    multiscale = {"name": "labels", "axes": axes, "datasets": datasets, "type": "nearest"}
    return {"version": "0.5", "multiscales": [multiscale], "image-label": {}}
