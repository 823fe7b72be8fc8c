"""Stability, Pareto fronts and recommendations, from figures made up for the purpose."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.compress.bench.verdict import add_verdicts, pareto_front, recommend, stability
from dinomask.config import BenchConfig

points = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12)


def row(name: str, ap: float, speedup: float, size_mb: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "quality": {"ap50": ap, "ap50_95": ap - 0.2, "against": "labels"},
        "ap50_by_data_set": {"a": ap, "b": ap},
        "speedup": speedup,
        "network_speedup": speedup,
        "size_mb": size_mb,
        "target_diameter_px": 32.0,
        "peak_memory_mb": 1000.0,
        "model_memory_mb": 200.0,
        **more,
    }


def judged(*variants: dict[str, Any], **config: float) -> list[dict[str, Any]]:
    rows = [row("original", 0.8, 1.0, 16.0), *variants]
    add_verdicts(rows, BenchConfig(**config))  # type: ignore[arg-type]
    return rows


@given(points)
def test_nothing_beats_the_front_and_the_front_beats_the_rest(
    found: list[tuple[int, int]],
) -> None:
    front = pareto_front(found)
    assert front

    def beats(a: int, b: int) -> bool:
        (cost_a, good_a), (cost_b, good_b) = found[a], found[b]
        return cost_a <= cost_b and good_a >= good_b and found[a] != found[b]

    everyone = range(len(found))
    for i in everyone:
        assert (i in front) == (not any(beats(j, i) for j in everyone))
        assert i in front or any(beats(j, i) for j in front)


def test_stability_by_hand() -> None:
    original = row("original", 0.8, 1.0, 16.0)
    other = row("int8", 0.6, 2.0, 4.0, ap50_by_data_set={"a": 0.8, "b": 0.4})
    found = stability(other, original, 0.9)
    # (0.6 / 0.8) · 2; of the data sets (0.8 / 0.8) · 2 and (0.4 / 0.8) · 2
    assert found["s"] == pytest.approx(1.5)
    assert found["by_data_set"] == pytest.approx({"a": 2.0, "b": 1.0})
    assert found["sigma"] == pytest.approx(0.5)
    assert found["stable"]


def test_the_fastest_that_loses_little_is_recommended_in_words() -> None:
    rows = judged(
        row("int8", 0.796, 2.2, 16 / 3.6), row("svd", 0.799, 1.3, 8.0), row("student", 0.7, 5, 4)
    )
    name, words = recommend(rows)
    assert name == "int8"
    assert words == "Use int8: 2.2 × faster, −0.4 AP, 3.6 × smaller."
    assert rows[3]["objections"] == ["loses 10.0 points of AP"]
    assert recommend(judged(row("student", 0.7, 5, 4), tolerance=20.0))[0] == "student"


def test_fewer_pixels_count_as_a_faster_network() -> None:
    coarse = row("coarse", 0.8, 1.9, 16.0, network_speedup=1.0, target_diameter_px=24.0)
    by_chance = row("merge", 0.8, 1.9, 16.0, network_speedup=1.0)
    rows = judged(coarse, by_chance)
    assert recommend(rows)[0] == "coarse"
    assert not rows[1]["objections"]
    assert rows[2]["objections"] == ["is neither faster nor smaller"]


def test_what_is_slower_is_not_recommended_however_small() -> None:
    rows = judged(row("bf16", 0.8, 0.6, 8.0))
    assert recommend(rows)[0] is None
    assert "S is 0.60" in recommend(rows)[1]


def test_chance_is_no_speedup() -> None:
    lucky = row("merge", 0.8, 1.1, 16.0, network_speedup=1.01)
    assert recommend(judged(lucky))[0] is None
    smaller = row("sparse", 0.8, 1.01, 8.0)
    assert recommend(judged(lucky, smaller)) == (
        "sparse",
        "None is faster; sparse is the smallest: as fast, +0.0 AP, 2.0 × smaller.",
    )


def test_the_front_names_what_is_worth_a_look() -> None:
    rows = judged(row("good", 0.79, 2.0, 4.0), row("worse", 0.7, 1.5, 8.0))
    assert [r["pareto"]["latency"] for r in rows] == [True, True, False]
    assert [r["pareto"]["size"] for r in rows] == [True, True, False]


def test_a_model_that_finds_nothing_is_judged_too() -> None:
    rows = [row("original", 0.0, 1.0, 16.0), row("int8", 0.0, 2.0, 4.0)]
    add_verdicts(rows, BenchConfig())
    assert rows[1]["stability"]["s"] == 2.0
    assert rows[1]["stability"]["by_data_set"] == {}


def test_alone_there_is_nothing_to_compare() -> None:
    assert recommend(judged())[0] is None
