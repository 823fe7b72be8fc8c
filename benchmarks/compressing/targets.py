"""What compression should reach, beside what was measured."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from compressing.adapter import TAUGHT
from dinomask.compress.bench.variant import ORIGINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Row = dict[str, Any]
    Measure = Callable[[Row, dict[str, Row]], float]


@dataclasses.dataclass(frozen=True)
class Target:
    """One thing that a kind of variant should reach.

    Attributes
    ----------
    what : in words
    applies : tells whether a variant is of the kind, from its methods
    measure : the figure, from a row of the bench and all rows by name
    least : it should be at least this
    needs_accuracy : whether random weights say nothing about it
    """

    what: str
    applies: Callable[[Sequence[str]], bool]
    measure: Measure
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


def _merged(methods: Sequence[str]) -> bool:
    return "merge" in methods


def _points(row: Row, _: dict[str, Row]) -> float:
    return float(row["relative"]["ap50_points"])


def _of(name: str) -> Measure:
    return lambda row, _: float(row["relative"][name])


def _smaller(row: Row, rows: dict[str, Row]) -> float:
    # files of checkpoints hold half precision, which is a gain already
    return 4e-6 * float(rows[ORIGINAL]["parameters"]) / float(row["size_mb"])


def _memory_saved(row: Row, _: dict[str, Row]) -> float:
    return 100 * (1 - float(row["relative"]["model_memory"]))


def _points_of_adapter(row: Row, rows: dict[str, Row]) -> float:
    return 100 * float(row["quality"]["ap50"] - rows[TAUGHT]["quality"]["ap50"])


TARGETS = (
    Target("INT8: whole images ×", _int8, _of("speedup"), 1.8),
    Target("INT8: network alone ×", _int8, _of("network_speedup"), 2.0),
    Target("INT8: points of AP", _int8, _points, -1.0, needs_accuracy=True),
    Target("INT8: × smaller than 32-bit weights", _int8, _smaller, 3.5),
    Target("INT8: memory saved, %", _int8, _memory_saved, 50),
    Target("half + distil: ×", _half, _of("speedup"), 1.4),
    Target("half + distil: points of AP", _half, _points, -1.0, needs_accuracy=True),
    Target("student: ×", _student, _of("speedup"), 4.0),
    Target("student: points of AP", _student, _points, -2.0, needs_accuracy=True),
    Target("sparse LoRA: points of AP against it whole", _sparse_lora, _points_of_adapter, -0.5),
    # what is left is chance
    Target("merged LoRA: network ×", _merged, _of("network_speedup"), 0.95),
)


def compare_with_targets(report: dict[str, Any], random: bool) -> list[dict[str, Any]]:
    """Return a row for each target and each variant of its kind.

    Parameters
    ----------
    report : of the bench
    random : whether the model's weights are, so that accuracy says nothing
    """
    found = []
    rows = {row["name"]: row for row in report["variants"]}
    for target in TARGETS:
        if target.needs_accuracy and random:
            continue
        for row in report["variants"][1:]:
            if target.applies(row["methods"]):
                value = target.measure(row, rows)
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
