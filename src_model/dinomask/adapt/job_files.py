"""What a teaching is asked to do, in the files of its job. No torch here.

```
job.json          name, settings, list of inputs; written last, so that it vouches for the rest
taught/0000.npz   one image to learn from, with its labels
work/             of the training itself: its state, the adapter
```
The other files are those of every job, see `dinomask.jobs.files`.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.adapt.taught import TaughtImage
from dinomask.config import TeachConfig, as_dict
from dinomask.jobs.files import (
    damaged,
    read_job,
    require_free,
    restored,
    write_error,
    write_job,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TAUGHT_FOLDER = "taught"
FORMAT = 1

NOUN = "the teaching"
KEPT = "the corrections are kept in their journal"
"""What a job of this kind is called in messages."""


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
    require_free(folder, "a teaching")
    entries = []
    try:
        (folder / TAUGHT_FOLDER).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(taught):
            file = f"{TAUGHT_FOLDER}/{i:04d}.npz"
            entries.append({"file": file} | _write_taught(folder / file, image))
    except OSError as error:
        raise write_error(folder, error) from error
    asked = {"name": name, "config": as_dict(config), "taught": entries}
    write_job(folder, FORMAT, asked)


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

    def build(raw: dict[str, Any]) -> JobInputs:
        config = restored(TeachConfig, raw["config"])
        return JobInputs(raw["name"], config, raw["created"], tuple(raw["taught"]))

    return read_job(folder, FORMAT, NOUN, build, KEPT)


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
            raise damaged(path, error, NOUN, KEPT) from error
    return images
