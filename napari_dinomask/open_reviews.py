"""The label images that are being corrected, for other panels to find; and a first rehearsal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt import corrections as plan
from dinomask.adapt.corrections import Reviewed
from dinomask.adapt.difference import difference_at
from dinomask.adapt.label_store import ArrayStore

if TYPE_CHECKING:
    from napari_dinomask.corrections import Review

_reviews: list[Review] = []


def open_reviews() -> tuple[Review, ...]:
    """Return the label images that are being corrected, the one begun last first."""
    return tuple(reversed(_reviews))


def opened(review: Review) -> None:
    """Let other panels know of a review that begins."""
    _reviews.append(review)


def closed(review: Review) -> None:
    """Let other panels forget a review that ended."""
    if review in _reviews:
        _reviews.remove(review)


def rehearse() -> None:
    """Load what corrections need: seconds at the first time, so to be called in a thread."""
    labels_yx = np.zeros((12, 12), np.int32)
    labels_yx[2:10, 2:6], labels_yx[2:10, 6:10] = 1, 2
    store = ArrayStore(labels_yx)
    plan.split(store, 1, np.array([[6.0, 0.0], [6.0, 11.0]]))
    plan.merge(store, [1, 2])
    difference_at(store, labels_yx, np.roll(labels_yx, 1, axis=0), (0, 0))
    Reviewed.of_box((1, 1, 9, 9)).mask((0, 0, 12, 12))
