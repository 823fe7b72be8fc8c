"""What tells an image from others, and from its own later versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dinomask.errors import ChunkError, SourceChangedError
from dinomask.image.chunks import quarters
from dinomask.image.raw import chunk_bytes, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dinomask.image.image import Image

SMALL_BYTES = 32 * 2**20
"""Arrays up to this size are hashed whole, larger ones in sampled blocks."""

SMALL_REMOTE_BYTES = 2**20
"""The same over a network."""

_BLOCK_PX = 64


def identity_of(image: Image) -> str:
    """Return the hash of a source and of what was chosen from it.

    Pixels are part of it where the stamp can't see them change: all of a small
    array, else blocks spread over level 0.
    """
    content = content_stamp(image) if image.sampled else ""
    return stamp_of(*_facts(image), content)


def require_same(image: Image) -> None:
    """Compare an image with what was opened, pixels and all; for the end of a run.

    Raises
    ------
    SourceChangedError
        If the source, or one of the pixels that are part of its identity, is another.
    """
    image.require_unchanged()
    if image.sampled and identity_of(image) != image.identity:
        raise pixels_changed(image)


def pixels_changed(image: Image) -> SourceChangedError:
    """Return the error for an image whose pixels are others than at its opening."""
    return SourceChangedError(
        expected=f"{image.where} as it was when the work began",
        got="other pixels",
        remedy="Segment it again when nothing changes it any more (--restart).",
    )


def _facts(image: Image) -> tuple[Any, ...]:
    chosen = (image.axes, image.channels, sorted(image.plane.items()))
    return (image.stamp, image.levels[0].shape, image.dtype.str, *chosen)


def content_stamp(image: Image, n_side: int = 4) -> str:
    """Hash the pixels of level 0: all of a small image, else blocks spread over it.

    Parameters
    ----------
    image : what to look at
    n_side : blocks along y and along x; over a network half as many
    """
    height, width = image.shape_yx
    n_bytes = image.n_channels * height * width * image.dtype.itemsize
    if image.url is not None:
        n_side = max(1, n_side // 2)
    if n_bytes <= (SMALL_BYTES if image.url is None else SMALL_REMOTE_BYTES):
        return _stamp(image, (0, 0, height, width))
    # a block costs a whole chunk
    n = n_side if chunk_bytes(image.levels[0]) <= SMALL_BYTES else 1
    return stamp_of(*(_stamp(image, window) for window in _blocks(height, width, n)))


def _stamp(image: Image, window: tuple[int, int, int, int]) -> str:
    try:
        return stamp_of(image.read(window).tobytes())
    except ChunkError:
        # that a tile can't be read is found when its turn comes; the rest is worth having
        parts = quarters(window)
        return stamp_of(*(_stamp(image, part) for part in parts)) if parts else "unreadable"


def _blocks(height: int, width: int, n: int) -> Iterable[tuple[int, int, int, int]]:
    side_y, side_x = min(_BLOCK_PX, height), min(_BLOCK_PX, width)
    for i in range(n):
        for j in range(n):
            y = (height - side_y) * (2 * i + 1) // (2 * n)
            x = (width - side_x) * (2 * j + 1) // (2 * n)
            yield y, x, y + side_y, x + side_x
