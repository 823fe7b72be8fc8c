"""Resampling: one global grid, whatever piece of it is asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.image.normalise import Normaliser
from dinomask.image.resample import (
    PAD_VALUE,
    Window,
    clip_window,
    read_scaled,
    resample_window,
    scaled_length,
    source_range,
)
from dinomask.image.source import open_image

scales = st.floats(0.05, 6.0)
DTYPES = [np.bool_, np.uint8, np.int8, np.uint16, np.int32, np.float16, np.float32, np.float64]


def whole(image_cyx: np.ndarray, scale_yx: tuple[float, float]) -> np.ndarray:
    """The scaled image at once."""
    shape = image_cyx.shape[1:]
    size = [scaled_length(n, s) for n, s in zip(shape, scale_yx, strict=True)]
    return resample_window(image_cyx, (0, 0), shape, scale_yx, (0, 0, *size))


@st.composite
def windows(draw: st.DrawFn) -> tuple[np.ndarray, tuple[float, float], Window]:
    """An image, scales, and a window of the scaled image."""
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    scale = draw(scales), draw(scales)
    image = np.random.default_rng(draw(st.integers(0, 999))).normal(100, 30, (2, *shape))
    window = []
    for n, s in zip(shape, scale, strict=True):
        length = scaled_length(n, s)
        start = draw(st.integers(0, length - 1))
        window.append((start, draw(st.integers(start + 1, length))))
    (y0, y1), (x0, x1) = window
    return image.astype(np.float32), scale, (y0, x0, y1, x1)


@given(windows())
def test_a_window_from_a_piece_is_the_window_of_the_whole_to_the_bit(
    case: tuple[np.ndarray, tuple[float, float], Window],
) -> None:
    image, scale, (y0, x0, y1, x1) = case
    shape = image.shape[1:]
    top, bottom = source_range(y0, y1, scale[0], shape[0])
    left, right = source_range(x0, x1, scale[1], shape[1])
    piece = image[:, top:bottom, left:right]
    got = resample_window(piece, (top, left), shape, scale, (y0, x0, y1, x1))
    assert got.dtype == np.float32
    assert np.array_equal(got, whole(image, scale)[:, y0:y1, x0:x1])


def triangle(values: np.ndarray, scale: float) -> np.ndarray:
    """One axis in the plainest way: a normalised triangle around each centre."""
    n = len(values)
    support = max(1.0, 1.0 / scale)
    out = []
    for j in range(scaled_length(n, scale)):
        centre = (j + 0.5) / scale - 0.5
        weights = [max(0.0, 1 - abs(i - centre) / support) for i in range(n)]
        out.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return np.array(out)


@given(st.integers(1, 20), st.integers(1, 20), scales, scales, st.integers(0, 999))
def test_against_the_formula(h: int, w: int, scale_y: float, scale_x: float, seed: int) -> None:
    image = np.random.default_rng(seed).uniform(0, 1, (1, h, w))
    expected = np.apply_along_axis(triangle, 0, image[0], scale_y)
    expected = np.apply_along_axis(triangle, 1, expected, scale_x)
    got = whole(image, (scale_y, scale_x))[0]
    assert got.shape == expected.shape
    assert got == pytest.approx(expected, abs=1e-5)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_scale_1_changes_nothing(h: int, w: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 60_000, (3, h, w)).astype(np.uint16)
    assert np.array_equal(whole(image, (1.0, 1.0)), image)


@given(st.integers(1, 30), st.integers(1, 30), scales, scales, st.floats(-1e4, 1e4))
def test_constants_stay(h: int, w: int, scale_y: float, scale_x: float, value: float) -> None:
    out = whole(np.full((1, h, w), value, np.float32), (scale_y, scale_x))
    assert out == pytest.approx(np.float32(value), rel=1e-5, abs=1e-5)


@given(st.integers(1, 25), st.integers(1, 25), scales, st.integers(0, 999))
def test_no_value_beyond_the_image(h: int, w: int, scale: float, seed: int) -> None:
    image = np.random.default_rng(seed).uniform(-5, 5, (1, h, w)).astype(np.float32)
    out = whole(image, (scale, scale))
    assert out.min() >= image.min() - 1e-4
    assert out.max() <= image.max() + 1e-4


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 3.0])
def test_positions_follow_the_grid(scale: float) -> None:
    # away from the border a ramp of coordinates shows where each scaled pixel lies
    ramp = np.repeat((np.arange(64) + 0.5)[:, None], 8, axis=1)[None]
    out = whole(ramp, (scale, 1.0))[0, :, 0]
    expected = (np.arange(len(out)) + 0.5) / scale
    edge = math.ceil(scale) + 1
    assert out[edge:-edge] == pytest.approx(expected[edge:-edge], abs=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.4, 1.7])
def test_any_dtype_gives_what_float_gives(dtype: type, scale: float) -> None:
    image = np.random.default_rng(0).integers(0, 100, (1, 13, 17)).astype(dtype)
    expected = whole(image.astype(np.float64), (scale, scale))
    got = whole(image, (scale, scale))
    assert got.dtype == np.float32
    assert got == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("n_px", "scale", "length"),
    [(1000, 0.07, 70), (10, 0.11, 2), (3, 0.01, 1), (7, 2.0, 14), (1, 1.0, 1), (99, 1 / 3, 33)],
)
def test_lengths_by_hand(n_px: int, scale: float, length: int) -> None:
    assert scaled_length(n_px, scale) == length


@given(st.tuples(*[st.integers(-50, 150)] * 4), st.integers(1, 99), st.integers(1, 99))
def test_clipped_windows_are_inside(window: Window, h: int, w: int) -> None:
    y0, x0, y1, x1 = clip_window(window, (h, w))
    assert 0 <= y0 <= y1 <= h
    assert 0 <= x0 <= x1 <= w
    for y in range(-50, 150, 7):
        inside = window[0] <= y < window[2] and 0 <= y < h
        assert (y0 <= y < y1) == inside


@given(st.data())
def test_overhanging_reads_agree_and_are_padded(data: st.DataObject) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 37)).astype(np.uint8)
    image = open_image(pixels)
    normaliser = Normaliser((0.0,), (255.0,), False)
    scale = data.draw(st.floats(0.2, 3.0))
    h, w = (scaled_length(n, scale) for n in pixels.shape)
    y0, x0 = data.draw(st.integers(-20, h + 5)), data.draw(st.integers(-20, w + 5))
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    window = (y0, x0, y0 + height, x0 + width)
    got = read_scaled(image, normaliser, scale, window)
    everything = read_scaled(image, normaliser, scale, (-70, -70, h + 70, w + 70))
    assert np.array_equal(got, everything[:, y0 + 70 : y0 + height + 70, x0 + 70 : x0 + width + 70])
    y, x = np.arange(y0, y0 + height)[:, None], np.arange(x0, x0 + width)[None]
    outside = (y < 0) | (y >= h) | (x < 0) | (x >= w)
    assert np.all(got[:, outside] == PAD_VALUE)
