"""Corrections from a panel that doesn't itself review: into the journal of the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from dinomask.errors import DinomaskError
from napari_dinomask.review_files import EarlierReviewError
from napari_dinomask.widgets.review_session import ReviewSession, session_on
from napari_dinomask.widgets.review_target import ReviewTarget
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Labels

    from napari_dinomask.corrections import Review
    from napari_dinomask.questions import Done
    from napari_dinomask.review_files import Begin

    Work = Callable[[Review], Done | None]


class Corrector(QObject):
    """Goes on with the review of the labels that is open, or opens one.

    Parameters
    ----------
    viewer, image, labels : what is corrected
    """

    told = Signal(str, str)
    """Severity, and what to say."""

    changed = Signal()
    """Something was corrected or undone, here or in another panel."""

    asked = Signal(int)
    """There is an earlier review with so many corrections of other labels; see `answer`."""

    def __init__(self, viewer: ViewerModel, image: ImageLayer, labels: Labels) -> None:
        super().__init__()
        self._viewer, self._image, self._labels = viewer, image, labels
        self._own: ReviewSession | None = None
        self._followed: ReviewSession | None = None
        self._waiting: tuple[Work, str] | None = None
        self.follow()

    @property
    def session(self) -> ReviewSession | None:
        """In which the labels are corrected, here or in another panel."""
        return session_on(self._labels)

    @property
    def review(self) -> Review | None:
        """The review in progress; None before it is opened."""
        session = self.session
        return None if session is None else session.review

    @property
    def is_busy(self) -> bool:
        """Whether something is being opened or written."""
        session = self.session
        return self._waiting is not None or (session is not None and session.is_busy)

    def act(self, work: Work, otherwise: str = "") -> None:
        """Do something to the labels in a thread, once their journal is open."""
        self.follow()
        session = self.session
        if session is not None and session.review is not None:
            review = session.review
            session.do_apart(lambda: work(review), otherwise)
            return
        self._waiting = (work, otherwise)
        if session is None:
            self._open("ask")

    def undo(self) -> None:
        """Take back what was done last."""
        self.act(lambda review: review.undo(), "There is nothing to undo.")

    def redo(self) -> None:
        """Do again what was undone last."""
        self.act(lambda review: review.redo(), "There is nothing to redo.")

    def answer(self, how: Begin) -> None:
        """Go on with an earlier review, or begin anew."""
        self._open(how)

    def follow(self) -> None:
        """Hear of what is corrected in another panel."""
        session = self.session
        if session is self._followed:
            return
        self._let_go()
        self._followed = session
        if session is not None:
            session.changed.connect(self.changed)
            session.told.connect(self._tell)
            session.began.connect(self._on_began)
            session.ended.connect(self._on_ended)
            self.changed.emit()

    def close(self) -> None:
        """End the review, if it is our own; everything is on disk already."""
        self._waiting = None
        self._let_go()
        own, self._own = self._own, None
        if own is not None and session_on(self._labels) is own:
            own.close()

    def _open(self, how: Begin) -> None:
        try:
            target = ReviewTarget.of(self._viewer, self._image, self._labels)
            own = ReviewSession(target)
        except DinomaskError as error:
            self._waiting = None
            self.told.emit("error", say_error(error))
            return
        self._own = own
        own.failed.connect(self._on_failed)
        own.begin(how)
        self.follow()

    def _let_go(self) -> None:
        session, self._followed = self._followed, None
        if session is not None:
            session.changed.disconnect(self.changed)
            session.told.disconnect(self._tell)
            session.began.disconnect(self._on_began)
            session.ended.disconnect(self._on_ended)

    def _tell(self, severity: str, text: str) -> None:
        # what a tool of another panel explains is of no use here
        if severity != "info" or self._own is self._followed:
            self.told.emit(severity, text)

    def _on_began(self) -> None:
        self.told.emit("info", "")
        self.changed.emit()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.act(*waiting)

    def _on_failed(self, error: DinomaskError) -> None:
        own, self._own = self._own, None
        self._let_go()
        if own is not None:
            own.close()
        if isinstance(error, EarlierReviewError):
            self.asked.emit(error.n_corrections)
        else:
            self._waiting = None
            self.told.emit("error", say_error(error))

    def _on_ended(self, _: Any = None) -> None:
        self._let_go()
        self._own = None
