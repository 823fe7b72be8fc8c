"""Many objects corrected in one step of a review, which one undo takes back."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from dinomask.adapt import bulk as plan
from napari_dinomask.objects_wording import say_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_dinomask.corrections import Review
    from napari_dinomask.questions import Done


def remove_all(review: Review, labels: Iterable[int]) -> Done:
    """Delete objects of the plane on display.

    Raises
    ------
    CorrectionError
        If none of them is there.
    """
    change = plan.remove_all(review.store, labels, plane=review.plane)
    return review.carry_out(change, f"Deleted {say_cells(len(change.before))}")


def accept_all(review: Review, labels: Iterable[int]) -> Done:
    """Note that objects are right; raises as `remove_all`."""
    change = plan.accept_all(review.store, labels, plane=review.plane)
    return review.carry_out(change, f"Noted as right: {say_cells(len(change.before))}")


def classify_all(review: Review, classes: Mapping[int, int]) -> Done:
    """Say of which classes objects are; raises as `remove_all`."""
    change = plan.classify_all(review.store, classes, plane=review.plane)
    counted = collections.Counter(piece.class_id for piece in change.after)
    names = review.class_names
    named = [
        f"{n:,} × {names[c] if c < len(names) else f'class {c}'}"
        for c, n in sorted(counted.items())
    ]
    return review.carry_out(change, f"Classified {', '.join(named)}")
