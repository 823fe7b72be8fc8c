"""What the command line shows: progress bars and tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from dinomask.adapt.progress import TeachProgress
    from dinomask.run.progress import Progress
    from dinomask.train.loop import TrainProgress

STAGES = {
    "size": "estimating object size",
    "detect": "segmenting",
    "stitch": "stitching",
    "render": "drawing labels",
    "evaluate": "evaluating",
    "explain": "looking inside",
    "measure": "measuring objects",
    "features": "looking at objects",
    "pca": "looking at the image",
    "umap": "laying out (UMAP)",
    "tsne": "laying out (t-SNE)",
    "kmeans": "grouping (k-means)",
    "hdbscan": "grouping (HDBSCAN)",
    "probe": "probing",
}
TEACH_PHASES = {"prepare": "preparing", "train": "learning", "gate": "comparing with the base"}
TEXTS = ("trial", "state", "fit", "note")
"""Columns of words in the table of trials."""

PLAIN_EVERY_S = 10.0
"""Time between progress lines where the output is no terminal."""


class _Bar:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=None, note="")
        self._last_s = time.monotonic()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def line(self, text: str) -> None:
        """Print a line now and then where there is no terminal to draw on."""
        # by the clock: what a stage says to have taken may begin anew with the next one
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_s >= PLAIN_EVERY_S:
            self._last_s = now
            self.console.print(text, highlight=False, soft_wrap=True)


class ProgressBar(_Bar):
    """Shows the `Progress` of a run."""

    def __call__(self, progress: Progress) -> None:
        """Draw one step."""
        stage = STAGES.get(progress.stage, progress.stage)
        self.bar.update(self.task, description=stage, completed=progress.done, total=progress.total)
        eta = f", {progress.eta_s:.0f} s left" if progress.eta_s is not None else ""
        self.line(f"{stage} {progress.done}/{progress.total}{eta}")


class TrainingBar(_Bar):
    """Shows the `TrainProgress` of a training: losses, averaged, and time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.losses: dict[str, float] = {}

    def __call__(self, progress: TrainProgress) -> None:
        """Draw one step."""
        for key, value in progress.losses.items():
            self.losses[key] = 0.95 * self.losses.get(key, value) + 0.05 * value
        note = " ".join(f"{k} {v:.3f}" for k, v in self.losses.items())
        self.bar.update(
            self.task,
            description=f"step {progress.step}",
            completed=progress.fraction,
            total=1.0,
            note=note,
        )
        self.line(
            f"step {progress.step} {progress.fraction:.1%} {note}"
            f" {progress.eta_s / 60:.0f} min left",
        )


class TeachingBar(_Bar):
    """Shows the `TeachProgress` of a teaching: loss, quality on held-out objects, time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.loss: float | None = None
        self.held_out: float | None = None

    def __call__(self, progress: TeachProgress) -> None:
        """Draw one step."""
        if progress.loss is not None:
            before = progress.loss if self.loss is None else self.loss
            self.loss = 0.95 * before + 0.05 * progress.loss
        if progress.held_out is not None:
            self.held_out = progress.held_out
        parts = [("loss", self.loss), ("held out", self.held_out)]
        note = " ".join(f"{name} {value:.3f}" for name, value in parts if value is not None)
        stage = TEACH_PHASES[progress.phase]
        text = f"{stage}, step {progress.step}" if progress.phase == "train" else stage
        self.bar.update(
            self.task, description=text, completed=progress.fraction, total=1.0, note=note
        )
        line = f"{text} {progress.fraction:.0%} {note} {progress.eta_s:.0f} s left"
        self.line(line)


def accuracy_table(report: dict[str, Any]) -> Table:
    """Lay out an evaluation, a modality a row and the mean over all images last.

    COCO is the pooled COCO AP; ±25 % the share of images whose object size was
    right within that. Print it with `print_table`.
    """
    table = Table("modality", "images", "objects", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    columns = {
        "ap50": "AP@.5",
        "ap75": "@.75",
        "ap90": "@.9",
        "ap50_95": "@.5:.95",
        "f1_50": "F1@.5",
        "seg": "SEG",
        "coco_ap": "COCO",
        "size_within_25pct": "±25 %",
        "px_per_s": "px/s",
    }
    for title in columns.values():
        table.add_column(title, justify="right")
    rows = [*report["modalities"].items(), ("mean", report["mean"])]
    for name, figures in rows:
        values = [_figure(key, figures[key]) for key in columns]
        style = "bold" if name == "mean" else None
        table.add_row(name, str(figures["images"]), str(figures["objects"]), *values, style=style)
    return table


def compression_table(report: dict[str, Any]) -> Table:
    """Lay out a comparison of compressed models, a variant a row and the original first.

    × is relative to the original, measured in turns. Memory is the process's peak above the
    libraries it imports. Recommended variants are bold.
    """
    table = Table("variant", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("net ms", "×", "px/s", "×", "AP@.5", "@.5:.95", "rim", "same", "MB", "memory"):
        table.add_column(title, justify="right")
    for title in ("params M", "GMAC", "S", "σ"):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    for row in report["variants"]:
        quality, stability = row["quality"], row["stability"]
        values = (
            f"{row['network_ms']['median']:.0f}",
            f"{row['network_speedup']:.2f}",
            f"{row['px_per_s']:,.0f}",
            f"{row['speedup']:.2f}",
            f"{quality['ap50']:.3f}",
            f"{quality['ap50_95']:.3f}",
            _number(quality["boundary_iou"], 1, ".3f"),
            f"{quality['agreement']:.0%}",
            f"{row['size_mb']:.1f}",
            f"{row['model_memory_mb']:,.0f}",
            _number(row["parameters"], 1e6, ".1f"),
            _number(row["macs"], 1e9, ".1f"),
            f"{stability['s']:.2f}",
            f"{stability['sigma']:.2f}",
        )
        is_best = row["name"] == report["recommended"]
        verdict = "recommended" if is_best else "; ".join(row["objections"]) or "good"
        verdict = verdict if row is not report["variants"][0] else ""
        style = "bold" if is_best else None
        table.add_row(escape(row["name"]), *values, escape(verdict), style=style)
    return table


def analysis_table(report: dict[str, Any]) -> Table:
    """Lay out where a model's parameters, multiplications, time and memory are, a part a row."""
    groups = report["groups"]
    keys = {"parameters": "parameters", "macs": "multiplications", "seconds": "time"}
    keys |= {"activation_mb": "activations"}
    units = {"parameters": (1e6, " M"), "macs": (1e9, " G"), "seconds": (1e-3, " ms")}
    table = Table("part", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in keys.values():
        table.add_column(title, justify="right")
    for group in groups:
        cells = []
        for key in keys:
            unit, name = units.get(key, (1, " MB"))
            share = group[key] / max(sum(g[key] for g in groups), 1e-12)
            cells.append(f"{group[key] / unit:.1f}{name} {share:4.0%}")
        table.add_row(escape(group["name"]), *cells)
    return table


def _number(value: float | None, unit: float, form: str) -> str:
    return "–" if value is None else format(value / unit, form)


def trials_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Lay out the trials of a search, best first; settings that none has are left out."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    keys = [key for key in rows[0] if any(row[key] not in (None, "") for row in rows)]
    for key in keys:
        table.add_column(key.replace("_", " "), justify="left" if key in TEXTS else "right")
    ranked = sorted(rows, key=lambda r: (r["state"] == "done", r["score"] or 0.0), reverse=True)
    for i, row in enumerate(ranked):
        cells = [_cell(row[key]) for key in keys]
        table.add_row(*cells, style="bold" if i == 0 and row["state"] == "done" else None)
    return table


def figures_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Lay out rows of the same columns, words on the left and figures on the right."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for key in rows[0]:
        is_word = isinstance(rows[0][key], str)
        table.add_column(escape(key), justify="left" if is_word else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else escape(str(value))


def print_table(console: Console, table: Table) -> None:
    """Print a table at its full width: in a narrow terminal or a log, figures beat layout."""
    room = console.options.update(width=1000)
    width = max(console.width, Measurement.get(console, room, table).maximum)
    Console(file=console.file, width=width).print(table)


def _figure(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if key == "px_per_s" else f"{value:.3f}"
