"""What was found in one tile, as a file: an npz that is checked when it is read."""

from __future__ import annotations

import dataclasses
import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from dinomask.instances import Array, Instances

if TYPE_CHECKING:
    from pathlib import Path

_BLANK = b"blank"
_FIELDS = tuple(field.name for field in dataclasses.fields(Instances))
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""All that reading a damaged npz was seen to raise."""


def pack_record(instances: Instances, blank: bool) -> bytes:
    """Return the content of a record.

    Parameters
    ----------
    instances : what a tile owns
    blank : whether it was not shown to the network, because it is empty
    """
    buffer = io.BytesIO()
    # npz by hand: level 1 is several times faster than numpy's fixed level 6
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in _FIELDS:
            part = io.BytesIO()
            np.lib.format.write_array(part, getattr(instances, name), allow_pickle=False)
            archive.writestr(f"{name}.npy", part.getvalue())
        if blank:
            archive.comment = _BLANK
    return buffer.getvalue()


def read_record(path: Path) -> tuple[Instances, bool] | None:
    """Read one record, and whether its tile was blank; None if it is missing or damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            arrays = {name: _read_array(archive, name) for name in _FIELDS}
            blank = archive.comment == _BLANK
    except _DAMAGE:
        return None
    template = Instances.empty()
    n = len(arrays["scores"])
    for name, array in arrays.items():
        like = getattr(template, name)
        if array.dtype != like.dtype or array.ndim != like.ndim or len(array) != n:
            return None
    return Instances(**arrays), blank


def _read_array(archive: zipfile.ZipFile, name: str) -> Array:
    # np.load stops before the end of a member, where its checksum would be compared
    content = io.BytesIO(archive.read(f"{name}.npy"))
    array: Array = np.lib.format.read_array(content, allow_pickle=False)
    return array
