"""Objects like some chosen ones come first."""

from __future__ import annotations

import numpy as np
import pytest

from dinomask.errors import ExplainError
from dinomask.explain.knn import nearest
from dinomask.explain.similar import rank_similar
from tests.explain.scenes import planted


def test_objects_of_the_same_kind_come_first():
    features, kind = planted()
    for chosen in ([0], [0, 5], np.flatnonzero(kind == kind[0])[:4]):
        wanted = kind[np.asarray(chosen)]
        ranks = rank_similar(features.vectors(), chosen).argsort()[::-1]
        if len(set(wanted)) == 1:
            assert (kind[ranks[:40]] == wanted[0]).all()


def test_it_is_the_cosine_to_the_mean_of_the_chosen():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(9, 4)) + 50
    found = rank_similar(vectors, [2, 3])
    centred = vectors - vectors.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    like = unit[2] + unit[3]
    np.testing.assert_allclose(found, unit @ like / np.linalg.norm(like), atol=1e-5)
    assert rank_similar(vectors, [2])[2] == pytest.approx(1)


def test_a_single_object_is_like_itself_and_nothing_chosen_is_refused():
    assert rank_similar(np.array([[3.0, 4]]), [0]).tolist() == [1]
    with pytest.raises(ExplainError, match="at least one object"):
        rank_similar(np.ones((3, 2)), [])


def test_nearest_neighbours_are_exact():
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(300, 8)), rng.normal(size=(40, 8))
    index, distance = nearest(queries, vectors, 7)
    every = np.linalg.norm(queries[:, None] - vectors[None], axis=2)
    np.testing.assert_array_equal(index, every.argsort(axis=1)[:, :7])
    np.testing.assert_allclose(distance, np.sort(every, axis=1)[:, :7], rtol=1e-5)
    assert nearest(queries, vectors[:3], 7)[0].shape == (40, 3)


def test_far_from_the_origin_neighbours_are_still_right():
    # the short formula of a squared distance loses all digits here
    vectors = 1e4 + np.arange(20.0)[:, None] * np.array([[0.5, 0, 0]])
    index, _ = nearest(vectors[10:11], vectors, 3)
    assert index[0, 0] == 10
    assert set(index[0, 1:]) == {9, 11}
