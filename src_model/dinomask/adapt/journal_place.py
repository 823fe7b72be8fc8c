"""Where a journal lies, and what it knows its image by."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from dinomask.errors import OutputError
from dinomask.image.identity import content_stamp
from dinomask.image.levels import visible_channels
from dinomask.image.raw import stamp_of
from dinomask.image.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.image.image import Image

SUFFIX = ".journal.jsonl"
"""Ending of a journal's name."""

_LOOKED_AT = 3
"""Planes of a stack that are compared: the first, the middle one and the last."""


def journal_path(labels_or_image: Path) -> Path:
    """Return where the journal of a label image lies, or of an image whose labels have no file.

    `cells_labels.zarr` has `cells_labels.journal.jsonl` beside it.
    """
    stem = labels_or_image.name
    for ending in (labels_or_image.suffix, ".ome"):
        stem = stem.removesuffix(ending) or stem
    return labels_or_image.with_name(stem + SUFFIX)


def set_aside(journal: Path) -> Path | None:
    """Rename a journal that no longer fits its labels, and return its new name.

    For labels that are made anew: what was corrected in the old ones stays readable.

    Returns
    -------
    Such as `cells_labels.1.journal.jsonl`; None if there is no journal.

    Raises
    ------
    OutputError
        If it can't be renamed.
    """
    if not journal.exists():
        return None
    stem = journal.name.removesuffix(SUFFIX)
    names = (journal.with_name(f"{stem}.{k}{SUFFIX}") for k in itertools.count(1))
    free = next(name for name in names if not name.exists())
    try:
        journal.rename(free)
    except OSError as error:
        raise OutputError(
            expected=f"to rename {journal}",
            got=error.strerror or str(error),
            remedy="Check the permissions of its folder.",
        ) from error
    return free


def pixel_identity(image: Image | Stack) -> str:
    """Return what an image is known by wherever it is moved: its shape and its pixels.

    All channels count, whichever were chosen, and some planes of a stack, whichever is on
    display. Small images count whole, large ones in blocks spread over them.

    Raises
    ------
    ChunkError
        If the pixels can't be read.
    """
    base = image.base if isinstance(image, Stack) else image
    level = base.levels[0]
    sizes = {axis: int(n) for axis, n in zip(base.axes, level.shape, strict=True) if n > 1}
    n_samples = sizes.get("s", 1)
    channels = visible_channels(sizes.get("c", 1), n_samples, n_samples in (2, 4))
    base = dataclasses.replace(base, channels=channels, n_channels=len(channels))
    stamps = []
    for k in range(_LOOKED_AT):
        there = {axis: k * (sizes.get(axis, 1) - 1) // (_LOOKED_AT - 1) for axis in base.plane}
        stamps.append(content_stamp(base.at_plane(there)))
    return stamp_of(sorted(sizes.items()), base.dtype.str, stamps)
