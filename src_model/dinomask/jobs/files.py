"""The files of a job, and how errors pass through them.

```
job.json          what it was asked to do; written last, so that it vouches for the rest
launched.json     the process that was started last
process.json      the process at work, renewed every second
progress.jsonl    a line a report
control           what the user wants: go on, pause or cancel
result.json       how it ended; missing while it runs and after a crash
worker.log        what the process printed
work/             of the work itself
```
"""

from __future__ import annotations

import dataclasses
import datetime
import errno
import json
import os
import types
import typing
from typing import TYPE_CHECKING, Any, TypeVar

import dinomask
from dinomask.errors import DataError, DinomaskError, OutputError
from dinomask.jobs.beat import get, put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

JOB_FILE = "job.json"
LAUNCHED_FILE = "launched.json"
PROCESS_FILE = "process.json"
PROGRESS_FILE = "progress.jsonl"
CONTROL_FILE = "control"
RESULT_FILE = "result.json"
RESERVE_FILE = "result.reserve"
LOCK_FILE = "worker.lock"
LOG_FILE = "worker.log"
WORK_FOLDER = "work"

RESERVE_BYTES = 64 * 2**10
"""Kept free on the disk, so that the reason can be written once it is full."""


def write_error(path: Path, error: OSError) -> OutputError:
    """Say that a file of a job could not be written, and what to do."""
    is_full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None), errno.EFBIG)
    return OutputError(
        expected=f"enough free space for {path}" if is_full else f"to write {path}",
        got=error.strerror or str(error),
        remedy="Free some space, then go on; what was done is kept."
        if is_full
        else "Change the folder's permissions, then go on.",
    )


def require_free(folder: Path, noun: str) -> None:
    """Make sure that a folder holds no job.

    Raises
    ------
    OutputError
        If it does.
    """
    if (folder / JOB_FILE).exists():
        raise OutputError(
            expected=f"a folder without {noun}",
            got=f"{folder / JOB_FILE}",
            remedy="Go on with that one, discard it, or choose another folder.",
        )


def write_job(folder: Path, version: int, asked: dict[str, Any]) -> None:
    """Write what a job is to do, after all else that it needs.

    Parameters
    ----------
    folder : of the job; made where it is missing
    version : of the format of `asked`
    asked : plain values and paths

    Raises
    ------
    OutputError
        If it can't be written.
    """
    raw = {
        "format": version,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "dinomask_version": dinomask.__version__,
        **asked,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        put(folder / JOB_FILE, json.dumps(raw, indent=1, default=os.fspath), durable=True)
    except OSError as error:
        raise write_error(folder, error) from error


KEPT = "what it had finished is kept"


def read_job(
    folder: Path,
    newest: int,
    noun: str,
    build: Callable[[dict[str, Any]], T],
    kept: str = KEPT,
) -> T:
    """Read what a job was asked to do.

    Parameters
    ----------
    folder : of the job
    newest : latest format that is known
    noun : what it is called in messages, as “the teaching”
    build : makes something of the file's values
    kept : what is not lost with it, for messages

    Raises
    ------
    DataError
        If there is none, or it is damaged or of a later version.
    """
    path = folder / JOB_FILE
    try:
        raw = json.loads(get(path))
        if int(raw["format"]) > newest:
            raise DataError(
                expected=f"{noun} in the format {newest}",
                got=f"format {raw['format']} in {path}",
                remedy="Update DINOmask.",
            )
        return build(raw)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, error, noun, kept) from error


def damaged(path: Path, error: Exception, noun: str, kept: str = KEPT) -> DataError:
    """Say that a file of a job can't be read, and what to do."""
    return DataError(
        expected=f"the files of {noun}",
        got=f"{path}: {error}",
        remedy=f"Discard it and start again; {kept}.",
    )


def restored(kind: Any, raw: Any) -> Any:
    """Return a settings object from the plain values that json made of it.

    Raises
    ------
    TypeError
        If a field is unknown.
    DinomaskError
        If a value is outside its range.
    """
    if dataclasses.is_dataclass(kind) and isinstance(raw, dict):
        hints = typing.get_type_hints(kind)
        known = {name: restored(hints.get(name), value) for name, value in raw.items()}
        return kind(**known)  # type: ignore[operator]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType) and raw is not None:
        return restored(next((a for a in args if a is not type(None)), None), raw)
    if isinstance(raw, list) and origin is not list:
        inner = args[0] if args else None
        return tuple(restored(inner, item) for item in raw)
    if isinstance(raw, dict) and origin is dict and args and args[0] is int:
        return {int(key): value for key, value in raw.items()}
    return raw


def problem_to_json(error: DinomaskError) -> dict[str, str]:
    """Return an error as plain values."""
    kind = type(error).__name__
    return {"kind": kind, "expected": error.expected, "got": error.got, "remedy": error.remedy}


def problem_from_json(raw: dict[str, str]) -> DinomaskError:
    """Return an error as it was raised; of the parent class where its own is unknown."""
    from dinomask import errors

    kind = getattr(errors, raw.get("kind", ""), DinomaskError)
    if not (isinstance(kind, type) and issubclass(kind, DinomaskError)):
        kind = DinomaskError
    return kind(raw["expected"], raw["got"], raw["remedy"])
