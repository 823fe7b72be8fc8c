"""What a teaching remembers beside weights, and how it is known again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.config import as_dict
from dinomask.errors import ModelError, OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dinomask.adapt.taught import TaughtImage
    from dinomask.config import TeachConfig

NOTES_FILE = "teaching.json"


@dataclasses.dataclass
class Notes:
    """What a teaching remembers beside weights.

    Attributes
    ----------
    key : hash of images, settings and base
    worked_s, trained_s : seconds of all work, and of the training in it
    train_budget_s : for the training; 0 before it is known
    checks : step and quality on held-out objects, of each check
    best : highest quality so far
    """

    key: str
    worked_s: float = 0.0
    trained_s: float = 0.0
    train_budget_s: float = 0.0
    checks: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    losses: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    best: float = -1.0


def teaching_key(taught: Sequence[TaughtImage], config: TeachConfig, base_sha256: str) -> str:
    """Return a hash of all that decides a teaching."""
    digest = hashlib.sha256(json.dumps([as_dict(config), base_sha256], sort_keys=True).encode())
    for image in taught:
        for array in (image.image_cyx, image.labels_yx, image.object_classes()):
            digest.update(str((array.shape, array.dtype)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_notes(out: Path, key: str) -> Notes:
    """Return the notes of a teaching in a folder; new ones where there are none.

    Raises
    ------
    ModelError
        If they can't be read.
    OutputError
        If they are of another teaching.
    """
    path = out / NOTES_FILE
    if not path.exists():
        return Notes(key)
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        notes = Notes(**raw)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            expected="the notes of a teaching",
            got=f"{path}: {error}",
            remedy="Start the teaching again in another folder.",
        ) from error
    if notes.key != key:
        raise OutputError(
            expected=f"the teaching that was begun in {out}, with the same images and settings",
            got="other ones",
            remedy="Choose another folder, or delete this one to forget that teaching.",
        )
    return notes
