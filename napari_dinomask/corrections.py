"""The state of a review: tools, what is in hand, and what a click does to the labels.

Plain, without Qt, napari and torch. Points are (y, x) in image pixels, where pixel (y, x)
covers [y, y + 1) × [x, x + 1).
"""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt import corrections as plan
from dinomask.adapt.corrections import Correction, Piece, Reviewed, label_at
from dinomask.adapt.difference import difference_at
from dinomask.errors import CorrectionError
from napari_dinomask.questions import Done, Question

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from dinomask.adapt.journal import Journal
    from dinomask.adapt.label_store import LabelStore
    from dinomask.config import SegmentConfig
    from dinomask.image.source import Image
    from napari_dinomask.questions import Array, Box, Drawn, Place, Point


@dataclasses.dataclass(frozen=True)
class _Fresh:
    """The object that the model drew last, whose size can still be changed."""

    label: int
    point_yx_px: Point
    rank: int
    event_id: str


class Review:
    """One label image under correction.

    Parameters
    ----------
    title : of the labels, for the user
    store, journal : the labels, and where corrections are kept
    image : what the labels are of; the plane that was on display at the start
    config : how they were made, or would be
    diameter_px : of the objects; None if unknown

    Attributes
    ----------
    plane : on display, as an index of the store
    picked : the first of two objects that are to be merged; 0 for none
    class_names : of the classes 0, 1, …, as far as they have names
    """

    def __init__(
        self,
        title: str,
        store: LabelStore,
        journal: Journal,
        image: Image,
        config: SegmentConfig,
        diameter_px: float | None = None,
    ) -> None:
        self.title = title
        self.store = store
        self.journal = journal
        self.image = image
        self.config = config
        self.diameter_px = diameter_px
        self.plane: Place = (0,) * len(store.leading)
        self.picked = 0
        self.class_names: tuple[str, ...] = ()
        self._picked_at: Point = (0.0, 0.0)
        self._fresh: _Fresh | None = None

    def label_at(self, point: Point) -> int:
        """Return the label at a point of the plane on display; 0 on background."""
        return label_at(self.store, point, self.plane)

    def ask_at(self, point: Point) -> Question:
        """Return what to ask the model for a click on a missed cell."""
        self.picked = 0
        return Question(self.plane, point_yx_px=point)

    def ask_in(self, start: Point, end: Point) -> Question:
        """Return what to ask the model for a box that was dragged from corner to corner."""
        self.picked = 0
        (y0, y1), (x0, x1) = sorted((start[0], end[0])), sorted((start[1], end[1]))
        return Question(self.plane, box_yxyx_px=(y0, x0, y1, x1))

    def ask_next_size(self, step: int = 1) -> Question | None:
        """Return what to ask for another size of the object added last.

        None where it was corrected or undone since, or drawn from a box.
        """
        fresh = self._fresh
        if fresh is None or not self.is_fresh(fresh.label):
            return None
        return Question(self.plane, fresh.point_yx_px, rank=fresh.rank + step, replaces=fresh.label)

    def is_fresh(self, label: int) -> bool:
        """Tell whether an object is the one that the model drew last."""
        fresh, done = self._fresh, self.journal.corrections()
        same = fresh is not None and bool(done) and done[-1].id == fresh.event_id
        return same and fresh is not None and fresh.label == label and done[-1].plane == self.plane

    def deleted(self, plane: Place) -> list[Piece]:
        """Return the objects of a plane that were deleted, which no proposal should repeat."""
        return [
            piece
            for correction in self.journal.corrections()
            if correction.kind == "remove" and correction.plane == plane
            for piece in correction.before
        ]

    def labels_but(self, question: Question, window: Box) -> Array:
        """Read what other objects hold of a window; safe in a thread."""
        labels_yx = self.store.read(window, question.plane)
        if question.replaces:
            labels_yx[labels_yx == question.replaces] = 0
        return labels_yx

    def take(self, question: Question, proposal: Drawn) -> Done:
        """Add the object that the model proposes, or put it in the place of the last one.

        Raises
        ------
        CorrectionError
            If nothing of it is left.
        """
        shape = (proposal.mask_yx, proposal.corner_yx_px)
        plane, near = question.plane, None
        if question.replaces:
            old = self.store.find(question.replaces, near, plane)
            change = plan.redraw(
                self.store, old.label, *shape, plane=plane, near=old.box_yxyx_px, keep_others=True
            )
            label = old.label
        else:
            change = plan.add(
                self.store, *shape, plane=plane, class_id=proposal.class_id, keep_others=True
            )
            (label,) = (piece.label for piece in change.after)
        done = self.carry_out(change, f"Added {label}")
        if question.point_yx_px is not None:
            at = f"size {proposal.rank + 1} of {proposal.n_ranks}"
            done = dataclasses.replace(done, text=f"{done.text} · {at}")
            self._fresh = _Fresh(label, question.point_yx_px, proposal.rank, change.id)
        return done

    def remove(self, point: Point) -> Done | None:
        """Delete the object at a point; None on background."""
        label = self.label_at(point)
        if not label:
            return None
        change = plan.remove(self.store, label, plane=self.plane, near=_pixel(point))
        return self.carry_out(change, f"Deleted {label}")

    def split(self, line_yx_px: Sequence[Point]) -> Done:
        """Cut the objects that a line crosses; the one it crosses longest, if only one can be.

        Raises
        ------
        CorrectionError
            If it crosses none, or can't part it.
        """
        line = np.array(line_yx_px, np.float64)
        labels = self._crossed(line)
        if not labels:
            raise CorrectionError(
                expected="a line across a cell",
                got="one that crosses none",
                remedy="Drag from one side of the cell to the other.",
            )
        near = _box_around(line)
        change = plan.split(self.store, labels[0], line, plane=self.plane, near=near)
        return self.carry_out(change, f"Split {labels[0]} into {len(change.after)}")

    def merge(self, point: Point) -> Done | None:
        """Take the first object into hand, or merge it with the second; None on background."""
        label, first = self.label_at(point), self.picked
        if not label:
            self.picked = 0
            return None
        if not first or first == label:
            self.picked, self._picked_at = (0 if first == label else label), point
            return Done(f"{label} in hand: click its other part" if not first else "Let go")
        self.picked = 0
        near = _box_around(np.array([self._picked_at, point]))
        change = plan.merge(self.store, [first, label], plane=self.plane, near=near)
        return self.carry_out(change, f"Merged {first} and {label}")

    def accept(self, point: Point) -> Done | None:
        """Note that the object at a point is right; None on background."""
        label = self.label_at(point)
        if not label:
            return None
        change = plan.accept(self.store, label, plane=self.plane, near=_pixel(point))
        return self.carry_out(change, f"{label} is right")

    def classify(self, point: Point, class_id: int, name: str = "") -> Done | None:
        """Say of which class the object at a point is; None on background."""
        label = self.label_at(point)
        if not label:
            return None
        near = _pixel(point)
        change = plan.classify(self.store, label, class_id, plane=self.plane, near=near)
        return self.carry_out(change, f"{label} is {name or f'of class {class_id}'}")

    def painted(
        self, before_yx: Array, after_yx: Array, corner_yx_px: tuple[int, int], plane: Place
    ) -> Done | None:
        """Note what was painted with napari's own tools; None if it changed no object."""
        changes = difference_at(self.store, before_yx, after_yx, corner_yx_px, plane)
        for change in changes:
            self.journal.record(change, self.store)
        if not changes:
            return None
        counted = collections.Counter(change.kind for change in changes)
        what = ", ".join(f"{n} × {kind}" if n > 1 else kind for kind, n in counted.items())
        return Done(f"Painted: {what}", None, plane)

    def vouch(self, polygon_yx_px: Sequence[Point]) -> Done:
        """Note that every object in a region is right.

        Raises
        ------
        CorrectionError
            If it is no region of the image.
        """
        height, width = self.store.shape_yx
        corners = np.clip(np.array(polygon_yx_px, np.float64), 0, (height, width))
        if len(corners) < 3 or np.ptp(corners, axis=0).min() < 1:
            raise CorrectionError(
                expected="a region of the image",
                got="one without area in it",
                remedy="Drag over the part that is right.",
            )
        region = Reviewed(corners, self.plane)
        self.journal.record(region)
        (y, x), (to_y, to_x) = corners.T, np.roll(corners, -1, axis=0).T
        area = abs(float(np.sum(y * to_x - to_y * x))) / 2
        return Done(f"Reviewed {100 * area / (height * width):.0f} % of the image", None)

    def carry_out(self, change: Correction, text: str) -> Done:
        """Record a correction, and write it to the labels.

        Raises
        ------
        ConflictError
            If the labels don't show what it begins with.
        OutputError
            If it can't be recorded or written.
        """
        window = self.journal.carry_out(change, self.store)
        return Done(text, window, change.plane)

    def undo(self) -> Done | None:
        """Take back what was done last, in any plane and session; None if there is nothing."""
        return self._step(self.journal.undo(self.store), "Undone")

    def redo(self) -> Done | None:
        """Do again what was undone last; None if there is nothing."""
        return self._step(self.journal.redo(self.store), "Redone")

    def given_classes(self) -> dict[int, int]:
        """Return the classes that the user gave objects of the plane on display, by label."""
        return {
            piece.label: piece.class_id
            for correction in self.journal.corrections()
            if correction.kind == "classify" and correction.plane == self.plane
            for piece in correction.after
        }

    def counts(self) -> dict[str, int]:
        """Return how many corrections of each kind are in effect, and reviewed regions."""
        counted: collections.Counter[str] = collections.Counter()
        for correction in self.journal.corrections():
            counted[correction.kind] += _n_objects(correction)
        regions = len(self.journal.reviewed())
        return {**counted, **({"region": regions} if regions else {})}

    def _step(self, step: Any, word: str) -> Done | None:
        self.picked = 0
        if step is None:
            return None
        kind = "reviewed region"
        if isinstance(step.event, Correction):
            n = _n_objects(step.event)
            kind = f"{step.event.kind} × {n:,}" if n > 1 else step.event.kind
        return Done(f"{word}: {kind}", step.window_yxyx_px, step.plane)

    def _crossed(self, line: Array) -> list[int]:
        """Return the objects under a line, the one with most of it first."""
        legs = np.diff(line, axis=0)
        points = [line[:1]]
        for start, leg in zip(line[:-1], legs, strict=True):
            n = max(1, int(np.ceil(2 * np.hypot(*leg))))
            points.append(start + leg * (np.arange(1, n + 1) / n)[:, None])
        found = [self.label_at((float(y), float(x))) for y, x in np.concatenate(points)]
        return [label for label, _ in collections.Counter(filter(None, found)).most_common()]


def _n_objects(correction: Correction) -> int:
    """Return how many objects a correction is about; several only where it was one for all."""
    of_each = correction.kind in ("remove", "accept", "classify")
    return len(correction.before) if of_each else 1


def _pixel(point: Point) -> Box:
    y, x = int(np.floor(point[0])), int(np.floor(point[1]))
    return y, x, y + 1, x + 1


def _box_around(line: Array) -> Box:
    (y0, x0), (y1, x1) = np.floor(line.min(axis=0)), np.ceil(line.max(axis=0))
    return int(y0), int(x0), int(y1) + 1, int(x1) + 1
