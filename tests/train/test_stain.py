"""Stains vary in amount, and nothing else about a crop does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import hed_from_rgb, rgb_from_hed

from dinomask.train.stain import drop_channel, vary_stains

SEEDS = st.integers(0, 2**32 - 1)


def _tissue(seed: int) -> np.ndarray:
    amounts = np.random.default_rng(seed).uniform(0, 0.8, (2, 9, 9))
    # haematoxylin and eosin alone, no residual
    density = np.tensordot(rgb_from_hed[:2].T, amounts, axes=1)
    return np.exp(-density).astype(np.float32)


@given(SEEDS)
def test_without_variation_nothing_changes(seed: int) -> None:
    pixels = _tissue(seed)
    rng = np.random.default_rng(seed)
    np.testing.assert_allclose(vary_stains(pixels, rng, 0.0, 0.0), pixels, rtol=1e-4)


@given(SEEDS)
def test_amounts_change_by_one_factor_a_stain(seed: int) -> None:
    pixels = _tissue(seed)
    varied = vary_stains(pixels, np.random.default_rng(seed), 0.25, 0.0)
    amounts, changed = (np.tensordot(hed_from_rgb.T, -np.log(p), axes=1) for p in (pixels, varied))
    for stain in range(2):
        ratio = changed[stain][amounts[stain] > 0.1] / amounts[stain][amounts[stain] > 0.1]
        assert np.ptp(ratio) < 1e-2
        assert 0.75 - 1e-2 < ratio[0] < 1.25 + 1e-2


@given(SEEDS)
def test_a_dropped_channel_is_the_mean_of_the_others(seed: int) -> None:
    pixels = _tissue(seed)
    dropped = drop_channel(pixels, np.random.default_rng(seed))
    (lost,) = (c for c in range(3) if not np.array_equal(dropped[c], pixels[c]))
    np.testing.assert_allclose(dropped[lost], np.delete(pixels, lost, 0).mean(0))
