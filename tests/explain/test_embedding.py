"""Maps and groups of objects: planted kinds come out, the same each time, and can be stopped."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from dinomask.config import ClusterConfig, MapConfig
from dinomask.errors import CancelledError, EngineError, ExplainError
from dinomask.explain.apart import run_apart
from dinomask.explain.apart_worker import TASKS
from dinomask.explain.clusters import by_size, find_clusters
from dinomask.explain.embedding import fit_map
from dinomask.explain.knn import nearest
from tests.explain.scenes import features_of, planted

METHODS = ("pca", "umap", "tsne")


@pytest.fixture(scope="module")
def kinds():
    return planted(n_each=30)


def run_here(task, arrays, settings, on_progress=None):
    """The same task in this process, where scikit-learn is loaded once and not each time."""
    return TASKS[task](arrays, settings, lambda done, total: None)


@pytest.fixture
def here(monkeypatch):
    """Have tasks run in this process."""
    monkeypatch.setattr("dinomask.explain.embedding.run_apart", run_here)
    monkeypatch.setattr("dinomask.explain.clusters.run_apart", run_here)


@pytest.fixture(scope="module")
def maps(kinds):
    """A map by each method; a process each, so they are shared."""
    return {method: fit_map(kinds[0], MapConfig(method=method, seed=3)) for method in METHODS}


def own_kind(positions: np.ndarray, kind: np.ndarray, others: np.ndarray, theirs: np.ndarray):
    """The share of the five nearest objects that are of one's own kind."""
    index, _ = nearest(positions, others, 5)
    return float((theirs[index] == kind[:, None]).mean())


@pytest.mark.parametrize("method", METHODS)
def test_planted_kinds_lie_together(maps, kinds, method):
    features, kind = kinds
    found = maps[method]
    assert found.positions.shape == (90, 2)
    assert np.isfinite(found.positions).all()
    assert (found.ids == features.ids).all()
    assert own_kind(found.positions, kind, found.positions, kind) > 0.97


@pytest.mark.parametrize("method", METHODS)
def test_new_objects_lie_with_their_own_kind(maps, kinds, method):
    features, kind = kinds
    new, new_kind = planted(n_each=10, seed=99, image="b")
    placed = maps[method].project(new)
    assert own_kind(placed, new_kind, maps[method].positions, kind) > 0.95
    # the map's own objects stay where they are
    np.testing.assert_allclose(maps[method].project(features), maps[method].positions, atol=1e-4)


def test_the_same_seed_gives_the_same_map(maps, kinds, here):
    again = fit_map(kinds[0], MapConfig(method="tsne", seed=3))
    np.testing.assert_array_equal(again.positions, maps["tsne"].positions)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_umap_and_another_another(maps, kinds):
    again = fit_map(kinds[0], MapConfig(method="umap", seed=3))
    np.testing.assert_array_equal(again.positions, maps["umap"].positions)
    other = fit_map(kinds[0], MapConfig(method="umap", seed=4))
    assert not np.allclose(other.positions, maps["umap"].positions)


def test_features_of_another_model_are_not_placed(maps):
    new = planted(image="b")[0]
    other = type(new)(new.table, new.by_layer, {"name": "other"})
    with pytest.raises(ExplainError, match="the map's model"):
        maps["pca"].project(other)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_objects_get_a_small_answer(method, n):
    features = features_of(np.random.default_rng(0).normal(size=(n, 8)))
    found = fit_map(features, MapConfig(method=method))
    assert found.positions.shape == (n, 2)
    assert np.isfinite(found.positions).all()
    assert found.notes or method == "pca"


def test_fewer_objects_than_neighbours_are_told(here):
    features = features_of(np.random.default_rng(0).normal(size=(12, 8)))
    found = fit_map(features, MapConfig(method="tsne"))
    assert "perplexity" in found.notes[0]
    assert np.isfinite(found.positions).all()


@pytest.mark.parametrize("method", METHODS)
def test_no_object_and_objects_all_alike_are_refused(method):
    config = MapConfig(method=method)
    with pytest.raises(ExplainError, match="at least one object"):
        fit_map(features_of(np.zeros((0, 8))), config)
    with pytest.raises(ExplainError, match="all alike"):
        fit_map(features_of(np.full((20, 8), 0.3)), config)


def test_it_stops_within_a_second_and_leaves_no_process():
    features = features_of(np.random.default_rng(0).normal(size=(3000, 32)))
    told: list[float] = []

    def stop(progress):
        told.append(time.monotonic())
        if len(told) == 4:
            raise CancelledError(expected="a", got="b", remedy="c")

    with pytest.raises(CancelledError):
        fit_map(features, MapConfig(method="umap"), on_progress=stop)
    assert time.monotonic() - told[-1] < 1
    # asked again and again, also before the first step is done
    assert max(np.diff(told)) < 1


def test_kmeans_finds_the_kinds_and_the_same_ones_again(kinds, here):
    features, kind = kinds
    config = ClusterConfig(n_clusters=3)
    found = find_clusters(features, config)
    assert sorted({(int(c), int(k)) for c, k in zip(found, kind, strict=True)}) == sorted(
        {(int(found[kind == k][0]), k) for k in range(3)}
    )
    np.testing.assert_array_equal(find_clusters(features, config), found)


def test_hdbscan_finds_how_many_there_are(maps, kinds, here):
    features, kind = kinds
    config = ClusterConfig(method="hdbscan", min_size=10)
    found = find_clusters(features, config, positions=maps["tsne"].positions)
    inside = found >= 0
    assert inside.mean() > 0.8
    assert len(set(found[inside])) == 3
    for cluster in range(3):
        assert len(set(kind[found == cluster])) == 1


def test_groups_are_numbered_by_size():
    assert by_size(np.array([7, 7, 2, -1, 2, 2, 5])).tolist() == [1, 1, 0, -1, 0, 0, 2]


def test_too_few_objects_for_groups_are_refused():
    few = features_of(np.random.default_rng(0).normal(size=(3, 8)))
    with pytest.raises(ExplainError, match="at least 5"):
        find_clusters(few)
    with pytest.raises(ExplainError, match="all alike"):
        find_clusters(features_of(np.zeros((30, 8)) + 1))


def test_a_process_that_dies_is_told(monkeypatch):
    with pytest.raises(EngineError, match="KeyError: 'no such task'"):
        run_apart("no such task", {"vectors": np.zeros((3, 2))}, {})
    monkeypatch.setattr("sys.executable", os.devnull)
    with pytest.raises(EngineError, match="to start a process"):
        run_apart("kmeans", {}, {})
