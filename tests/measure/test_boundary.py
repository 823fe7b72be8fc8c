"""Boundary IoU: a case by hand, and what sets it apart from IoU."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinomask.measure.boundary import boundary_ious, rim
from dinomask.measure.overlaps import match


def test_a_square_moved_by_one_pixel_worked_out_by_hand() -> None:
    reference, prediction = np.zeros((20, 20), int), np.zeros((20, 20), int)
    reference[4:14, 4:14] = 7
    prediction[4:14, 5:15] = 3
    # rims of width 1 have 36 pixels each; they share rows 4 and 13 in columns 5 to 13
    (found,) = boundary_ious(reference, prediction, rim_px=1)
    assert found == pytest.approx(18 / (36 + 36 - 18))


def test_the_rim_is_as_wide_as_asked() -> None:
    mask = np.ones((9, 9), bool)
    assert rim(mask, 1).sum() == 81 - 49
    assert rim(mask, 2).sum() == 81 - 25
    assert rim(mask, 9).all()


@given(st.integers(0, 2**31))
@settings(max_examples=20)
def test_order_and_ids_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((24, 24), int)
    for i in range(4):
        y, x = rng.integers(0, 18, 2)
        labels[y : y + 6, x : x + 6] = i + 1
    ids = rng.permutation(5)[1:] + 10
    renamed = np.where(labels > 0, np.append(0, ids)[labels], 0)
    assert boundary_ious(labels, renamed) == pytest.approx(
        np.ones(len(match(labels, labels).reference_ids))
    )


def test_it_notices_what_iou_forgives_large_objects() -> None:
    y, x = np.mgrid[:200, :200] - 100
    smooth = (np.hypot(y, x) < 80).astype(int)
    wavy = (np.hypot(y, x) < 80 + 4 * np.sin(12 * np.arctan2(y, x))).astype(int)
    matching = match(smooth, wavy)
    assert matching.iou[0] > 0.9
    assert boundary_ious(smooth, wavy)[0] < 0.6


def test_nothing_matched_is_nothing_measured() -> None:
    empty = np.zeros((5, 5), int)
    assert len(boundary_ious(empty, empty)) == 0
