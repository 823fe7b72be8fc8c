"""Which parts of a chunked array can't be read, or may be missing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from dinomask.errors import ChunkError
from dinomask.image.raw import READ_ERRORS, chunk_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SMALLEST_PX = 64
"""Side of the smallest parts in which what can be read is looked for."""

_MAX_TRIED = 64
_MAX_NAMED = 3


def looks_missing(array: Any, pixels: NDArray[Any]) -> bool:
    """Whether a zarr array gave its fill value anywhere, as it does for missing chunks."""
    if not isinstance(array, zarr.Array):
        return False
    fill = array.fill_value
    return bool(np.isnan(pixels).any() if fill != fill else (pixels == fill).any())


def unreadable_chunks(array: Any, index: tuple[Any, ...]) -> list[str]:
    """Name the chunks of a selection that can't be decoded, by reading each alone.

    Parameters
    ----------
    array : chunked or not
    index : a whole number or a slice with start and stop for each axis
    """
    shape = chunk_shape(array)
    if shape is None or len(shape) != len(index):
        return []
    found = []
    for coordinates in itertools.islice(_overlapped(shape, index), _MAX_TRIED):
        inner = tuple(
            part if isinstance(part, int) else _within(part, c * n, (c + 1) * n)
            for part, c, n in zip(index, coordinates, shape, strict=True)
        )
        try:
            np.asarray(array[inner])
        except READ_ERRORS:
            found.append(_name(array, coordinates))
    return found


def _overlapped(chunk: tuple[int, ...], index: tuple[Any, ...]) -> Iterator[tuple[int, ...]]:
    ranges = [
        range(part // n, part // n + 1)
        if isinstance(part, int)
        else range(part.start // n, -(-part.stop // n))
        for part, n in zip(index, chunk, strict=True)
    ]
    return itertools.product(*ranges)


def _within(part: slice, start: int, stop: int) -> slice:
    return slice(max(part.start, start), min(part.stop, stop))


def _name(array: Any, coordinates: Sequence[int]) -> str:
    """Return a chunk's key in its store; that of the shard it lies in, if there are shards."""
    if not isinstance(array, zarr.Array):
        return str(tuple(coordinates))
    if array.shards is not None:
        inner = zip(coordinates, array.shards, array.chunks, strict=True)
        coordinates = [c // (shard // chunk) for c, shard, chunk in inner]
    key = array.metadata.encode_chunk_key(tuple(coordinates))
    return f"{array.path}/{key}".lstrip("/")


def unreadable(
    where: str, level: int, window: tuple[int, ...], chunks: list[str], error: BaseException
) -> ChunkError:
    """Return the error for a window of which some chunks can't be read."""
    named = ", ".join(dict.fromkeys(chunks[:_MAX_NAMED])) + (
        f" and {len(chunks) - _MAX_NAMED} more" if len(chunks) > _MAX_NAMED else ""
    )
    part = f"chunk {named}" if chunks else f"pixels {window}"
    reason = f"{type(error).__name__}: {error}".rstrip(": .")
    return ChunkError(
        expected=f"undamaged pixels in {where}",
        got=f"{part} of level {level}, unreadable ({reason})",
        remedy="Check the disk or the network, or copy or export the image again.",
    )


def quarters(window_yxyx: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """Cut a window into four, to read what of it can be read; none if it is small already."""
    y0, x0, y1, x1 = window_yxyx
    if max(y1 - y0, x1 - x0) <= SMALLEST_PX:
        return []
    y, x = (y0 + y1 + 1) // 2, (x0 + x1 + 1) // 2
    parts = [(y0, x0, y, x), (y0, x, y, x1), (y, x0, y1, x), (y, x, y1, x1)]
    return [(a, b, c, d) for a, b, c, d in parts if a < c and b < d]
