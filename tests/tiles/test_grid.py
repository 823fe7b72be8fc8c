"""The grid answers as comparing every box with every other does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dinomask.tiles.grid import BoxGrid


@st.composite
def box_sets(draw: st.DrawFn) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n = draw(st.integers(0, 60))
    first = rng.uniform(-50, 300, (n, 2))
    # sizes over three orders of magnitude, some empty; some corners on whole cells
    sides = np.exp(rng.uniform(-2, 5, (n, 2))) * rng.integers(0, 8, (n, 1)).clip(0, 1)
    return np.round(np.hstack([first, first + sides]), draw(st.sampled_from([0, 3])))


@given(box_sets(), st.integers(0, 2**31))
def test_pairs_are_those_of_brute_force(boxes: np.ndarray, seed: int) -> None:
    chosen = np.random.default_rng(seed).random(len(boxes)) < 0.4
    wanted = [
        (i, j)
        for i in range(len(boxes))
        for j in range(i + 1, len(boxes))
        if (chosen[i] or chosen[j]) and _shared_area(boxes[i], boxes[j]) > 0
    ]
    a, b = BoxGrid.of(boxes).pairs(chosen)
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == wanted


@given(box_sets(), st.tuples(*[st.integers(-80, 350)] * 2), st.tuples(*[st.integers(1, 300)] * 2))
def test_a_window_touches_those_of_brute_force(
    boxes: np.ndarray, first: tuple[int, int], size: tuple[int, int]
) -> None:
    window = (*first, first[0] + size[0], first[1] + size[1])
    wanted = np.flatnonzero(
        np.all((boxes[:, :2] < window[2:]) & (boxes[:, 2:] > np.array(first)), axis=1)
    )
    np.testing.assert_array_equal(BoxGrid.of(boxes).touching(window), wanted)


def _shared_area(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(np.prod(np.maximum(sides, 0)))
