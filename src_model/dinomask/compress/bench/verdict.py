"""What the figures mean: stability, the Pareto front, and a recommendation in words."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.config import BenchConfig

Row = dict[str, Any]

NOTICED = 0.05
"""Share by which a variant must be faster or smaller for it to count."""


def add_verdicts(rows: Sequence[Row], config: BenchConfig) -> None:
    """Add to each row its ratios, stability and verdict; the first one is the original.

    Parameters
    ----------
    rows : from `dinomask.compress.bench.figures.collect`; changed
    config : what is asked of a recommended variant
    """
    original = rows[0]
    for row in rows:
        row["relative"] = {
            "ap50_points": 100 * (row["quality"]["ap50"] - original["quality"]["ap50"]),
            "ap50_95_points": 100 * (row["quality"]["ap50_95"] - original["quality"]["ap50_95"]),
            "speedup": row["speedup"],
            "network_speedup": row["network_speedup"],
            "pixels": (row["target_diameter_px"] / original["target_diameter_px"]) ** 2,
            "smaller": original["size_mb"] / row["size_mb"],
            "memory": row["peak_memory_mb"] / original["peak_memory_mb"],
            "model_memory": row["model_memory_mb"] / max(original["model_memory_mb"], 1e-9),
        }
        row["stability"] = stability(row, original, config.stability)
    for axis in ("latency", "size"):
        front = pareto_front([(cost(row, axis), row["quality"]["ap50"]) for row in rows])
        for i, row in enumerate(rows):
            row.setdefault("pareto", {})[axis] = i in front
    for row in rows:
        row["objections"] = objections(row, config) if row is not original else []


def cost(row: Row, axis: str) -> float:
    """Return what a variant costs: relative latency, or MB on disk."""
    return 1 / row["speedup"] if axis == "latency" else float(row["size_mb"])


def stability(row: Row, original: Row, least: float) -> dict[str, Any]:
    """Return S = (AP / AP of the original) × (throughput / throughput of the original).

    Above 1 more is gained in speed than is lost in quality; σ is the spread of S over
    data sets, 0 where there is one only.
    """
    values = {
        name: (ap / original["ap50_by_data_set"][name]) * row["speedup"]
        for name, ap in row["ap50_by_data_set"].items()
        if original["ap50_by_data_set"][name] > 0
    }
    before = original["quality"]["ap50"]
    s = (row["quality"]["ap50"] / before if before > 0 else 1.0) * row["speedup"]
    sigma = statistics.pstdev(values.values()) if len(values) > 1 else 0.0
    return {"s": s, "sigma": sigma, "by_data_set": values, "stable": s > least}


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Return the points that no other one beats: none costs less and is as good, or is better.

    Parameters
    ----------
    points : cost, the lower the better, and quality, the higher the better
    """
    return {
        i
        for i, (cost_i, good_i) in enumerate(points)
        if not any(c <= cost_i and g >= good_i and (c, g) != (cost_i, good_i) for c, g in points)
    }


def objections(row: Row, config: BenchConfig) -> list[str]:
    """Return why a variant isn't recommended, a clause each; empty if it is."""
    found = []
    relative = row["relative"]
    if relative["ap50_points"] < -config.tolerance:
        what = "AP" if row["quality"]["against"] == "labels" else "agreement"
        found.append(f"loses {-relative['ap50_points']:.1f} points of {what}")
    if not row["stability"]["stable"]:
        found.append(f"S is {row['stability']['s']:.2f}, not above {config.stability:g}")
    if max(certain_speedup(row), relative["smaller"]) < 1 + NOTICED:
        found.append("is neither faster nor smaller")
    return found


def certain_speedup(row: Row) -> float:
    """Return the speedup that both the network alone and whole images show.

    A network that isn't faster can't make images faster: that would be chance. One that is
    shown the same objects at fewer pixels is as much faster.
    """
    relative = row["relative"]
    return float(min(relative["speedup"], relative["network_speedup"] / relative["pixels"]))


def recommend(rows: Sequence[Row]) -> tuple[str | None, str]:
    """Choose the fastest variant to which nothing objects, and say why.

    Returns
    -------
    name : of the variant; None if the original is the best choice
    words : for the user
    """
    good = [row for row in rows[1:] if not row["objections"]]
    faster = [row for row in good if certain_speedup(row) >= 1 + NOTICED]
    if faster:
        best = max(faster, key=certain_speedup)
        return best["name"], f"Use {best['name']}: {say(best)}."
    if good:
        best = max(good, key=lambda row: row["relative"]["smaller"])
        return best["name"], f"None is faster; {best['name']} is the smallest: {say(best)}."
    if len(rows) == 1:
        return None, "Nothing to compare: no variant could be made."
    reasons = "; ".join(f"{row['name']} {row['objections'][0]}" for row in rows[1:])
    return None, f"Stay with the original: {reasons}."


def say(row: Row) -> str:
    """Put a variant's gains and losses in words, against the original."""
    relative = row["relative"]
    speed = relative["speedup"]
    size = relative["smaller"]
    against = "AP" if row["quality"]["against"] == "labels" else "agreement"
    points = f"{relative['ap50_points']:+.1f} {against}".replace("-", "−")
    sizes = _times(size, "smaller", "larger", "of the same size")
    return ", ".join((_times(speed, "faster", "slower", "as fast"), points, sizes))


def _times(ratio: float, more: str, less: str, same: str) -> str:
    if abs(ratio - 1) < NOTICED:
        return same
    return f"{ratio:.1f} × {more}" if ratio > 1 else f"{1 / ratio:.1f} × {less}"
