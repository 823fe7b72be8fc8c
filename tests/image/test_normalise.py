"""Normalising: fitted once an image, the same for every tile of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dinomask.config import NormaliseConfig
from dinomask.errors import SettingsError
from dinomask.image.normalise import CLIP, Normaliser, fit_array, fit_normaliser, sample_windows
from dinomask.image.source import open_image

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = NormaliseConfig()
DTYPES = [np.bool_, np.uint8, np.int8, np.uint16, np.int32, np.uint64, np.float16, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_any_dtype_becomes_three_float_channels(dtype: type, n_channels: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 100, (n_channels, 30, 40)).astype(dtype)
    normaliser = fit_array(image.reshape(n_channels, -1), n_channels == 3, CONFIG)
    out = normaliser.apply(image)
    assert out.shape == (3, 30, 40)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert out.min() >= CLIP[0]
    assert out.max() <= CLIP[1]
    if n_channels != 3:
        assert np.array_equal(out[0], out[1])
        assert np.array_equal(out[0], out[2])


def test_the_two_percentiles_become_0_and_1() -> None:
    counts = np.arange(1001.0)[None]
    normaliser = fit_array(counts, False, NormaliseConfig(low_pct=10, high_pct=90))
    assert normaliser.low == (100.0,)
    assert normaliser.high == (900.0,)
    out = normaliser.apply(np.array([[[100.0, 500.0, 900.0, -5000.0, 9000.0]]]))
    assert out[0, 0].tolist() == pytest.approx([0, 0.5, 1, *CLIP])


def test_grey_is_the_mean_of_channels_each_by_its_own_range() -> None:
    normaliser = Normaliser((0.0, 100.0), (10.0, 300.0), False)
    out = normaliser.apply(np.array([[[5.0]], [[300.0]]]))
    assert out[:, 0, 0].tolist() == pytest.approx([0.75] * 3)


def test_colours_share_one_range_so_that_hues_survive() -> None:
    rng = np.random.default_rng(0)
    samples = np.stack([rng.uniform(0, 50, 1000), rng.uniform(50, 100, 1000), np.full(1000, 30.0)])
    normaliser = fit_array(samples, True, CONFIG)
    assert len(set(normaliser.low)) == len(set(normaliser.high)) == 1
    out = normaliser.apply(samples[:, :, None])
    assert np.array_equal(np.argsort(out[:, 0, 0]), np.argsort(samples[:, 0]))


@pytest.mark.parametrize("value", [0, 7, -3.5, 65535])
def test_constant_channels_become_zeros(value: float) -> None:
    image = np.full((1, 5, 6), value)
    assert not fit_array(image.reshape(1, -1), False, CONFIG).apply(image).any()


def test_a_few_bright_pixels_are_signal() -> None:
    counts = np.zeros((1, 10_000))
    counts[0, :5] = 200
    out = fit_array(counts, False, CONFIG).apply(counts[None, 0, None])
    assert out.max() == 1
    assert out.min() == 0


def test_values_that_are_no_numbers_are_passed_over() -> None:
    counts = np.array([[np.nan, np.inf, -np.inf, 0.0, 10.0, 20.0]])
    normaliser = fit_array(counts, False, NormaliseConfig(low_pct=0, high_pct=100))
    assert (normaliser.low, normaliser.high) == ((0.0,), (20.0,))
    nothing = fit_array(np.full((1, 4), np.nan), False, CONFIG)
    assert nothing.low == nothing.high


@given(
    hnp.arrays(np.uint16, (1, 12, 14)),
    st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 4), st.integers(1, 6)),
)
def test_a_piece_is_normalised_as_in_the_whole(
    image: np.ndarray, box: tuple[int, int, int, int]
) -> None:
    normaliser = fit_array(image.reshape(1, -1), False, CONFIG)
    y, x, h, w = box
    piece = normaliser.apply(image[:, y : y + h, x : x + w])
    assert np.array_equal(piece, normaliser.apply(image)[:, y : y + h, x : x + w])


@given(
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.integers(1, 2_000_000),
    st.sampled_from([64, 256, 512]),
)
def test_sample_windows_are_inside_and_within_the_budget(
    shape_yx: tuple[int, int], max_samples: int, block_px: int
) -> None:
    windows = sample_windows(shape_yx, max_samples, block_px)
    assert windows == sample_windows(shape_yx, max_samples, block_px)
    for y0, x0, y1, x1 in windows:
        assert 0 <= y0 < y1 <= shape_yx[0]
        assert 0 <= x0 < x1 <= shape_yx[1]
    read = sum((y1 - y0) * (x1 - x0) for y0, x0, y1, x1 in windows)
    # one block is read even where the budget is smaller
    assert read <= max(max_samples, block_px**2)


def test_large_images_are_fitted_from_a_spread_sample() -> None:
    gradient = np.linspace(0, 60_000, 2000).astype(np.uint16)
    image = open_image(np.repeat(gradient[:, None], 1500, axis=1))
    part = fit_normaliser(image, NormaliseConfig(max_samples=500_000))
    whole = fit_normaliser(image, NormaliseConfig(max_samples=10_000_000))
    assert part.low[0] == pytest.approx(whole.low[0], abs=3000)
    assert part.high[0] == pytest.approx(whole.high[0], abs=3000)


def test_an_image_on_disk_is_fitted_like_the_array(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 4000, (60, 50)).astype(np.uint16)
    np.save(tmp_path / "counts.npy", counts)
    fitted = fit_normaliser(open_image(tmp_path / "counts.npy"))
    assert fitted == fit_array(counts.reshape(1, -1), False, CONFIG)


@pytest.mark.parametrize("pair", [(5.0, 5.0), (60.0, 40.0), (-1.0, 50.0), (1.0, 101.0)])
def test_percentiles_out_of_order(pair: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match="percentiles"):
        NormaliseConfig(low_pct=pair[0], high_pct=pair[1])
