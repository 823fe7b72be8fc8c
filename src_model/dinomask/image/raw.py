"""What a reader hands over: arrays and metadata, before axes and channels are settled."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

READ_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    ImportError,
    struct.error,
    zlib.error,
)
"""What decoders of damaged or foreign files raise (their own errors derive from these)."""


@dataclasses.dataclass(frozen=True, eq=False)
class RawImage:
    """Pixels as a reader found them."""

    name: str
    """What to call the image in messages."""

    levels: tuple[Any, ...]
    """Arrays with ``shape``, ``dtype`` and slicing, fine to coarse."""

    stamp: str
    """Tells this source from others and from its own later versions."""

    axes: str | None = None
    """Axes from metadata, `?` where unnamed; None to guess."""

    pixel_size_um: tuple[float, float] | None = None
    """Height and width of a level-0 pixel."""

    scales_yx: tuple[tuple[float, float], ...] | None = None
    """Level pixels per level-0 pixel, where metadata tell."""

    rgb: bool = False
    """Whether three channels or samples are red, green and blue."""

    alpha: bool = False
    """Whether the last sample is opacity rather than signal."""

    sampled: bool = True
    """Whether pixels go into the identity, because the stamp can't see them change."""

    notes: tuple[str, ...] = ()
    """What the user should know about how the source was read."""

    path: Path | None = None
    """Where it can be opened again."""


def stamp_of(*facts: object) -> str:
    """Return a short hash of facts, the same in every process."""
    return hashlib.blake2b(repr(facts).encode(), digest_size=12).hexdigest()


def file_stamp(path: Path) -> str:
    """Return a hash of a file's path, size and time of change."""
    stat = path.stat()
    return stamp_of(str(path), stat.st_size, stat.st_mtime_ns)


def dtype_of(array: Any) -> np.dtype:
    """Return an array's dtype in the machine's byte order.

    Raises
    ------
    InputError
        If its elements are not booleans, integers or real floats.
    """
    # tensorstore wraps numpy's dtype in its own
    found = getattr(array.dtype, "numpy_dtype", array.dtype)
    try:
        dtype = np.dtype(found)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "buif":
        raise InputError(
            expected="pixels of an integer, float or boolean type",
            got=str(found),
            remedy="Convert the image first, for example numpy.abs(image) for complex numbers.",
        )
    native: np.dtype = dtype.newbyteorder("=")
    return native


def chunk_bytes(array: Any) -> int:
    """Return the bytes that are decoded to read one pixel; 0 where there are no chunks."""
    # dask calls the regular chunk "chunksize"
    chunk = getattr(array, "chunksize", None) or getattr(array, "chunks", None)
    return math.prod(chunk) * dtype_of(array).itemsize if isinstance(chunk, tuple) else 0


def damaged(path: object, error: BaseException) -> InputError:
    """Return the error for a file that claims a format but can't be read."""
    return InputError(
        expected=f"a complete, undamaged image in {path}",
        got=f"{type(error).__name__}: {error}".rstrip(": ."),
        remedy="Copy or export the file again; it may have been cut short.",
    )
