"""The files of a teaching that runs in a process of its own. No torch here.

```
job.json          name, settings, list of inputs; written last, so that it vouches for the rest
taught/0000.npz   one image to learn from, with its labels
launched.json     the process that was started last
process.json      the process at work, renewed every second
progress.jsonl    a line a report
control           what the user wants: go on, pause or cancel
result.json       how it ended; missing while it runs and after a crash
worker.log        what the process printed
work/             of the training itself: its state, the adapter
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
from typing import TYPE_CHECKING, Any

import numpy as np

import dinomask
from dinomask.adapt.beat import get, put
from dinomask.adapt.taught import TaughtImage
from dinomask.config import TeachConfig, as_dict
from dinomask.errors import DataError, DinomaskError, OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

JOB_FILE = "job.json"
LAUNCHED_FILE = "launched.json"
PROCESS_FILE = "process.json"
PROGRESS_FILE = "progress.jsonl"
CONTROL_FILE = "control"
RESULT_FILE = "result.json"
RESERVE_FILE = "result.reserve"
LOCK_FILE = "worker.lock"
LOG_FILE = "worker.log"
TAUGHT_FOLDER = "taught"
WORK_FOLDER = "work"
FORMAT = 1

RESERVE_BYTES = 64 * 2**10
"""Kept free on the disk, so that the reason can be written once it is full."""


@dataclasses.dataclass(frozen=True)
class JobInputs:
    """What a teaching was asked to do."""

    name: str
    """Name of the adapter."""

    config: TeachConfig
    """Settings."""

    created: str
    """When it was asked for, ISO 8601."""

    entries: tuple[dict[str, Any], ...]
    """What job.json says of each image: its file and all that is no array."""


def write_inputs(
    folder: Path, taught: Sequence[TaughtImage], name: str, config: TeachConfig
) -> None:
    """Write what a teaching needs, whole or not at all.

    Raises
    ------
    OutputError
        If the folder holds a teaching already, or can't be written.
    """
    if (folder / JOB_FILE).exists():
        raise OutputError(
            expected="a folder without a teaching",
            got=f"{folder / JOB_FILE}",
            remedy="Go on with that one, discard it, or choose another folder.",
        )
    entries = []
    try:
        (folder / TAUGHT_FOLDER).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(taught):
            file = f"{TAUGHT_FOLDER}/{i:04d}.npz"
            entries.append({"file": file} | _write_taught(folder / file, image))
        job = {
            "format": FORMAT,
            "name": name,
            "config": as_dict(config),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "dinomask_version": dinomask.__version__,
            "taught": entries,
        }
        put(folder / JOB_FILE, json.dumps(job, indent=1), durable=True)
    except OSError as error:
        raise write_error(folder, error) from error


def write_error(path: Path, error: OSError) -> OutputError:
    """Say that a file of a teaching could not be written, and what to do."""
    is_full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None), errno.EFBIG)
    return OutputError(
        expected=f"enough free space for {path}" if is_full else f"to write {path}",
        got=error.strerror or str(error),
        remedy="Free some space, then go on with the teaching; what was learned is kept."
        if is_full
        else "Change the folder's permissions, then go on with the teaching.",
    )


def _write_taught(path: Path, image: TaughtImage) -> dict[str, Any]:
    """Write an image's arrays to a file, and return its other fields."""
    fields = {f.name: getattr(image, f.name) for f in dataclasses.fields(image)}
    arrays: dict[str, Any] = {k: v for k, v in fields.items() if isinstance(v, np.ndarray)}
    with path.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    return {k: v for k, v in fields.items() if k not in arrays}


def read_inputs(folder: Path) -> JobInputs:
    """Read what a teaching was asked to do.

    Raises
    ------
    DataError
        If there is none, or it is damaged or of a later version.
    """
    path = folder / JOB_FILE
    try:
        raw = json.loads(get(path))
        if int(raw["format"]) > FORMAT:
            raise DataError(
                expected=f"a teaching of format {FORMAT}",
                got=f"format {raw['format']} in {path}",
                remedy="Update DINOmask.",
            )
        config = restored(TeachConfig, raw["config"])
        return JobInputs(raw["name"], config, raw["created"], tuple(raw["taught"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def read_taught(folder: Path, inputs: JobInputs) -> list[TaughtImage]:
    """Read the images to learn from.

    Raises
    ------
    DataError
        If one is missing or damaged.
    """
    images = []
    for entry in inputs.entries:
        path = folder / entry["file"]
        try:
            others = {k: v for k, v in entry.items() if k != "file"}
            with np.load(path, allow_pickle=False) as arrays:
                images.append(TaughtImage(**others | dict(arrays)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from error
    return images


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        expected="the files of a teaching",
        got=f"{path}: {error}",
        remedy="Discard it and start again; the corrections are kept in their journal.",
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
