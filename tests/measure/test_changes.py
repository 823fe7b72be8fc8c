"""Gained, lost and changed: worked out by hand, and for any two label images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dinomask.errors import DataError
from dinomask.measure.changes import Change, compare
from dinomask.measure.overlaps import match


def squares(shape_yx: tuple[int, int], boxes: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    labels = np.zeros(shape_yx, np.int64)
    for label, (y0, x0, y1, x1) in boxes.items():
        labels[y0:y1, x0:x1] = label
    return labels


def test_each_kind_by_hand() -> None:
    before = squares(
        (40, 60),
        {5: (0, 0, 10, 10), 900_000: (20, 0, 30, 10), 7: (0, 30, 10, 40), 8: (30, 30, 40, 50)},
    )
    after = squares(
        (40, 60),
        # alike under another id; gone; 4 of 10 columns less; cut in a large and a small part
        {
            70: (0, 0, 10, 10),
            3: (0, 30, 10, 36),
            10: (30, 30, 40, 44),
            11: (30, 44, 40, 50),
            2: (15, 50, 17, 54),
        },
    )
    found = compare(before, after)
    assert found.n_same == 1
    assert found.lost == (Change(900_000, (25.0, 5.0), (20, 0, 30, 10), 0.0, 900_000),)
    assert found.gained == (
        Change(2, (16.0, 52.0), (15, 50, 17, 54), 0.0),
        Change(11, (35.0, 47.0), (30, 44, 40, 50), 0.3),
    )
    assert found.changed == (
        Change(3, (5.0, 33.0), (0, 30, 10, 36), 0.6, 7),
        Change(10, (35.0, 37.0), (30, 30, 40, 44), 0.7, 8),
    )


def test_pieces_apart_are_one_object() -> None:
    labels = np.array([[1, 0, 0, 0, 1]])
    (change,) = compare(np.zeros_like(labels), labels).gained
    assert change.centre_yx_px == (0.5, 2.5)
    assert change.box_yxyx_px == (0, 0, 1, 5)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="one shape"):
        compare(np.zeros((3, 4), int), np.zeros((4, 3), int))


LABELS = hnp.arrays(np.int32, (9, 11), elements=st.integers(0, 5))


@given(LABELS, LABELS)
def test_every_object_is_told_of_once(before: np.ndarray, after: np.ndarray) -> None:
    found = compare(before, after)
    earlier, later = set(np.unique(before)) - {0}, set(np.unique(after)) - {0}
    assert len(found.lost) + len(found.changed) + found.n_same == len(earlier)
    assert len(found.gained) + len(found.changed) + found.n_same == len(later)
    assert {c.label for c in found.lost} <= earlier
    assert {c.label for c in (*found.gained, *found.changed)} <= later
    counts = match(before, after).counts(0.5)
    assert (len(found.gained), len(found.lost)) == (counts.fp, counts.fn)
    for change in (*found.gained, *found.changed):
        y0, x0, y1, x1 = change.box_yxyx_px
        shown = after == change.label
        ys, xs = np.nonzero(shown)
        assert (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1) == (y0, x0, y1, x1)
        assert change.centre_yx_px == pytest.approx((ys.mean() + 0.5, xs.mean() + 0.5))
    for change in found.changed:
        one, other = before == change.label_before, after == change.label
        assert change.iou == pytest.approx(np.sum(one & other) / np.sum(one | other))
        assert 0.5 <= change.iou < 0.9


@given(LABELS, LABELS)
def test_looked_at_the_other_way_gained_is_lost(before: np.ndarray, after: np.ndarray) -> None:
    # above a half, nobody has two to choose from
    there, back = compare(before, after, tau=0.51), compare(after, before, tau=0.51)
    assert {c.label for c in there.gained} == {c.label for c in back.lost}
    assert {c.label for c in there.lost} == {c.label for c in back.gained}
    assert {(c.label_before, c.label) for c in there.changed} == {
        (c.label, c.label_before) for c in back.changed
    }


@given(LABELS)
def test_nothing_changes_against_itself(labels: np.ndarray) -> None:
    found = compare(labels, labels)
    assert (found.gained, found.lost, found.changed) == ((), (), ())
