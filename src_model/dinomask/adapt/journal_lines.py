"""The file of a journal: lines of json that are only ever added, each with its own check.

A line is `{"body":{…},"crc":"0123abcd"}`, the check being the CRC-32 of the body's bytes as they
stand. It is flushed to disk before anything else happens, so a crash can tear the last line
only, and a torn line is known as one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import zlib
from typing import TYPE_CHECKING, Any

from dinomask.errors import InputError, JournalError, OutputError

if TYPE_CHECKING:
    from pathlib import Path

_BEGIN = b'{"body":'
_MIDDLE = b',"crc":"'
_END = b'"}'
_CRC_DIGITS = 8


def encode_line(body: dict[str, Any]) -> bytes:
    """Return a line of a journal, with its end of line."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    data = text.encode()
    return _BEGIN + data + _MIDDLE + f"{zlib.crc32(data):0{_CRC_DIGITS}x}".encode() + _END + b"\n"


def decode_line(line: bytes) -> dict[str, Any] | None:
    """Return the body of a line; None if the line isn't whole."""
    line = line.strip()
    tail = len(_MIDDLE) + _CRC_DIGITS + len(_END)
    data, rest = line[len(_BEGIN) : -tail], line[-tail:]
    expected = _MIDDLE + f"{zlib.crc32(data):0{_CRC_DIGITS}x}".encode() + _END
    if not line.startswith(_BEGIN) or rest != expected:
        return None
    try:
        body = json.loads(data)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


@dataclasses.dataclass
class JournalFile:
    """A journal on disk, and how far it is known to be whole.

    Attributes
    ----------
    path : where
    bodies : of all whole lines, as they were read
    torn : what follows the last whole line; it is cut off before the next line is written
    """

    path: Path
    bodies: list[dict[str, Any]]
    torn: bytes
    _whole_bytes: int
    _size: int | None
    _ends_open: bool

    @staticmethod
    def read(path: Path) -> JournalFile:
        """Read a journal; one that is missing has no lines. Nothing is written.

        Raises
        ------
        JournalError
            If a line other than the last is damaged.
        InputError
            If the file can't be read.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise InputError(
                expected=f"a journal that can be read at {path}",
                got=error.strerror or str(error),
                remedy="Check the file's permissions, or choose another place.",
            ) from error
        bodies: list[dict[str, Any]] = []
        whole = begin = 0
        for number, line in enumerate(data.splitlines(keepends=True), 1):
            end = begin + len(line)
            body = decode_line(line)
            if body is not None:
                bodies.append(body)
                whole = end
            elif end < len(data):
                raise _damaged(path, number)
            begin = end
        open_end = whole > 0 and not data[:whole].endswith(b"\n")
        return JournalFile(path, bodies, data[whole:], whole, len(data), open_end)

    def append(self, bodies: list[dict[str, Any]]) -> None:
        """Add lines and flush them to disk; all of them or, after an error, none.

        Raises
        ------
        OutputError
            If they can't be written.
        JournalError
            If the file isn't as it was left: another program added to it or took it away.
        """
        lines = b"".join(encode_line(body) for body in bodies)
        if self._ends_open:
            lines = b"\n" + lines
        is_new = self._whole_bytes == 0
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        try:
            self._require_as_left(os.fstat(handle).st_size)
            self._write(handle, lines)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, self._whole_bytes)
            # what is there after a failed write is not known, and cut off the next time
            self._size = None
            raise _cannot_write(self.path, error) from error
        finally:
            os.close(handle)
        self.torn = b""
        self._ends_open = False
        self._whole_bytes += len(lines)
        self._size = self._whole_bytes
        if is_new:
            _flush_folder(self.path.parent)

    def _write(self, handle: int, lines: bytes) -> None:
        os.ftruncate(handle, self._whole_bytes)
        os.lseek(handle, self._whole_bytes, os.SEEK_SET)
        left = memoryview(lines)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)

    def _require_as_left(self, size: int) -> None:
        if self._size is not None and size != self._size:
            raise JournalError(
                expected=f"{self.path} as it was left, {self._size:,} bytes",
                got=f"{size:,} bytes: another window or program changed it",
                remedy="Close the other one and open the labels again; nothing was changed now.",
            )


def _flush_folder(folder: Path) -> None:
    """Make a new file's name last through a power cut, where folders can be flushed."""
    if os.name == "nt":
        return
    # some network file systems refuse it; the lines themselves are on disk
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _cannot_write(path: Path, error: OSError) -> OutputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    ways = "Free some space" if full else "Check the folder and its permissions"
    return OutputError(
        expected=f"to add to the journal {path}",
        got=error.strerror or str(error),
        remedy=f"{ways}, then correct again; the labels were not changed.",
    )


def _damaged(path: Path, number: int) -> JournalError:
    return JournalError(
        expected=f"whole lines in {path}, but for the last",
        got=f"a damaged line {number} with others after it",
        remedy="Bring the file back from a copy. Otherwise copy its first "
        f"{number - 1} lines to a new file, and put that in its place: the later ones are lost.",
    )
