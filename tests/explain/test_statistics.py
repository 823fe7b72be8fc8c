"""Figures of tokens against values known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.errors import DataError
from dinomask.explain.layer_tokens import sample_tokens
from dinomask.explain.shift import (
    Moments,
    frechet_distance,
    relative_frechet,
    shift_between,
    shift_by_change,
)
from dinomask.explain.statistics import cka_matrix, effective_rank, layer_figures
from dinomask.measure.similarity import linear_cka
from tests.contracts.members import MEMBERS
from tests.explain.seen_scenes import noise, seen_of
from tests.nets.small import small_model


def normal(n: int, width: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)) * scale


def test_layer_figures_of_known_tokens() -> None:
    tokens = np.zeros((100, 4), np.float32)
    tokens[:, 0] = 3.0
    tokens[::2, 1] = 2.0
    tokens[0] = (0, 0, 0, 50)
    (found,) = layer_figures({5: tokens})
    assert (found.layer, found.n_tokens, found.n_features) == (5, 100, 4)
    assert found.mean == pytest.approx(tokens.mean())
    assert found.variance == pytest.approx(np.mean([np.var(tokens[:, i]) for i in range(4)]))
    assert found.norm == pytest.approx((50 * 3 + 49 * np.hypot(3, 2) + 50) / 100)
    assert found.n_outliers == 1
    assert found.outlier_share == 0.01


@given(st.integers(1, 6), st.integers(0, 100))
def test_effective_rank_counts_even_directions(rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # orthogonal columns of one length, without a mean, turned at random
    columns = np.linalg.qr(rng.normal(size=(60, rank + 1)) - 0.0)[0]
    centred = np.linalg.qr(columns - columns.mean(0))[0][:, :rank]
    centred -= centred.mean(0)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0][:rank]
    assert effective_rank(centred @ turn + 5) == pytest.approx(rank, rel=0.05)


def test_constant_features_have_no_rank_and_no_outliers() -> None:
    (found,) = layer_figures({0: np.full((50, 8), 2.5)})
    assert found.effective_rank == 0
    assert found.variance == pytest.approx(0)
    assert found.n_outliers == 0


def test_cka_matrix_is_the_cka_of_each_pair() -> None:
    first = {0: normal(200, 5), 1: normal(200, 7, 1)}
    second = {0: first[0] @ np.linalg.qr(normal(5, 5, 2))[0] * 3 + 1, 4: normal(200, 3, 3)}
    matrix = cka_matrix(first, second)
    for i, x in enumerate(first.values()):
        for j, y in enumerate(second.values()):
            assert matrix[i, j] == pytest.approx(linear_cka(x, y))
    assert matrix[0, 0] == pytest.approx(1)
    with pytest.raises(DataError, match="same places"):
        cka_matrix(first, {0: normal(3, 5)})


def test_frechet_distance_of_distributions_known_by_hand() -> None:
    a = Moments(np.zeros(2), np.diag([1.0, 4.0]))
    b = Moments(np.array([3.0, 0.0]), np.diag([4.0, 9.0]))
    # means 9 apart, squared; standard deviations 1 to 2 and 2 to 3
    assert frechet_distance(a, b) == pytest.approx(np.sqrt(9 + 1 + 1))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert relative_frechet(a, b) == pytest.approx(np.sqrt(11) / np.sqrt(5))


@given(st.integers(0, 50))
def test_frechet_distance_is_symmetric_and_turns_along(seed: int) -> None:
    a, b = Moments.of(normal(50, 4, seed)), Moments.of(normal(60, 4, seed + 1, 2.0) + 1)
    turn = np.linalg.qr(normal(4, 4, seed + 2))[0]
    turned = [Moments(m.mean @ turn, turn.T @ m.covariance @ turn) for m in (a, b)]
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(*turned))


def test_images_are_alike_or_of_different_kinds_in_words() -> None:
    one, same = normal(800, 6), normal(800, 6, 1)
    assert "alike" in shift_between(one, same).sentence
    far = shift_between(one, normal(800, 6, 2) + 4)
    assert "different kinds" in far.sentence
    assert far.cka is None
    with pytest.raises(DataError, match="one layer of one model"):
        shift_between(one, normal(800, 5))
    with pytest.raises(DataError, match="four tokens"):
        shift_between(one[:3], same)


def test_a_change_is_told_by_how_far_it_moves_and_what_stays_together() -> None:
    before = normal(500, 6)
    assert "as they were" in shift_by_change(before, before + 1e-4).sentence
    turned = before @ np.linalg.qr(normal(6, 6, 3))[0]
    moved = shift_by_change(before, turned)
    assert "still does" in moved.sentence
    assert moved.cka == pytest.approx(1)
    other = shift_by_change(before, normal(500, 6, 4))
    assert "other features" in other.sentence
    expected = np.linalg.norm(normal(500, 6, 4) - before, axis=1).mean() / np.sqrt(
        before.var(0).sum()
    )
    assert other.mean_distance == pytest.approx(expected)


def test_tokens_are_of_the_same_places_in_all_layers_and_runs() -> None:
    seen = seen_of(small_model(), noise(150, 200))
    first, second = sample_tokens(seen, 60), sample_tokens(seen, 60)
    assert set(first.layers) == {0, 1, 2, 3}
    assert first.n_tokens == 60
    for layer, values in first.layers.items():
        assert np.array_equal(values, second.layers[layer])
    raw = sample_tokens(seen, 60, raw=True)
    assert raw.raw
    assert raw.n_prefix == 5
    # the pyramid's tokens are the raw ones, normalised
    norm = seen.predictor.model.backbone.vit.norm
    import torch

    with torch.inference_mode():
        normalised = norm(torch.from_numpy(raw.layers[3])).numpy()
    assert np.allclose(normalised, first.layers[3], atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_every_backbone_has_tokens_on_one_grid(name: str) -> None:
    member = next(m for m in MEMBERS if m.name == name)
    seen = seen_of(member.model(), noise(112, 112))
    found = sample_tokens(seen, raw=True)
    assert {len(values) for values in found.layers.values()} == {64}
    assert cka_matrix(found.layers, found.layers).diagonal() == pytest.approx(1)


def test_a_model_without_tokens_to_measure_says_so() -> None:
    with pytest.raises(DataError, match="at least 1"):
        layer_figures({0: np.zeros((0, 4))})
