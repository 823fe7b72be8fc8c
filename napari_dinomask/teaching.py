"""The state behind the Teach panel: plain, without Qt and without napari."""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import TYPE_CHECKING

from dinomask.config import TeachConfig
from dinomask.errors import SettingsError
from dinomask.nets.adapter_manifest import require_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dinomask.adapt.journal import Journal
    from dinomask.adapt.progress import TeachProgress
    from dinomask.adapt.taught import TaughtImage
    from dinomask.config.teach import TeachMode
    from dinomask.image.source import Image
    from napari_dinomask.corrections import Review

LONGEST_NAME = 60
_SMOOTHING = 0.9
_MOST_POINTS = 20_000


@dataclasses.dataclass(frozen=True)
class TeachIntent:
    """What the Teach form says."""

    name: str
    """Name of the adapter to be."""

    model: str = TeachConfig.model
    """The checkpoint to teach."""

    mode: TeachMode = TeachConfig.mode
    """What learns."""

    minutes: float = TeachConfig.minutes
    """Time for everything."""

    classes: tuple[str, ...] = TeachConfig.classes
    """Names of the objects' classes."""

    def resolve(self) -> TeachConfig:
        """Return the settings of the teaching.

        Raises
        ------
        SettingsError
            If one of them is outside its range, or the name can't be that of a folder.
        """
        require_name(self.name)
        return TeachConfig(
            model=self.model, mode=self.mode, minutes=self.minutes, classes=self.classes
        )


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What was corrected in one label image."""

    by_kind: Mapping[str, int]
    """Number of objects by what was done to them last."""

    n_reviewed: int
    """Reviewed regions."""

    @staticmethod
    def of(journal: Journal) -> Lesson:
        """Count objects by the last correction in effect of each."""
        counted: collections.Counter[str] = collections.Counter()
        for label, correction in journal.touched().items():
            is_there = any(piece.label == label for piece in correction.after)
            was_there = any(piece.label == label for piece in correction.before)
            if is_there:
                # an object that gives way to a new one is not the new one
                gave_way = correction.kind == "add" and was_there
                counted["redraw" if gave_way else correction.kind] += 1
        # a removed object's label may be another's by now
        counted["remove"] = sum(c.kind == "remove" for c in journal.corrections())
        return Lesson({k: n for k, n in counted.items() if n}, len(journal.reviewed()))

    @property
    def n_objects(self) -> int:
        """Objects that were made right, or found right."""
        return sum(n for kind, n in self.by_kind.items() if kind != "remove")

    @property
    def n_removed(self) -> int:
        """False objects that were taken away."""
        return self.by_kind.get("remove", 0)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to learn from."""
        return not (self.n_objects or self.n_removed or self.n_reviewed)


def join_classes(sources: Sequence[Source]) -> tuple[str, ...]:
    """Return the names of classes in several label images: the longest list, if all agree.

    Raises
    ------
    SettingsError
        If a number has different names.
    """
    lists = [source.review.class_names for source in sources]
    longest = max(lists, key=len, default=())
    for names in lists:
        if names != longest[: len(names)]:
            raise SettingsError(
                expected="one list of classes for all label layers",
                got=f"{', '.join(names)} and {', '.join(longest)}",
                remedy="Give the classes the same names in Review & correct.",
            )
    return longest


def join_lessons(lessons: Sequence[Lesson]) -> Lesson:
    """Add up what was corrected in several label images."""
    total: collections.Counter[str] = collections.Counter()
    for lesson in lessons:
        total.update(lesson.by_kind)
    return Lesson(dict(total), sum(lesson.n_reviewed for lesson in lessons))


@dataclasses.dataclass(frozen=True)
class Source:
    """A label image under correction that can be learned from."""

    review: Review
    """Its image, labels and journal."""

    @property
    def name(self) -> str:
        """As the user sees it."""
        return self.review.title

    @property
    def stamp(self) -> tuple[str, int]:
        """What changes with every correction."""
        return self.review.title, len(self.review.journal.history())

    def lesson(self) -> Lesson:
        """Count what was corrected."""
        return Lesson.of(self.review.journal)

    def gather(self) -> list[TaughtImage]:
        """Read what is to be learned; safe in a thread."""
        from dinomask.adapt.from_journal import taught_from_journal

        review = self.review
        name = review.title.split(" · ")[0]
        return taught_from_journal(self._image_of, review.store, review.journal, name)

    def _image_of(self, place: tuple[int, ...]) -> Image:
        """Return the plane of the image that a plane of the labels lies on."""
        image = self.review.image
        axes = [axis for axis in image.axes if axis in image.plane]
        if len(axes) != len(place) or max(self.review.store.leading, default=1) == 1:
            # labels of the one plane that was segmented
            return image
        return image.at_plane(dict(zip(axes, place, strict=True)))


class Curves:
    """Loss and quality over the steps of a training.

    Attributes
    ----------
    steps, losses : of each report that has a loss
    smooth : the losses, averaged over the last ones
    checks, held_out : steps at which the held-out objects were looked at, and the quality there
    last : the report that came last
    """

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.smooth: list[float] = []
        self.checks: list[int] = []
        self.held_out: list[float] = []
        self.last: TeachProgress | None = None

    def take(self, reports: Iterable[TeachProgress]) -> bool:
        """Add reports, in order; tell whether a curve has changed."""
        changed = False
        for report in reports:
            if report.phase == "train":
                changed |= self._forget_from(report.step)
            if report.loss is not None and len(self.steps) < _MOST_POINTS:
                self._add_loss(report.step, report.loss)
                changed = True
            if report.held_out is not None:
                self.checks.append(report.step)
                self.held_out.append(report.held_out)
                changed = True
            self.last = report
        return changed

    def _add_loss(self, step: int, loss: float) -> None:
        if self.steps and self.steps[-1] == step:
            # told again by a training that was taken up
            del self.steps[-1:], self.losses[-1:], self.smooth[-1:]
        before = self.smooth[-1] if self.smooth else loss
        self.steps.append(step)
        self.losses.append(loss)
        # the first average would lag behind a loss that falls at once
        share = min(_SMOOTHING, len(self.smooth) / (len(self.smooth) + 2))
        self.smooth.append(share * before + (1 - share) * loss)

    def _forget_from(self, step: int) -> bool:
        """Drop what a crash has undone: the training goes on from an earlier step."""
        if not self.steps or step >= self.steps[-1]:
            return False
        n = sum(s < step for s in self.steps)
        del self.steps[n:], self.losses[n:], self.smooth[n:]
        n = sum(s < step for s in self.checks)
        del self.checks[n:], self.held_out[n:]
        return True


def suggest_name(image: str, taken: Iterable[str]) -> str:
    """Return a name for an adapter that is taught on an image and has none yet."""
    stem = re.sub(r"[^\w.+-]+", "_", image.split(".")[0]).strip("_.+-") or "mine"
    stem = stem[: LONGEST_NAME - 5]
    known = set(taken)
    if stem not in known:
        return stem
    number = next(n for n in range(2, len(known) + 3) if f"{stem}-{n}" not in known)
    return f"{stem}-{number}"
