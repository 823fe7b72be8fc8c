"""When to stop: the bound's promise, and what counts as reviewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dinomask.adapt.corrections import Reviewed, accept, add, merge, redraw, remove, split
from dinomask.adapt.journal import Journal
from dinomask.adapt.label_store import ArrayStore
from dinomask.adapt.stopping import review_outcomes, stop_advice, upper_rate
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def test_one_of_thirty_is_good_enough_and_two_are_not() -> None:
    good = stop_advice([True] * 50 + [False] * 12 + [True] + [False] * 17)
    assert good.text == "you can stop: the last 30 reviewed objects needed 1 correction"
    assert good.can_stop
    assert (good.n_reviewed, good.n_corrected) == (30, 1)
    bad = stop_advice([True, *[False] * 28, True])
    assert not bad.can_stop
    assert bad.text == (
        "go on: the last 30 reviewed objects needed 2 corrections, so up to 20% of all may need one"
    )


@pytest.mark.parametrize("n", [0, 1, 29])
def test_a_few_are_not_enough_however_good(n: int) -> None:
    advice = stop_advice([False] * n)
    assert not advice.can_stop
    assert f"go on: {n} object" in advice.text


@given(st.integers(1, 200), st.integers(0, 200), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_bound_is_where_so_few_become_unlikely(n: int, k: int, confidence: float) -> None:
    """Clopper and Pearson: at the bound, P(K <= k) = 1 - confidence."""
    if k >= n:
        assert upper_rate(k, n, confidence) == 1
        return
    bound = upper_rate(k, n, confidence)
    assert k / n < bound < 1
    assert stats.binom.cdf(k, n, bound) == pytest.approx(1 - confidence, rel=1e-6)


@settings(max_examples=20)
@given(st.floats(0.15, 0.9), st.integers(0, 2**32 - 1))
def test_one_look_is_seldom_fooled(rate: float, seed: int) -> None:
    wrong = np.random.default_rng(seed).random((400, 30)) < rate
    fooled = np.mean([stop_advice(row.tolist()).can_stop for row in wrong[:60]])
    # 5 % at most is promised; 60 looks show it to within a few of them
    assert stats.binomtest(int(fooled * 60), 60, 0.05, alternative="greater").pvalue > 1e-6


@pytest.mark.parametrize("settings", [{"last": 0}, {"most_wrong": 1.0}, {"confidence": 0.0}])
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        stop_advice([False] * 40, **settings)  # type: ignore[arg-type]


@pytest.fixture
def store() -> ArrayStore:
    """Nine objects of 8 x 8 px on a grid."""
    labels = np.zeros((60, 60), np.int32)
    for i in range(9):
        y, x = 2 + 20 * (i // 3), 2 + 20 * (i % 3)
        labels[y : y + 8, x : x + 8] = i + 1
    return ArrayStore(labels)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.open(tmp_path / "j.journal.jsonl", "image", (60, 60))


def test_objects_count_once_and_in_order(journal: Journal, store: ArrayStore) -> None:
    assert review_outcomes(journal, store) == []
    square = np.ones((8, 8), bool)
    journal.carry_out(accept(store, 1), store)
    journal.carry_out(redraw(store, 2, square[:5], (2, 22)), store)
    journal.carry_out(redraw(store, 2, square[:6], (2, 22)), store)
    journal.carry_out(accept(store, 2), store)
    assert review_outcomes(journal, store) == [False, True]
    journal.carry_out(add(store, square, (2, 12)), store)
    journal.carry_out(remove(store, 3), store)
    journal.carry_out(accept(store, 4), store)
    assert review_outcomes(journal, store) == [False, True, True, True, False]
    journal.undo(store)
    journal.undo(store)
    assert review_outcomes(journal, store) == [False, True, True]


def test_a_split_and_a_merge_are_one_correction_each(journal: Journal, store: ArrayStore) -> None:
    journal.carry_out(split(store, 5, np.array([[20.0, 26.0], [32.0, 26.0]])), store)
    journal.carry_out(merge(store, [6, 9]), store)
    assert review_outcomes(journal, store) == [True, True]


def test_what_nobody_touched_in_a_reviewed_region_was_right(
    journal: Journal, store: ArrayStore
) -> None:
    journal.carry_out(remove(store, 1), store)
    # the upper two rows; of the lower row an eighth shows
    journal.record(Reviewed.of_box((0, 0, 43, 60)))
    assert review_outcomes(journal, store) == [True, *[False] * 8]
    triangle = np.array([[0.0, 0.0], [0.0, 36.0], [36.0, 0.0]])
    journal.record(Reviewed(triangle))
    assert review_outcomes(journal, store) == [True, *[False] * 8]
    journal.withdraw(journal.reviewed()[0].id)
    # objects 2 and 4 lie in the triangle, and beyond the image there is nothing
    assert review_outcomes(journal, store) == [True, False, False]
    journal.record(Reviewed.of_box((100, 100, 120, 120)))
    assert review_outcomes(journal, store) == [True, False, False]
