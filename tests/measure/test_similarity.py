"""Likeness of features: what it must not depend on, and what it must notice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.errors import DataError
from dinomask.measure.similarity import compare_distances, linear_cka, similarity


def features(seed: int, n: int = 60, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width))


@given(st.integers(0, 2**31), st.floats(0.1, 10), st.floats(-5, 5))
def test_turning_scaling_and_moving_change_nothing(seed: int, scale: float, shift: float) -> None:
    x = features(seed)
    turn, _ = np.linalg.qr(features(seed + 1, 8))
    moved = scale * x @ turn + shift
    assert linear_cka(x, moved) == pytest.approx(1, abs=1e-9)
    correlation, distance_shift = compare_distances(x, moved)
    assert correlation == pytest.approx(1, abs=1e-9)
    assert distance_shift < 0.01


@given(st.integers(0, 2**31))
def test_cka_is_symmetric_and_between_0_and_1(seed: int) -> None:
    x, y = features(seed), features(seed + 1, width=3)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x))
    assert 0 <= linear_cka(x, y) <= 1


def test_cka_of_a_case_worked_out_by_hand() -> None:
    # centred x is (-1, 0, 1), y is (-1, 2, -1) / 1: orthogonal columns
    assert linear_cka(np.array([[0.0], [1], [2]]), np.array([[0.0], [3], [0]])) == 0
    # yᵀx = 1·1 + 0·0 + … of x = (-1, 0, 1) and y = (-2/3, -2/3, 4/3): 2² / (2 · 8/3) = 3/4
    assert linear_cka(np.array([[0.0], [1], [2]]), np.array([[0.0], [0], [2]])) == pytest.approx(
        0.75
    )


def test_more_noise_is_less_alike_in_every_figure() -> None:
    x = features(0, 200)
    noise = features(1, 200)
    figures = [similarity(x, x + size * noise) for size in (0.0, 0.2, 1.0)]
    for name, falls in (
        ("cka", True),
        ("cosine", True),
        ("cosine_p5", True),
        ("distance_correlation", True),
        ("relative_distance", False),
        ("relative_distance_p95", False),
    ):
        values = [getattr(f, name) for f in figures]
        assert values == sorted(values, reverse=falls), name
    assert figures[0].cosine == pytest.approx(1)
    assert figures[0].relative_distance == 0


def test_other_widths_are_compared_by_what_does_not_need_the_same() -> None:
    x = features(0)
    found = similarity(x, np.pad(x, ((0, 0), (0, 5))))
    assert found.cka == pytest.approx(1)
    assert found.cosine is None
    assert found.relative_distance is None


def test_constant_features_are_like_constant_ones_only() -> None:
    flat, x = np.ones((10, 4)), features(0, 10)
    assert linear_cka(flat, 3 * flat) == 1
    assert linear_cka(flat, x) == 0


@pytest.mark.parametrize("shape", [(59, 8), (60,)])
def test_other_places_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="same places"):
        similarity(features(0), np.zeros(shape))
