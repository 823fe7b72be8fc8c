"""Find an object in a label image without looking at all of it, and say what is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dinomask.adapt.events import Piece
from dinomask.adapt.geometry import Box, clip_box, grow_box, tight_box, union_box
from dinomask.errors import CorrectionError, OutputError

if TYPE_CHECKING:
    from dinomask.adapt.label_store import LabelStore

Place = tuple[int, ...]
"""Index on the axes before y and x."""

GAP_PX = 64
"""Pieces of an object that lie nearer than this are found together."""


def find_around(
    store: LabelStore, label: int, seeds: list[Box | None], plane: Place = ()
) -> Piece | None:
    """Return an object of which some lies in one of the windows; None if none does.

    The view grows until a margin of `GAP_PX` around the object is free of it.
    """
    known = [clip_box(seed, store.shape_yx) for seed in seeds if seed is not None]
    known = [box for box in known if box[0] < box[2] and box[1] < box[3]]
    if not known:
        return None
    window = grow_box(union_box(known), GAP_PX, store.shape_yx)
    while True:
        mask_yx = store.read(window, plane) == label
        box = tight_box(mask_yx)
        if box is None:
            return None
        y, x = window[:2]
        found = (box[0] + y, box[1] + x, box[2] + y, box[3] + x)
        wanted = grow_box(found, GAP_PX, store.shape_yx)
        if union_box((wanted, window)) == window:
            return Piece(label, (y, x), mask_yx, store.class_of(label))
        # by half its size, so that a large object takes few readings
        side = max(found[2] - found[0], found[3] - found[1])
        window = union_box((window, grow_box(found, GAP_PX + side // 2, store.shape_yx)))


def require_plane(store: LabelStore, plane: Place) -> None:
    """Check that a plane is one of the label image's.

    Raises
    ------
    CorrectionError
        If not.
    """
    leading = store.leading
    fits = len(plane) == len(leading)
    if not fits or any(not 0 <= i < n for i, n in zip(plane, leading, strict=True)):
        raise CorrectionError(
            expected=f"an index on each axis before y and x, of lengths {leading}",
            got=f"the plane {tuple(plane)}",
            remedy="Correct a plane that the label image has.",
        )


def next_after(highest: int, room: int) -> int:
    """Return the id after the highest; raises OutputError if the type has no room."""
    if highest >= room:
        raise OutputError(
            expected=f"an id up to {room}, the largest of this type of labels",
            got="labels that use it",
            remedy="Convert the labels to a larger type of whole numbers.",
        )
    return highest + 1


def not_there(label: int, plane: Place) -> CorrectionError:
    """Return the error for an object that isn't in the labels."""
    where = f" in the plane {tuple(plane)}" if plane else ""
    return CorrectionError(
        expected=f"an object {label}{where}",
        got="labels without it",
        remedy="Choose an object that is there.",
    )
