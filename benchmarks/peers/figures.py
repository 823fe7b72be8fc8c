"""One scoring for all methods, and its tables."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from rich.box import SIMPLE_HEAD
from rich.table import Table

from dinomask.errors import DataError
from dinomask.measure.matching import Scores, mean_scores, score_image
from dinomask.train.evaluate import leave_out_unsupervised

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dinomask.train.datasets import Sample

FIGURES = {
    "ap50": "AP@0.5",
    "ap75": "AP@0.75",
    "ap50_95": "AP@0.5:0.95",
    "f1_50": "F1@0.5",
    "seg": "SEG",
    "seconds": "seconds an image",
}
"""Figures of the tables; all but the last are better when higher."""

MEAN = "mean"
"""Row over all images, whatever their modality."""


@dataclasses.dataclass(frozen=True)
class ScoredImage:
    """One method's result on one image.

    Attributes
    ----------
    sample : which image
    scores : against its labels
    wall_s, cpu_s : for segmenting it
    """

    sample: Sample
    scores: Scores
    wall_s: float
    cpu_s: float


def score(
    samples: Sequence[Sample], folder: Path, times: dict[str, dict[str, float]]
) -> list[ScoredImage]:
    """Compare written label images with the samples' labels.

    Parameters
    ----------
    samples : annotated images
    folder : with ``DATASET.NAME.tif`` for each
    times : seconds by ``DATASET.NAME``

    Raises
    ------
    DataError
        If a label image is missing or of another size.
    """
    results = []
    for sample in samples:
        name = f"{sample.dataset}.{sample.name}"
        path = folder / f"{name}.tif"
        if name not in times or not path.is_file():
            raise DataError(
                expected=f"a finished label image {path}",
                got="none",
                remedy="Run the same command again to segment what is missing.",
            )
        _, labels, _ = sample.read()
        predicted = tifffile.imread(path)
        if predicted.shape != labels.shape:
            raise DataError(
                expected=f"labels of shape {labels.shape}",
                got=f"{predicted.shape} in {path}",
                remedy="Delete the file's folder and run the same command again.",
            )
        labels, predicted = leave_out_unsupervised(labels, predicted)
        results.append(ScoredImage(sample, score_image(labels, predicted), **times[name]))
    return results


def summarise(results: Sequence[ScoredImage], clock: str) -> dict[str, Any]:
    """Average over images; seconds are counted by `clock`."""
    scores = mean_scores(r.scores for r in results)
    at = {round(tau, 2): i for i, tau in enumerate(scores.taus)}
    seconds = [r.cpu_s if clock == "cpu" else r.wall_s for r in results]
    return {
        "images": len(results),
        "objects": scores.n_reference,
        "ap50": scores.ap[at[0.5]],
        "ap75": scores.ap[at[0.75]],
        "ap90": scores.ap[at[0.9]],
        "ap50_95": scores.mean_ap,
        "f1_50": scores.f1[at[0.5]],
        "seg": scores.seg,
        "seconds": float(np.mean(seconds)),
        "median_seconds": statistics.median(seconds),
        "total_seconds": sum(seconds),
    }


def report(results: Sequence[ScoredImage], clock: str) -> dict[str, Any]:
    """Return a method's figures by modality, their mean over images, and every image's."""
    modalities = sorted({r.sample.modality for r in results})
    return {
        "mean": summarise(results, clock),
        "modalities": {
            m: summarise([r for r in results if r.sample.modality == m], clock) for m in modalities
        },
        "images": [
            {
                "name": r.sample.name,
                "dataset": r.sample.dataset,
                "modality": r.sample.modality,
                "wall_s": r.wall_s,
                "cpu_s": r.cpu_s,
                **r.scores.as_dict(),
            }
            for r in results
        ],
    }


def rows_of(reports: dict[str, dict[str, Any]], figure: str) -> list[tuple[str, int, list[float]]]:
    """Return name, number of images and each method's figure, a modality a row, the mean last."""
    first = next(iter(reports.values()))
    rows = [
        (m, s["images"], [r["modalities"][m][figure] for r in reports.values()])
        for m, s in first["modalities"].items()
    ]
    means = [r["mean"][figure] for r in reports.values()]
    return [*rows, (MEAN, first["mean"]["images"], means)]


def figure_table(reports: dict[str, dict[str, Any]], figure: str) -> Table:
    """Lay out one figure: a modality a row, a method a column, the best in bold."""
    table = Table(FIGURES[figure], box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("images", *reports):
        table.add_column(name, justify="right")
    for name, images, values in rows_of(reports, figure):
        if name == MEAN:
            table.add_section()
        shown = [format_figure(figure, v) for v in values]
        best = format_figure(figure, min(values) if figure == "seconds" else max(values))
        cells = [f"[bold]{s}[/bold]" if s == best else s for s in shown]
        table.add_row(name, str(images), *cells)
    return table


def budget_table(reports: dict[str, dict[str, Any]]) -> Table:
    """Lay out what each method was given and reached: a method a row."""
    columns = ("minutes", "steps", "crops", *(FIGURES[f] for f in FIGURES), "seconds in all")
    table = Table("mean over images", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="right")
    for method, found in reports.items():
        training, mean = found["training"], found["mean"]
        table.add_row(
            method,
            f"{training['minutes']:.1f}",
            str(training["steps"]),
            str(training["crops"]),
            *(format_figure(f, mean[f]) for f in FIGURES),
            f"{mean['total_seconds']:.0f}",
        )
    return table


def markdown(reports: dict[str, dict[str, Any]]) -> str:
    """Return the tables of all figures as Markdown."""
    parts = []
    for figure, title in FIGURES.items():
        lines = [f"| {title} | images | " + " | ".join(reports) + " |"]
        lines.append("|---" + "|--:" * (len(reports) + 1) + "|")
        for name, images, values in rows_of(reports, figure):
            shown = " | ".join(format_figure(figure, v) for v in values)
            lines.append(f"| {name} | {images} | {shown} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def format_figure(figure: str, value: float) -> str:
    """Return a figure as the tables show it."""
    return f"{value:.2f}" if figure == "seconds" else f"{value:.3f}"
