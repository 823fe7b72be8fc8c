"""What the command line shows: progress bars and tables."""

from __future__ import annotations

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
        self._last_s = 0.0

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

    def line(self, elapsed_s: float, text: str) -> None:
        """Print a line now and then where there is no terminal to draw on."""
        if not self.console.is_terminal and elapsed_s - self._last_s >= PLAIN_EVERY_S:
            self._last_s = elapsed_s
            self.console.print(text, highlight=False, soft_wrap=True)


class ProgressBar(_Bar):
    """Shows the `Progress` of a run."""

    def __call__(self, progress: Progress) -> None:
        """Draw one step."""
        stage = STAGES[progress.stage]
        self.bar.update(self.task, description=stage, completed=progress.done, total=progress.total)
        eta = f", {progress.eta_s:.0f} s left" if progress.eta_s is not None else ""
        self.line(progress.elapsed_s, f"{stage} {progress.done}/{progress.total}{eta}")


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
            progress.elapsed_s,
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
        self.line(progress.elapsed_s, line)


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
