"""The model behind a review: warmed where the mouse rests, asked where it clicks."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal

from napari_dinomask.asking import Asker

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.adapt.prompt import Proposal
    from dinomask.errors import DinomaskError
    from dinomask.image.source import Image
    from napari_dinomask.background import Background
    from napari_dinomask.corrections import Review
    from napari_dinomask.questions import Place, Point, Question

_WARM_MS = 120
"""The mouse rests this long before the model looks at what is under it."""


class ReviewModel(QObject):
    """Asks the model in a thread.

    Parameters
    ----------
    review : whose labels are corrected
    background : the thread
    """

    answered = Signal(object, object)
    """A `Question` and the `Proposal` for it."""

    refused = Signal(object)
    """A `DinomaskError`: there is nothing to be seen, or no model."""

    prepared = Signal()
    """A tile is ready: clicks on it are answered at once."""

    def __init__(self, review: Review, background: Background) -> None:
        super().__init__()
        self._review = review
        self._asker = Asker(review)
        self._background = background
        self._asked: Question | None = None
        self._mouse: Point | None = None
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_WARM_MS)
        self._rest.timeout.connect(self._on_rest)

    @property
    def is_asking(self) -> bool:
        """Whether the model was asked and has not answered."""
        return self._asked is not None

    def show_plane(self, plane: Place, opener: Callable[[], Image]) -> None:
        """Tell how the image of the plane on display is opened."""
        self._asker.show_plane(plane, opener)

    def hover(self, point: Point) -> None:
        """Get ready for a click where the mouse comes to rest."""
        self._mouse = point
        self._rest.start()

    def prepare(self, point: Point) -> None:
        """Get ready for clicks around a point."""
        work = functools.partial(self._asker.prepare, self._review.plane, point)
        self._background.run(work, self._on_prepared, self.refused.emit)

    def ask(self, question: Question) -> None:
        """Ask for an object; `answered` or `refused` follows."""
        self._asked = question
        self._background.run(
            functools.partial(self._asker.answer, question),
            functools.partial(self._on_answer, question),
            self._on_refused,
        )

    def stop(self) -> None:
        """Ask no more."""
        self._rest.stop()
        self._asked = None

    def _on_rest(self) -> None:
        point = self._mouse
        if point is None or self._background.is_busy:
            return
        if not self._asker.is_ready(self._review.plane, point):
            self.prepare(point)

    def _on_prepared(self, _: None) -> None:
        self.prepared.emit()

    def _on_answer(self, question: Question, proposal: Proposal) -> None:
        self._asked = None if self._asked is question else self._asked
        self.answered.emit(question, proposal)

    def _on_refused(self, error: DinomaskError) -> None:
        self._asked = None
        self.refused.emit(error)
