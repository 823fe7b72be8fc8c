"""What a reader hands over: arrays and metadata, before axes and channels are settled."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import InputError, SourceChangedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
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

    url: str | None = None
    """Where it can be opened again, if not on a disk."""

    depth_um: float | None = None
    """Distance of neighbouring planes along z."""

    probe: Probe | None = None
    """Notices changes of a file under way; None for arrays."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """A cheap look at whether a source is still what was opened."""

    where: str
    """Path or URL, for messages."""

    stamp: str
    """What `look` returned when the source was opened."""

    look: Callable[[], str]
    """Returns the stamp of now; raises OSError where the source is gone."""

    is_remote: bool = False
    """Whether a look goes over the network, and so is not for every read."""

    def check(self) -> None:
        """Raise SourceChangedError unless the source is what it was."""
        try:
            same = self.look() == self.stamp
            got = "a source that was changed"
        except OSError as error:
            same, got = False, f"a source that is gone ({type(error).__name__}: {error})"
        if not same:
            raise SourceChangedError(
                expected=f"{self.where} as it was when the work began",
                got=got,
                remedy="What was finished is kept: bring the image back as it was and give the "
                "same command again, or begin anew (--restart).",
            )


def stamp_of(*facts: object) -> str:
    """Return a short hash of facts, the same in every process."""
    return hashlib.blake2b(repr(facts).encode(), digest_size=12).hexdigest()


def levels_stamp(levels: Iterable[Any]) -> str:
    """Return a hash of arrays' shapes and types."""
    return stamp_of([(tuple(level.shape), dtype_of(level).str) for level in levels])


def file_stamp(path: Path) -> str:
    """Return a hash of a file's path, size and time of change."""
    stat = path.stat()
    return stamp_of(str(path), stat.st_size, stat.st_mtime_ns)


def file_probe(path: Path) -> Probe:
    """Return a probe that compares a file's size and time of change."""
    return Probe(str(path), file_stamp(path), functools.partial(file_stamp, path))


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


def chunk_shape(array: Any) -> tuple[int, ...] | None:
    """Return the shape of what is decoded to read one pixel; None where there are no chunks."""
    # dask calls the regular chunk "chunksize"; tensorstore has a layout
    layout = getattr(array, "chunk_layout", None)
    read = getattr(getattr(layout, "read_chunk", None), "shape", None)
    for found in (getattr(array, "chunksize", None), getattr(array, "chunks", None), read):
        if isinstance(found, tuple) and all(isinstance(n, int) and n > 0 for n in found):
            return found
    return None


def chunk_bytes(array: Any) -> int:
    """Return the bytes that are decoded to read one pixel; 0 where there are no chunks."""
    shape = chunk_shape(array)
    return math.prod(shape) * dtype_of(array).itemsize if shape else 0


def damaged(path: object, error: BaseException) -> InputError:
    """Return the error for a file that claims a format but can't be read."""
    return InputError(
        expected=f"a complete, undamaged image in {path}",
        got=f"{type(error).__name__}: {error}".rstrip(": ."),
        remedy="Copy or export the file again; it may have been cut short.",
    )
