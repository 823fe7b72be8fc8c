"""Principal components in one pass: any cutting into parts gives the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.errors import ExplainError
from dinomask.explain.components import Moments, fit_components, fix_signs


def sample(seed: int, n: int = 200, width: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)) * np.array([9, 5, 3, 1, 0.5, 0.1]) + 100


@given(cuts=st.lists(st.integers(0, 200), max_size=8), seed=st.integers(0, 5))
def test_parts_give_what_the_whole_gives(cuts, seed):
    vectors = sample(seed)
    moments = Moments(vectors.shape[1])
    for part in np.split(vectors, sorted(cuts)):
        moments.add(part)
    found, whole = moments.components(3), fit_components(vectors, 3)
    np.testing.assert_allclose(found.axes, whole.axes, atol=1e-8)
    np.testing.assert_allclose(found.project(vectors), whole.project(vectors), atol=1e-5)


def test_they_are_those_of_the_singular_values():
    vectors = sample(3)
    found = fit_components(vectors, 4)
    centred = vectors - vectors.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.variances, singular[:4] ** 2 / 199, rtol=1e-8)
    np.testing.assert_allclose(np.abs(found.axes), np.abs(axes[:4]), atol=1e-8)
    assert found.shares.sum() <= 1
    np.testing.assert_allclose(found.total_variance, centred.var(axis=0, ddof=1).sum())


@given(st.integers(0, 100))
def test_signs_do_not_depend_on_where_the_solver_points(seed):
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(3, 5))
    flipped = axes * rng.choice([-1, 1], size=(3, 1))
    np.testing.assert_array_equal(fix_signs(axes), fix_signs(flipped))


def test_no_difference_is_refused_in_words():
    with pytest.raises(ExplainError, match="all alike"):
        fit_components(np.full((50, 4), 7.0), 2)
    with pytest.raises(ExplainError, match="at least 2"):
        fit_components(np.ones((1, 4)), 2)


def test_two_vectors_span_one_component():
    found = fit_components(np.array([[0.0, 0, 0], [3, 4, 0]]), 3)
    assert found.axes.shape == (1, 3)
    np.testing.assert_allclose(found.axes[0], [0.6, 0.8, 0])
