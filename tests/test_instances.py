"""Drawing one mask at the image's resolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from dinomask.instances import Instances, paste_probability

coordinates = st.floats(-40, 120, width=32)
sides = st.floats(2**-7, 90, width=32)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    mask = rng.integers(0, 256, (draw(st.sampled_from([1, 2, 7, 28])),) * 2).astype(np.uint8)
    y, x = draw(coordinates), draw(coordinates)
    return mask, np.array([y, x, y + draw(sides), x + draw(sides)], np.float32)


@given(cases())
def test_equals_scipys_bilinear_interpolation(case: tuple[np.ndarray, np.ndarray]) -> None:
    mask, box = case
    drawn, (top, left) = paste_probability(mask, box)
    y0, x0, y1, x1 = (float(v) for v in box)
    y = top + np.arange(drawn.shape[0]) + 0.5
    x = left + np.arange(drawn.shape[1]) + 0.5
    cell_y = (y - y0) / max(y1 - y0, 1e-6) * len(mask) - 0.5
    cell_x = (x - x0) / max(x1 - x0, 1e-6) * len(mask) - 0.5
    grid = np.meshgrid(cell_y, cell_x, indexing="ij")
    wanted = map_coordinates(mask / 255.0, grid, order=1, mode="nearest")
    inside = ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))
    np.testing.assert_allclose(drawn, np.where(inside, wanted, 0), atol=1e-5)


@given(cases(), st.tuples(*[st.integers(-50, 150)] * 2), st.tuples(*[st.integers(1, 80)] * 2))
def test_a_window_changes_no_bit(
    case: tuple[np.ndarray, np.ndarray], first: tuple[int, int], size: tuple[int, int]
) -> None:
    mask, box = case
    whole, (top, left) = paste_probability(mask, box)
    canvas = np.zeros((400, 400), np.float32)
    canvas[top + 100 : top + 100 + whole.shape[0], left + 100 : left + 100 + whole.shape[1]] = whole
    y, x = first
    part, (p, q) = paste_probability(mask, box, (y, x, y + size[0], x + size[1]))
    window = np.zeros(size, np.float32)
    window[p - y : p - y + part.shape[0], q - x : q - x + part.shape[1]] = part
    np.testing.assert_array_equal(
        window, canvas[y + 100 : y + 100 + size[0], x + 100 : x + 100 + size[1]]
    )


def test_a_full_mask_fills_the_pixels_whose_centres_are_in_the_box() -> None:
    full = np.full((28, 28), 255, np.uint8)
    drawn, origin = paste_probability(full, np.array([1.5, 2.6, 3.5, 4.4], np.float32))
    assert origin == (1, 2)
    # centres 1.5 and 2.5 along y (3.5 is outside a half-open box), 3.5 along x
    np.testing.assert_array_equal(drawn, [[0, 1, 0], [0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(("box", "filled"), [([5.1, 5.1, 5.4, 5.4], 0), ([5.4, 5.4, 5.6, 5.6], 1)])
def test_a_box_below_a_pixel_is_drawn_only_over_a_centre(box: list[float], filled: int) -> None:
    drawn, origin = paste_probability(np.full((28, 28), 255, np.uint8), np.array(box, np.float32))
    assert origin == (5, 5)
    assert drawn.shape == (1, 1)
    assert drawn[0, 0] == filled


def test_an_empty_box_is_one_empty_pixel() -> None:
    drawn, _ = paste_probability(np.full((28, 28), 255, np.uint8), np.array([3.5, 3.5, 3.5, 3.5]))
    np.testing.assert_array_equal(drawn, [[0]])


def test_a_box_beyond_the_image_keeps_its_place() -> None:
    mask = np.full((4, 4), 255, np.uint8)
    drawn, origin = paste_probability(mask, np.array([-3.0, -2.0, 1.0, 2.0]))
    assert origin == (-3, -2)
    assert drawn.shape == (4, 4)
    part, origin = paste_probability(mask, np.array([-3.0, -2.0, 1.0, 2.0]), (0, 0, 50, 50))
    assert origin == (0, 0)
    np.testing.assert_array_equal(part, [[1, 1]])


def test_a_huge_box_costs_only_its_window() -> None:
    box = np.array([-1e6, -1e6, 1e6, 1e6])
    part, origin = paste_probability(np.full((28, 28), 200, np.uint8), box, (10, 20, 15, 26))
    assert origin == (10, 20)
    np.testing.assert_allclose(part, np.full((5, 6), 200 / 255), rtol=1e-6)


def test_concatenate_and_take_keep_the_order() -> None:
    def one(score: float) -> Instances:
        return Instances(
            np.full((1, 4), score, np.float32),
            np.array([score], np.float32),
            np.zeros(1, np.int32),
            np.zeros((1, 28, 28), np.uint8),
        )

    joined = Instances.concatenate([one(0.25), Instances.empty(), one(0.75)])
    assert joined.scores.tolist() == [0.25, 0.75]
    assert joined.take(np.array([False, True])).boxes_yxyx_px.tolist() == [[0.75] * 4]
    assert len(Instances.concatenate([])) == 0
