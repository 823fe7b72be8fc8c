"""The chart of a comparison: what each variant costs, and how good it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.compress.bench.names import spread_names
from dinomask.compress.bench.verdict import cost
from dinomask.tiles.outputs import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

AXES = {
    "latency": "time an image, relative to the original",
    "size": "size on disk, MB",
}
"""What a variant costs, and how that is written below the axis."""

_ACCENT, _FAINT = "#1c7ed6", "#868e96"

_ALL_NAMED = 8
"""Of more variants, names of those off the front would lie on each other."""


def draw_chart(report: dict[str, Any], path: Path) -> None:
    """Draw AP against latency and against size, with the Pareto fronts.

    Parameters
    ----------
    report : from `dinomask.compress.bench.report.bench`
    path : .png or .svg; replaced if it exists

    Raises
    ------
    OutputError
        If it can't be written.
    """
    # without pyplot, which would look for a window
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    both = figure.subplots(1, 2)
    for axes, axis in zip(both, AXES, strict=True):
        _draw(axes, report["variants"], axis, report["recommended"])
    # places in pixels are known once the axes have theirs
    figure.draw_without_rendering()
    for axes, axis in zip(both, AXES, strict=True):
        _write_names(axes, report["variants"], axis, report["recommended"])
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:])


def _draw(axes: Axes, rows: list[dict[str, Any]], axis: str, recommended: str | None) -> None:
    front = sorted((cost(row, axis), row["quality"]["ap50"]) for row in rows if row["pareto"][axis])
    axes.plot(*zip(*front, strict=True), color=_FAINT, lw=1, ls="--", zorder=1)
    for row in rows:
        x, y = cost(row, axis), row["quality"]["ap50"]
        is_best = row["name"] == recommended
        marker = "*" if is_best else "o"
        axes.scatter(x, y, s=110 if is_best else 45, c=_colour(row, axis), marker=marker)
    against = rows[0]["quality"]["against"]
    axes.set_xlabel(AXES[axis])
    axes.set_ylabel("AP at IoU 0.5" if against == "labels" else "AP@0.5 against the original")
    axes.margins(x=0.25, y=0.15)
    # from nothing on, so that a small gain looks small
    axes.set_xlim(left=0)
    axes.grid(alpha=0.2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _write_names(
    axes: Axes, rows: list[dict[str, Any]], axis: str, recommended: str | None
) -> None:
    """Write the names beside their points, those on the front first."""
    rows = sorted(rows, key=lambda row: (not row["pareto"][axis], row["name"] != recommended))
    places = [(cost(row, axis), row["quality"]["ap50"]) for row in rows]
    texts = [
        axes.annotate(row["name"], place, fontsize=8, color=_colour(row, axis), in_layout=False)
        for row, place in zip(rows, places, strict=True)
        if row["pareto"][axis] or row["name"] == recommended or len(rows) <= _ALL_NAMED
    ]
    height = axes.bbox.height
    points = axes.transData.transform(places) - axes.bbox.min
    extents = [text.get_window_extent() for text in texts]
    anchors = spread_names(
        np.column_stack([points[:, 0], height - points[:, 1]]),
        np.array([(extent.width, extent.height) for extent in extents]),
        (axes.bbox.width, height),
    )
    beside = zip(texts, points[: len(texts)], extents, anchors, strict=True)
    for text, point, extent, (across, down) in beside:
        x = point[0] - across * extent.width
        y = point[1] + (down - 1) * extent.height
        data_x, data_y = axes.transData.inverted().transform(axes.bbox.min + np.array([x, y]))
        text.set_position((float(data_x), float(data_y)))


def _colour(row: dict[str, Any], axis: str) -> str:
    return _ACCENT if row["pareto"][axis] else _FAINT
