"""The model's answers to clicks: loaded, warmed and asked in a thread; without Qt."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from napari_dinomask.network import network

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from dinomask.adapt.prompt import Prompter, Proposal
    from dinomask.image.source import Image
    from napari_dinomask.corrections import Review
    from napari_dinomask.questions import Question

    Array = npt.NDArray[Any]
    Place = tuple[int, ...]
    Point = tuple[float, float]

_PLANES = 3
"""Planes of a stack whose features are kept."""


class Asker:
    """Asks the model for objects of one label image under review.

    Parameters
    ----------
    review : whose labels are kept clear of, and whose model answers
    """

    def __init__(self, review: Review) -> None:
        self._review = review
        self._openers: dict[Place, Callable[[], Image]] = {}
        self._prompters: dict[Place, Prompter] = {}
        self._lock = threading.Lock()

    def show_plane(self, plane: Place, opener: Callable[[], Image]) -> None:
        """Tell how the image of a plane is opened; at once, in any thread."""
        self._openers.setdefault(plane, opener)

    def is_ready(self, plane: Place, point: Point) -> bool:
        """Tell whether a click is answered at once; never waits."""
        prompter = self._prompters.get(plane)
        return prompter is not None and prompter.ready(point)

    def prepare(self, plane: Place, point: Point) -> None:
        """Do all that takes long before a click can be answered.

        Raises
        ------
        ModelError, InputError
            If the model can't be loaded, or the image not be read.
        """
        self._prompter(plane).prepare(point)

    def answer(self, question: Question) -> Proposal:
        """Return what the model proposes.

        Raises
        ------
        InputError
            If it sees nothing there.
        """
        prompter = self._prompter(question.plane)

        def others(window: tuple[int, int, int, int]) -> Array:
            return self._review.labels_but(question, window)

        if question.box_yxyx_px is not None:
            return prompter.propose_box(question.box_yxyx_px, others)
        if question.point_yx_px is None:
            msg = "a question without a place"
            raise ValueError(msg)
        deleted = self._review.deleted(question.plane)
        return prompter.propose(question.point_yx_px, question.rank, others, deleted)

    def _prompter(self, plane: Place) -> Prompter:
        with self._lock:
            if plane not in self._prompters:
                while len(self._prompters) >= _PLANES:
                    del self._prompters[next(iter(self._prompters))]
                image, review = self._openers[plane](), self._review
                self._prompters[plane] = network.prompter(image, review.config, review.diameter_px)
            return self._prompters[plane]
