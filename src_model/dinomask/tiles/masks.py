"""Masks by the million: in memory while they are few, else in an unnamed file."""

from __future__ import annotations

import mmap
import tempfile
from typing import IO, TYPE_CHECKING

import numpy as np

from dinomask.tiles.outputs import output_error

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.instances import Array

MEMORY_BYTES = 128 * 2**20
"""Masks are kept in memory up to this size in all."""

_BLOCK = 4096


class MaskStore:
    """Masks that come in parts and are read in any order.

    The file has no name, so that nothing is left of it however the program
    ends. Its pages can be dropped from memory at any time (`release_pages`).

    Parameters
    ----------
    folder : of the file; None takes the system's folder for temporary files,
        which may itself lie in memory

    Raises
    ------
    OutputError
        From any method, if the file can't be written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._parts: list[Array] = []
        self._file: IO[bytes] | None = None
        self._n = 0
        self._shape: tuple[int, ...] = (28, 28)
        self._all: Array | None = None

    @property
    def side_cells(self) -> int:
        """M, the cells along a mask's side."""
        return self._shape[0]

    def append(self, masks: Array) -> None:
        """Add masks of shape (n, M, M), uint8, under the next n numbers."""
        if not len(masks):
            return
        if self._n and masks.shape[1:] != self._shape:
            msg = f"masks of {masks.shape[1:]} after masks of {self._shape}"
            raise ValueError(msg)
        self._shape = masks.shape[1:]
        self._n += len(masks)
        self._all = None
        if self._file is None:
            self._parts.append(masks)
            if self._n * masks[0].size > MEMORY_BYTES:
                self._file = self._new_file()
                for part in self._parts:
                    self._write(self._file, part)
                self._parts.clear()
        else:
            self._write(self._file, masks)

    def take(self, rows: Array) -> Array:
        """Return a copy of the masks of these numbers, shape (len(rows), M, M)."""
        stored = self._stored()
        found = stored[rows]
        release_pages(stored)
        return found

    def in_order(self, rows: Array) -> Array:
        """Return the masks of these numbers, shape (len(rows), M, M); ends the store.

        An ordinary array, or one that is read from a file when it is looked at.
        """
        stored, self._all = self._stored(), None
        if self._file is None:
            self._parts.clear()
            return stored[rows]
        with self._new_file() as file:
            for first in range(0, len(rows), _BLOCK):
                self._write(file, stored[rows[first : first + _BLOCK]])
                release_pages(stored)
            del stored
            self._file.close()
            return self._mapped(file, len(rows))

    def _stored(self) -> Array:
        if self._all is None and self._file is not None:
            self._all = self._mapped(self._file, self._n)
        elif self._all is None:
            none = np.zeros((0, *self._shape), np.uint8)
            self._all = np.concatenate(self._parts) if self._parts else none
            self._parts = [self._all]
        return self._all

    def _new_file(self) -> IO[bytes]:
        try:
            return tempfile.TemporaryFile(dir=self._folder, prefix=".masks-")
        except OSError as error:
            raise self._refusal(error) from error

    def _write(self, file: IO[bytes], masks: Array) -> None:
        try:
            file.write(np.ascontiguousarray(masks, np.uint8).data)
        except OSError as error:
            raise self._refusal(error) from error

    def _mapped(self, file: IO[bytes], n: int) -> Array:
        if not n:
            return np.zeros((0, *self._shape), np.uint8)
        try:
            file.flush()
            content = mmap.mmap(file.fileno(), 0)
        except OSError as error:
            raise self._refusal(error) from error
        return np.frombuffer(content, np.uint8).reshape(n, *self._shape)

    def _refusal(self, error: OSError) -> Exception:
        from pathlib import Path

        return output_error(self._folder or Path(tempfile.gettempdir()), error)


def release_pages(array: Array) -> None:
    """Give back the memory of what was read so far of an array that lies in a file.

    It is read again when it is looked at. Other arrays stay as they are.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
