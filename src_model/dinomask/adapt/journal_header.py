"""The first line of a journal: for which image it is kept, and in which format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import dinomask
from dinomask.errors import JournalError, WrongImageError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1


def new_header(image: str, shape_yx: tuple[int, int], created: str) -> dict[str, Any]:
    """Return the first line of a journal that is begun now."""
    return {
        "dinomask_journal": FORMAT,
        "image": image,
        "shape_yx": list(shape_yx),
        "created": created,
        "dinomask_version": dinomask.__version__,
    }


def check_header(path: Path, header: dict[str, Any], image: str, shape_yx: tuple[int, int]) -> None:
    """Refuse a journal that was kept by another program or for another image.

    Raises
    ------
    JournalError
        If its format is unknown.
    WrongImageError
        If it belongs to other pixels.
    """
    found = header.get("dinomask_journal")
    if found != FORMAT:
        raise JournalError(
            expected=f"a journal of format {FORMAT} at {path}",
            got=f"format {found}",
            remedy="Update this program, or choose another file.",
        )
    kept = (header.get("image"), tuple(cast("list[int]", header.get("shape_yx", []))))
    if kept != (image, shape_yx):
        what = "another shape" if kept[1] != shape_yx else "other pixels"
        raise WrongImageError(
            expected=f"the image that {path} was kept for, {kept[1]} pixels",
            got=f"one of {shape_yx} pixels with {what}",
            remedy="Bring the image back as it was, or move the journal away to begin anew: "
            "its corrections don't fit these pixels.",
        )
