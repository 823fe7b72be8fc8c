"""Files that are either whole or not there: checked before, replaced at once after."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import uuid
from typing import TYPE_CHECKING

import psutil

from dinomask.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SUFFIXES = (".tif", ".tiff", ".zarr")
"""Endings of a label image's name."""


def table_path(out: Path) -> Path:
    """Return where the instance table of a label image stands: `OUT.instances.parquet`."""
    return out.with_name(out.name + ".instances.parquet")


def ledger_path(out: Path) -> Path:
    """Return where the ledger of a label image stands: `OUT.ledger`."""
    return out.with_name(out.name + ".ledger")


def output_error(path: Path, error: OSError) -> OutputError:
    """Say what an operating system's refusal to write means and what to do."""
    got = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            expected=f"enough free space for {path}",
            got=got,
            remedy="Free some space and run the same command again; finished tiles are kept.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(
            expected=f"permission to write {path}",
            got=got,
            remedy="Choose another folder, or change its permissions.",
        )
    return OutputError(
        expected=f"to write {path}", got=got, remedy="Choose another folder for the output."
    )


def check_output(out: Path, overwrite: bool, keep: Iterable[Path] = ()) -> None:
    """Find out before any work whether a label image can be written.

    Parameters
    ----------
    out : the label image, ending .tif, .tiff or .zarr
    overwrite : an earlier result may be replaced
    keep : never replaced, whatever `overwrite` says; the image itself, for one

    Raises
    ------
    OutputError
        If the ending is another, the folder is missing or not writable, or
        the output exists and may not be replaced.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise OutputError(
            expected=f"an output ending {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
            got=str(out),
            remedy="Name it labels.tif, or labels.zarr for large images.",
        )
    if not out.parent.is_dir():
        raise OutputError(
            expected="a folder that exists",
            got=str(out.parent),
            remedy="Create the folder first, or choose another one.",
        )
    for path in (out, table_path(out)):
        if path.exists() or path.is_symlink():
            _check_existing(path, overwrite, keep)
    _probe(out)


def _check_existing(path: Path, overwrite: bool, keep: Iterable[Path]) -> None:
    if any(k.exists() and path.exists() and path.samefile(k) for k in keep):
        raise OutputError(
            expected="an output other than the image itself",
            got=str(path),
            remedy="Choose another name for the output.",
        )
    if not overwrite:
        raise OutputError(
            expected="an output that does not exist yet",
            got=str(path),
            remedy="Add --overwrite to replace it, or choose another name.",
        )
    if path.is_dir() and not _holds_labels(path):
        raise OutputError(
            expected="an earlier label image to replace",
            got=f"the folder {path}, which holds something else",
            remedy="Choose another name, or delete the folder yourself.",
        )


def _holds_labels(path: Path) -> bool:
    """Tell whether a folder is a label image in OME-Zarr 0.5, as written here."""
    try:
        metadata = json.loads((path / "zarr.json").read_text())
        return "image-label" in metadata["attributes"]["ome"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _probe(out: Path) -> None:
    """Write and remove an empty file: permission bits don't tell all (root, read-only disks)."""
    probe = _temporary(out)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise output_error(out, error) from error


def _temporary(path: Path) -> Path:
    """Name a sibling after the process that writes it, so that `sweep` knows whose it is."""
    owner = f"{_machine()}-{os.getpid()}"
    return path.with_name(f".{path.name}.{owner}-{uuid.uuid4().hex[:8]}.tmp")


def _machine() -> str:
    # shared folders show the files of other machines, whose processes can't be looked up
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def sweep(out: Path) -> None:
    """Remove what killed processes of this machine left of a label image and its table."""
    for path in (out, table_path(out)):
        for left in path.parent.glob(f".{glob.escape(path.name)}.{_machine()}-*-*.tmp"):
            pid = left.name.removesuffix(".tmp").split("-")[-2]
            if pid.isdigit() and not psutil.pid_exists(int(pid)):
                _discard(left)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling that takes the place of a file or folder at the end.

    Only when the block ends without an error, after all is flushed to disk;
    otherwise the temporary is removed and what was there before stays.

    Raises
    ------
    OutputError
        In place of any `OSError` of the block, with a remedy.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        _flush(temporary)
        _swap(temporary, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        _discard(temporary)


def _flush(path: Path) -> None:
    """Force a file, or every file and folder of a folder, to disk."""
    for found in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if found.is_dir():
            _flush_folder(found)
            continue
        with found.open("rb+") as handle:
            os.fsync(handle.fileno())


def _swap(temporary: Path, path: Path) -> None:
    """Move into place; a folder can't be replaced in one step, so it steps aside first."""
    aside = None
    if path.is_dir() and not path.is_symlink():
        aside = _temporary(path)
        path.rename(aside)
    try:
        temporary.replace(path)
    except OSError:
        if aside is not None:
            aside.rename(path)
        raise
    if aside is not None:
        _discard(aside)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where folders can be flushed."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
