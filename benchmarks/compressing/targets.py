"""What compression should reach, beside what was measured."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Target:
    """One thing that a kind of variant should reach.

    Attributes
    ----------
    what : in words
    applies : tells whether a variant is of the kind, from its methods
    measure : the figure, from a row of the bench
    least : it should be at least this
    needs_accuracy : whether random weights say nothing about it
    """

    what: str
    applies: Callable[[Sequence[str]], bool]
    measure: Callable[[Row], float]
    least: float
    needs_accuracy: bool = False


def _int8(methods: Sequence[str]) -> bool:
    return any(name.startswith("int8") for name in methods)


def _half(methods: Sequence[str]) -> bool:
    return "distil" in methods and bool({"head-prune", "mlp-prune"} & set(methods))


def _student(methods: Sequence[str]) -> bool:
    return "student" in methods


def _sparse_lora(methods: Sequence[str]) -> bool:
    return "lora-sparsify" in methods


def _points(row: Row) -> float:
    return float(row["relative"]["ap50_points"])


TARGETS = (
    Target("INT8: whole images ×", _int8, lambda r: r["relative"]["speedup"], 1.8),
    Target("INT8: network alone ×", _int8, lambda r: r["relative"]["network_speedup"], 2.0),
    Target("INT8: points of AP", _int8, _points, -1.0, needs_accuracy=True),
    Target("INT8: × smaller on disk", _int8, lambda r: r["relative"]["smaller"], 3.5),
    Target("INT8: memory saved, %", _int8, lambda r: 100 * (1 - r["relative"]["model_memory"]), 50),
    Target("half + distil: ×", _half, lambda r: r["relative"]["speedup"], 1.4),
    Target("half + distil: points of AP", _half, _points, -1.0, needs_accuracy=True),
    Target("student: ×", _student, lambda r: r["relative"]["speedup"], 4.0),
    Target("student: points of AP", _student, _points, -2.0, needs_accuracy=True),
    Target("sparse LoRA: points of AP", _sparse_lora, _points, -0.5, needs_accuracy=True),
)


def compare_with_targets(report: dict[str, Any], random: bool) -> list[dict[str, Any]]:
    """Return a row for each target and each variant of its kind.

    Parameters
    ----------
    report : of the bench
    random : whether the model's weights are, so that accuracy says nothing
    """
    found = []
    for target in TARGETS:
        if target.needs_accuracy and random:
            continue
        for row in report["variants"][1:]:
            if target.applies(row["methods"]):
                value = target.measure(row)
                found.append(
                    {
                        "target": target.what,
                        "least": target.least,
                        "variant": row["name"],
                        "measured": value,
                        "reached": value >= target.least,
                    }
                )
    return found
