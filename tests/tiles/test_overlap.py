"""Overlaps counted on the masks' grids are those of the drawn masks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dinomask.instances import paste_probability
from dinomask.tiles.overlap import cells_within, sample, shared_cells
from tests.tiles.scenes import disk_mask


@given(st.integers(0, 2**31))
def test_samples_are_what_is_drawn_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 256, (1, 9, 9)).astype(np.uint8)
    start = rng.uniform(0, 30, 2)
    box = np.hstack([start, start + rng.uniform(0.5, 30, 2)])
    # cells of one pixel: their centres are the pixels'
    window = np.array([[5.0, 7.0, 45.0, 47.0]])
    values = sample(mask, box[None], window, 40)[0]
    drawn, (y, x) = paste_probability(mask[0], box, (5, 7, 45, 47))
    wanted = np.zeros((40, 40), np.float32)
    wanted[y - 5 : y - 5 + drawn.shape[0], x - 7 : x - 7 + drawn.shape[1]] = drawn
    np.testing.assert_allclose(values / 255, wanted, atol=1e-4)


@given(st.integers(0, 2**31))
def test_shared_area_of_two_disks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(20, 40, 2)
    shift = rng.uniform(0, (a + b) / 2, 2)
    boxes = np.array([[100.0, 100, 100 + a, 100 + a]])
    others = np.array([[100 + shift[0], 100 + shift[1], 100 + shift[0] + b, 100 + shift[1] + b]])
    masks, view = disk_mask()[None], np.array([[0.0, 0, 130, 300]])
    shared_px2 = shared_cells(masks, boxes, masks, others, view)[0] * (a / 28) ** 2
    y, x = np.mgrid[100:130:0.1, 80:200:0.1] + 0.05
    one = np.hypot(y - 100 - a / 2, x - 100 - a / 2) < a / 2
    two = np.hypot(y - others[0, 0] - b / 2, x - others[0, 1] - b / 2) < b / 2
    wanted_px2 = (one & two).sum() * 0.01
    # half a cell along the outline
    assert abs(shared_px2 - wanted_px2) <= 4 * a * a / 28 + 2


def test_a_view_cuts_by_centres() -> None:
    masks = np.full((3, 4, 4), 255, np.uint8)
    boxes = np.tile(np.array([0.0, 0, 8, 8]), (3, 1))
    # centres at 1, 3, 5, 7; half-open
    views = np.array([[3.0, 0, 5, 8], [3.1, -np.inf, 5.1, np.inf], [9.0, 9, 10, 10]])
    inside = cells_within(masks, boxes, views)
    assert inside.any(axis=2).tolist() == [
        [False, True, False, False],
        [False, False, True, False],
        [False] * 4,
    ]
    assert inside.sum(axis=(1, 2)).tolist() == [4, 4, 0]
