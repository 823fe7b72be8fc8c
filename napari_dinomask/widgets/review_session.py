"""One label image under correction: its journal opened, kept in step with the layer, closed.

Panels share it: where one corrects a layer, another goes on with the same journal.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from dinomask.errors import CorrectionError, DinomaskError
from napari_dinomask.background import Background
from napari_dinomask.corrections import Review
from napari_dinomask.layers import CorrectedLayer
from napari_dinomask.open_reviews import closed, opened, rehearse
from napari_dinomask.review_files import forget_unused, keep_classes, keep_project, open_review
from napari_dinomask.review_wording import BUSY, OPENING
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels

    from napari_dinomask.questions import Array, Done, Place
    from napari_dinomask.review_files import Begin, Opened
    from napari_dinomask.widgets.review_target import ReviewTarget

_sessions: list[ReviewSession] = []


def session_on(labels: Labels) -> ReviewSession | None:
    """Return the session in which a layer is corrected; None if there is none."""
    return next((s for s in _sessions if s.target.labels is labels), None)


class ReviewSession(QObject):
    """Links the labels on display and the journal.

    Parameters
    ----------
    target : what is corrected

    Attributes
    ----------
    review : in progress; None before it is opened
    """

    began = Signal()
    """Corrections are taken from now on."""

    told = Signal(str, str)
    """Severity, and what to say."""

    failed = Signal(object)
    """The `DinomaskError` for which the review could not begin."""

    changed = Signal()
    """Something was corrected, undone or chosen."""

    ended = Signal()
    """No more corrections are taken."""

    def __init__(self, target: ReviewTarget) -> None:
        super().__init__()
        self.target = target
        self.review: Review | None = None
        self.class_names: tuple[str, ...] = ()
        self._kept_classes: tuple[str, ...] = ()
        self._is_apart = False
        self.background = Background("dinomask-review")
        self.background.crashed.connect(self._on_crashed)
        self._layer = CorrectedLayer(
            target.viewer, target.labels, target.displayed, self._on_painted
        )

    def begin(self, how: Begin = "ask") -> None:
        """Open the journal in the thread; the review begins when it is open."""
        target = self.target
        other = session_on(target.labels)
        if other is not None:
            # one journal can't be kept by two
            other.close()
        _sessions.append(self)
        self.told.emit("info", OPENING)
        # what is painted before the journal is open would not be in it
        target.labels.editable = False
        work = functools.partial(
            open_review,
            target.opener(),
            self._layer.array.copy(),
            target.beside,
            target.name,
            target.model_name,
            how,
        )
        self.background.run(rehearse, lambda _: None, self._on_not_opened)
        self.background.run(work, self._on_opened, self._on_not_opened)

    def close(self) -> None:
        """End the review; everything is on disk already."""
        if self in _sessions:
            _sessions.remove(self)
        self.background.close()
        self._layer.close()
        self.target.labels.editable = True
        if self.review is not None:
            closed(self.review)
            forget_unused(self.review.journal)
            self._keep_project(self.review)
        self.ended.emit()

    @property
    def is_busy(self) -> bool:
        """Whether many objects are being corrected."""
        return self._is_apart

    def do_apart(self, work: Callable[[], Done | None], otherwise: str) -> None:
        """Do something to many objects in the thread; what it wrote shows at its end."""
        if self._is_apart:
            self.told.emit("info", BUSY)
            return
        self._is_apart = True
        self._layer.hold()
        # what is painted meanwhile would not be noted
        self.target.labels.editable = False
        self.background.run(
            work, lambda done: self._on_done_apart(done, otherwise), self._on_refused_apart
        )

    def do(self, work: Callable[[], Done | None], otherwise: str) -> None:
        """Do something to the labels, and say what came of it."""
        if self._is_apart:
            self.told.emit("info", BUSY)
            return
        try:
            done = work()
        except DinomaskError as error:
            self.told.emit("error", say_error(error))
            return
        self.told.emit("result" if done else "info", done.text if done else otherwise)
        self.changed.emit()

    def _on_done_apart(self, done: Done | None, otherwise: str) -> None:
        self._end_apart()
        self.told.emit("result" if done else "info", done.text if done else otherwise)
        self.changed.emit()

    def _on_refused_apart(self, error: DinomaskError) -> None:
        self._end_apart()
        self.told.emit("error", say_error(error))

    def _end_apart(self) -> None:
        self._is_apart = False
        self._layer.show_held()
        self.target.labels.editable = True

    def _keep_project(self, review: Review) -> None:
        """Write labels and project in a thread that ends by itself, also when napari closes."""
        path = self.target.path
        if path is None or not review.journal.history():
            return
        labels = self._layer.array.copy()
        config = self.target.config
        threading.Thread(
            target=keep_project,
            args=(
                path,
                labels,
                review.journal.path,
                config.model,
                config.adapter or "",
                review.class_names,
            ),
            name="dinomask-project",
        ).start()

    def keep_classes(self) -> None:
        """Write the names of classes in a thread, so that a crash takes none of them."""
        review = self.review
        if review is None or review.class_names == self._kept_classes:
            return
        self._kept_classes = review.class_names
        config = self.target.config
        threading.Thread(
            target=keep_classes,
            args=(review.journal.path, config.model, config.adapter or "", review.class_names),
            name="dinomask-classes",
        ).start()

    def _on_opened(self, found: Opened) -> None:
        target = self.target
        target.labels.editable = True
        review = Review(
            target.labels.name,
            self._layer.store,
            found.journal,
            found.image,
            target.config,
            target.diameter_px or found.diameter_px,
        )
        if found.restored is not None:
            self._layer.replace(found.restored)
        try:
            found.journal.catch_up(review.store)
        except CorrectionError as error:
            self.failed.emit(error)
            return
        self.class_names = self.class_names or found.classes
        review.class_names = self.class_names
        if self._layer.plane is not None:
            review.plane = self._layer.plane
        self.review = review
        self._set_up(review)
        # names may have been typed before the review began
        self.keep_classes()
        opened(review)
        if found.journal.torn:
            self.told.emit("warning", found.journal.torn)
        self.began.emit()

    def _set_up(self, review: Review) -> None:
        """Get ready for corrections."""

    def _on_not_opened(self, error: DinomaskError) -> None:
        self.target.labels.editable = True
        self.failed.emit(error)

    def _on_crashed(self, error: BaseException) -> None:
        raise error

    def _on_painted(
        self, before_yx: Array, after_yx: Array, corner_yx_px: tuple[int, int], plane: Place
    ) -> bool:
        """Note what was painted with napari's tools; False if it can't be noted."""
        review = self.review
        if review is None:
            return True
        try:
            done = review.painted(before_yx, after_yx, corner_yx_px, plane)
        except DinomaskError as error:
            self.told.emit("error", say_error(error))
            return False
        if done is not None:
            self.told.emit("result", done.text)
            self.changed.emit()
        return True
