"""Corrections as events: what was there, what is there now, and who said so.

Coordinates are those of half-open boxes: pixel (y, x) covers [y, y + 1) × [x, x + 1).
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from dinomask.adapt.geometry import Box, tight_box, union_box
from dinomask.errors import CorrectionError, DataError, JournalError
from dinomask.train.coco_masks import RunLengths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dinomask.instances import Array

Kind = Literal["add", "remove", "redraw", "merge", "split", "classify", "accept"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_INVERSE: dict[Kind, Kind] = {"add": "remove", "remove": "add", "merge": "split", "split": "merge"}


def new_id() -> str:
    """Return an id that no other event has."""
    return uuid.uuid4().hex[:16]


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """The pixels of one object.

    Attributes
    ----------
    label : its id in the label image
    corner_yx_px : where the mask begins, in image pixels
    mask_yx : bool, cut to the smallest box that holds the object; not to be changed
    class_id : 0 where objects have no classes

    Raises
    ------
    CorrectionError
        If it has no pixel.
    """

    label: int
    corner_yx_px: tuple[int, int]
    mask_yx: Array
    class_id: int = 0

    def __post_init__(self) -> None:
        mask_yx = np.asarray(self.mask_yx, bool)
        box = tight_box(mask_yx)
        if box is None:
            raise CorrectionError(
                expected=f"an object of at least one pixel for the label {self.label}",
                got="an empty mask",
                remedy="Draw the object inside the image.",
            )
        y0, x0, y1, x1 = box
        top, left = self.corner_yx_px
        kept = mask_yx[y0:y1, x0:x1].copy()
        kept.flags.writeable = False
        object.__setattr__(self, "mask_yx", kept)
        object.__setattr__(self, "corner_yx_px", (int(top) + y0, int(left) + x0))
        object.__setattr__(self, "label", int(self.label))
        object.__setattr__(self, "class_id", int(self.class_id))

    @staticmethod
    def cut(
        labels_yx: Array,
        label: int,
        corner_yx_px: tuple[int, int] = (0, 0),
        class_id: int = 0,
    ) -> Piece | None:
        """Cut an object out of a window of a label image; None if it isn't there."""
        mask_yx = labels_yx == label
        return Piece(label, corner_yx_px, mask_yx, class_id) if mask_yx.any() else None

    @property
    def box_yxyx_px(self) -> Box:
        """The smallest half-open box that holds the object."""
        (y, x), (height, width) = self.corner_yx_px, self.mask_yx.shape
        return y, x, y + height, x + width

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return int(self.mask_yx.sum())

    @property
    def centre_yx_px(self) -> tuple[float, float]:
        """Mean of the centres of the pixels."""
        y, x = np.nonzero(self.mask_yx)
        top, left = self.corner_yx_px
        return float(top + y.mean() + 0.5), float(left + x.mean() + 0.5)

    def within(self, window_yxyx_px: Box) -> Array:
        """Return the mask on a window, shape (y1 - y0, x1 - x0); what is outside is left out."""
        y0, x0, y1, x1 = window_yxyx_px
        top, left, bottom, right = self.box_yxyx_px
        mask_yx = np.zeros((max(0, y1 - y0), max(0, x1 - x0)), bool)
        a, b, c, d = max(y0, top), max(x0, left), min(y1, bottom), min(x1, right)
        if a < c and b < d:
            part = self.mask_yx[a - top : c - top, b - left : d - left]
            mask_yx[a - y0 : c - y0, b - x0 : d - x0] = part
        return mask_yx

    def without(self, others: Iterable[Piece]) -> Piece | None:
        """Return what is left where none of the others lies; None if nothing is."""
        rest = self.mask_yx.copy()
        for other in others:
            rest &= ~other.within(self.box_yxyx_px)
        if not rest.any():
            return None
        return Piece(self.label, self.corner_yx_px, rest, self.class_id)

    def as_json(self) -> dict[str, Any]:
        """Return plain json values; pixels as COCO's run lengths (down the columns)."""
        return {
            "label": self.label,
            "corner": list(self.corner_yx_px),
            "size": list(self.mask_yx.shape),
            "counts": run_lengths(self.mask_yx),
            "class": self.class_id,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Piece:
        """Return the piece that `as_json` wrote.

        Raises
        ------
        JournalError
            If it is not one.
        """
        try:
            height, width = (int(n) for n in value["size"])
            mask_yx = np.zeros(height * width, bool)
            counts = np.array(value["counts"], np.int64)
            mask_yx[RunLengths((height, width), counts).pixels((height, width))] = True
            top, left = (int(n) for n in value["corner"])
            shaped = mask_yx.reshape(height, width)
            return Piece(value["label"], (top, left), shaped, value["class"])
        except (KeyError, TypeError, ValueError, DataError, CorrectionError) as error:
            raise not_an_event(expected="an object with its run lengths", got=error) from error

    def __eq__(self, other: object) -> bool:
        """Tell whether both are the same pixels of the same label and class."""
        if not isinstance(other, Piece):
            return NotImplemented
        same = (self.label, self.box_yxyx_px, self.class_id) == (
            *(other.label, other.box_yxyx_px, other.class_id),
        )
        return same and bool(np.array_equal(self.mask_yx, other.mask_yx))

    def __hash__(self) -> int:
        return hash((self.label, self.box_yxyx_px, self.class_id))


@dataclasses.dataclass(frozen=True)
class Correction:
    """One edit by a user, as an event with an inverse.

    Attributes
    ----------
    kind : what was meant
    before : every object that is changed, whole, as it was; sorted by label
    after : what became of them; objects painted over are among both
    plane : index on the axes before y and x
    author : who did it
    time : when, ISO 8601 in UTC
    model : whose labels were corrected
    id : of this event
    """

    kind: Kind
    before: tuple[Piece, ...]
    after: tuple[Piece, ...]
    plane: tuple[int, ...] = ()
    author: str = ""
    time: str = ""
    model: str = ""
    id: str = dataclasses.field(default_factory=new_id)

    def inverse(self) -> Correction:
        """Return the event that takes this one back."""
        kind = _INVERSE.get(self.kind, self.kind)
        return dataclasses.replace(
            self, kind=kind, before=self.after, after=self.before, id=new_id()
        )

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels that are changed, sorted."""
        return tuple(sorted({piece.label for piece in (*self.before, *self.after)}))

    @property
    def window_yxyx_px(self) -> Box:
        """The smallest box around all that is changed."""
        return union_box(piece.box_yxyx_px for piece in (*self.before, *self.after))

    def as_json(self) -> dict[str, Any]:
        """Return plain json values."""
        return {
            "kind": self.kind,
            "before": [piece.as_json() for piece in self.before],
            "after": [piece.as_json() for piece in self.after],
            "plane": list(self.plane),
            "author": self.author,
            "time": self.time,
            "model": self.model,
            "id": self.id,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Correction:
        """Return the correction that `as_json` wrote.

        Raises
        ------
        JournalError
            If it is not one.
        """
        try:
            if value["kind"] not in KINDS or not value["before"] + value["after"]:
                raise not_an_event(expected="a correction of a known kind", got=value["kind"])
            return Correction(
                value["kind"],
                tuple(Piece.from_json(piece) for piece in value["before"]),
                tuple(Piece.from_json(piece) for piece in value["after"]),
                tuple(int(i) for i in value["plane"]),
                *(str(value[key]) for key in ("author", "time", "model", "id")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise not_an_event(expected="a correction", got=error) from error


def run_lengths(mask_yx: Array) -> list[int]:
    """Return lengths of runs down the columns, beginning with background.

    The inverse of `dinomask.train.coco_masks.RunLengths.pixels`.
    """
    flat = mask_yx.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return [0, *counts] if len(flat) and flat[0] else list(counts)


def not_an_event(expected: str, got: object) -> JournalError:
    """Return the error for a line that can't be understood."""
    return JournalError(
        expected=expected,
        got=str(got)[:80],
        remedy="Use a journal that this program wrote, or a newer version of the program.",
    )
