"""Cutting, joining and drawing masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from dinomask.adapt.geometry import (
    clip_box,
    join_masks,
    polygon_mask,
    split_mask,
    tight_box,
    union_box,
)
from dinomask.errors import CorrectionError

Y, X = np.mgrid[:60, :80] + 0.5
DUMBBELL = ((Y - 30) ** 2 + (X - 25) ** 2 < 18**2) | ((Y - 30) ** 2 + (X - 55) ** 2 < 18**2)


def _areas(parts):
    return np.bincount(parts.ravel())[1:].tolist()


@pytest.mark.parametrize(
    "line",
    [
        [[-5, 40], [65, 40]],
        # only partly across: from one side, within, and far too short
        [[-5, 40], [30, 40]],
        [[20, 40], [40, 40]],
        [[29, 40], [32, 40]],
        # freehand
        [[5, 40], [12, 41.5], [20, 39], [28, 40.5], [36, 39.5], [44, 40.5]],
    ],
)
def test_a_line_between_two_lobes_parts_them_however_far_it_goes(line):
    left, right = _areas(split_mask(DUMBBELL, np.array(line, float)))
    assert left + right == DUMBBELL.sum()
    assert abs(left - right) < 60


@given(
    seed=st.integers(0, 10**6),
    corner=st.tuples(st.integers(-50, 50), st.integers(-50, 50)),
    n_points=st.integers(2, 6),
)
def test_parts_are_the_mask_whatever_is_drawn(seed, corner, n_points):
    rng = np.random.default_rng(seed)
    mask = ndimage.binary_opening(rng.random((20, 20)) < 0.8)
    line = rng.uniform(-3, 23, (n_points, 2)) + corner
    if not mask.any():
        return
    try:
        parts = split_mask(mask, line, corner)
    except CorrectionError:
        return
    np.testing.assert_array_equal(parts > 0, mask)
    areas = _areas(parts)
    assert len(areas) >= 2
    assert areas == sorted(areas, reverse=True)
    assert min(areas) >= 1


@pytest.mark.parametrize(
    "line", [[[-3, 1.5], [3, 1.5]], [[0.4, 1.0], [0.6, 1.0]], [[0.2, 1.0], [0.9, 1.2]]]
)
def test_three_pixels_can_be_split(line):
    parts = split_mask(np.ones((1, 3), bool), np.array(line))
    assert sorted(_areas(parts)) == [1, 2]


def test_two_pixels_corner_to_corner_are_parted_by_a_line_between():
    mask = np.eye(2, dtype=bool)
    assert _areas(split_mask(mask, np.array([[0.0, 2.0], [2.0, 0.0]]))) == [1, 1]


def test_a_ring_is_parted_by_a_line_through_one_side_of_it():
    radius = np.hypot(Y - 30, X - 40)
    ring = (radius < 25) & (radius > 12)
    one_side = split_mask(ring, np.array([[2.0, 40.0], [22.0, 40.0]]))
    assert abs(np.subtract(*_areas(one_side))) < 0.1 * ring.sum()


def test_pieces_apart_are_parted_by_a_line_between_them():
    mask = np.zeros((5, 20), bool)
    mask[:, :4] = mask[:, 15:] = True
    parts = split_mask(mask, np.array([[0.0, 9.0], [4.0, 9.0]]))
    assert _areas(parts) == [25, 20]
    np.testing.assert_array_equal(parts[0, [0, 19]], [2, 1])


def test_pieces_the_line_does_not_meet_go_with_the_nearest_part():
    mask = np.zeros((9, 30), bool)
    mask[:, :16], mask[4, 20] = True, True
    parts = split_mask(mask, np.array([[-1.0, 5.0], [10.0, 5.0]]))
    assert _areas(parts) == [9 * 11 + 1, 45]
    assert parts[4, 20] == parts[4, 15] == 1


def test_slivers_of_a_trembling_hand_are_no_parts():
    disc = (Y - 30) ** 2 + (X - 40) ** 2 < 28**2
    along = np.linspace(-2, 62, 400)
    line = np.stack([along, 40 + 1.5 * np.sin(along * 2)], 1)
    assert len(_areas(split_mask(disc, line))) == 2


def test_several_lobes_can_be_cut_at_once():
    comb = np.zeros((30, 50), bool)
    comb[20:] = True
    for k in range(4):
        comb[:20, 12 * k + 2 : 12 * k + 10] = True
    assert len(_areas(split_mask(comb, np.array([[10.0, -1.0], [10.0, 51.0]])))) == 5


@pytest.mark.parametrize(
    "line",
    [
        [[0, 0], [0, 79]],
        [[30, 30], [30, 30]],
        [[30, 30]],
        [[30, np.nan], [2, 2]],
        [1.0, 2.0],
    ],
)
def test_lines_that_cannot_part_it_are_refused_with_a_remedy(line):
    with pytest.raises(CorrectionError, match="from one side to the other"):
        split_mask(DUMBBELL, np.array(line, float))


def test_only_gaps_between_masks_are_filled():
    a, b = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    a[2:18, 2:9], b[2:18, 10:18] = True, True
    # a slit in one of them, which is its own shape
    a[8, 2:6] = False
    joined = join_masks([a, b], np.ones((20, 20), bool), 1)
    assert joined[5:15, 9].all()
    assert not joined[8, 2:5].any()
    taken = np.ones((20, 20), bool)
    taken[10, 9] = False
    assert not join_masks([a, b], taken, 1)[10, 9]
    np.testing.assert_array_equal(join_masks([a, b], taken, 0), a | b)


def test_joining_at_the_border_loses_nothing():
    a, b = np.zeros((6, 6), bool), np.zeros((6, 6), bool)
    a[0, :], b[2, :] = True, True
    joined = join_masks([a, b], np.ones((6, 6), bool), 2)
    assert joined[[0, 2]].all()
    assert not joined[3:].any()


def test_boxes():
    mask = np.zeros((7, 9), bool)
    assert tight_box(mask) is None
    mask[2, 8] = mask[5, 3] = True
    assert tight_box(mask) == (2, 3, 6, 9)
    assert union_box([(2, 3, 6, 9), (0, 5, 1, 12)]) == (0, 3, 6, 12)
    assert clip_box((-3, 4, 5, 99), (7, 9)) == (0, 4, 5, 9)
    assert clip_box((20, 20, 25, 25), (7, 9)) == (7, 9, 7, 9)


def test_a_lasso_beyond_the_border_is_cut_there():
    lasso = np.array([[-5.0, 6.0], [-5.0, 20.0], [4.0, 20.0], [4.0, 6.0]])
    mask, corner = polygon_mask(lasso, (10, 12))
    assert corner == (0, 6)
    assert mask.shape == (4, 6)
    assert mask.all()
    outside, _ = polygon_mask(lasso + 100, (10, 12))
    assert not outside.any()
