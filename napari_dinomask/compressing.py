"""The state behind the Compress panel: plain, without Qt and without napari."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import TYPE_CHECKING, Any

from dinomask.compress.choose import Recipe, Study, choose_recipes
from dinomask.compress.method import Stage
from dinomask.compress.methods import METHODS, find_methods
from dinomask.config import BenchConfig, CompressConfig, DistilSettings, SegmentConfig
from dinomask.errors import InputError, SettingsError
from napari_dinomask.wording import say_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dinomask.compress.job import StudyReport
    from dinomask.run.progress import Progress

    Row = Mapping[str, Any]

GROUPS: dict[str, tuple[Stage, ...]] = {
    "Another arithmetic or program": (Stage.QUANTISE, Stage.EXPORT),
    "Take parts away": (Stage.PRUNE, Stage.FACTORISE, Stage.SHARE, Stage.SPARSIFY),
    "Train on your images": (Stage.TRAIN,),
    "Adapters": (Stage.ADAPTER, Stage.MERGE),
}
"""The methods as the form shows them; every stage is in one."""

TITLES = ("variant", "× faster", "AP", "MB", "memory", "S")
"""Columns of the table of results."""

WAYS = {"apart": "each by itself", "joined": "all in one model"}
"""What to do with several methods."""

_STAGES = {
    "load variants": "Loading the variants",
    "segment with all": "Segmenting your images with each in turn",
    "time in turns": "Timing one tile with each in turn",
    "compare features": "Comparing features",
    "shake": "Trying noise, blur and other changes",
    "score": "Comparing objects",
}


@dataclasses.dataclass(frozen=True)
class CompressIntent:
    """What the Compress form says."""

    model: str = SegmentConfig.model
    """The checkpoint."""

    adapter: str | None = None
    """An adapter on it, merged first."""

    methods: tuple[str, ...] = ()
    """Names of the chosen methods."""

    way: str = "apart"
    """A key of `WAYS`."""

    images: int = BenchConfig.bench_images
    """Images that every variant segments at most."""

    minutes: float = DistilSettings.minutes or 10.0
    """Time of each training."""

    threads: int | None = None
    """CPU threads; None takes all cores but one."""

    def recipes(self) -> tuple[Recipe, ...]:
        """Return the ways of compressing.

        Raises
        ------
        SettingsError
            If no method is chosen.
        """
        if not self.methods:
            raise SettingsError(
                expected="at least one method",
                got="none",
                remedy="Tick a method, for example one that makes your processor compute in int8.",
            )
        joined = "+".join(self.methods)
        return choose_recipes([joined] if self.way == "joined" else list(self.methods))

    def resolve(self, places: Sequence[Path]) -> Study:
        """Return what is to be done.

        Parameters
        ----------
        places : of the images

        Raises
        ------
        SettingsError
            If no method is chosen, or a setting is outside its range.
        InputError
            If there is no image.
        """
        if not places:
            raise InputError(
                expected="images to compare on",
                got="no image layer and no folder",
                remedy="Open images like those you want to segment, or choose a folder of them.",
            )
        return Study(
            self.model,
            self.recipes(),
            tuple(places),
            self.adapter,
            config=CompressConfig(
                threads=self.threads, distil=DistilSettings(minutes=self.minutes)
            ),
            bench=BenchConfig(bench_images=self.images),
            segment=SegmentConfig(model=self.model, threads=self.threads),
        )

    @property
    def trains(self) -> bool:
        """Whether one of the methods is a training."""
        return any(m.stage == Stage.TRAIN for m in METHODS if m.name in self.methods)


def grouped_methods() -> dict[str, list[str]]:
    """Return the names of all methods by the group that they are shown in."""
    return {
        title: [method.name for method in METHODS if method.stage in stages]
        for title, stages in GROUPS.items()
    }


def say_method(name: str) -> str:
    """Return what a method does and is good for, for its tooltip."""
    (method,) = find_methods([name])
    return f"{method.summary}.\n{method.gain}" if method.gain else f"{method.summary}."


def gain_of(name: str) -> str:
    """Return what a method is good for, in a line."""
    (method,) = find_methods([name])
    return method.gain or method.summary


def table_row(row: Row) -> tuple[str, ...]:
    """Return the cells of a variant's figures, in the order of `TITLES`."""
    quality, stability = row["quality"], row["stability"]
    return (
        row["name"],
        f"{row['speedup']:.2f}",
        f"{quality['ap50']:.3f}",
        f"{row['size_mb']:.1f}",
        f"{row['model_memory_mb']:,.0f}",
        f"{stability['s']:.2f}" + (f" ± {stability['sigma']:.2f}" if stability["sigma"] else ""),
    )


def explain_row(row: Row) -> str:
    """Say more of a variant's figures, for a tooltip."""
    quality, network = row["quality"], row["network_ms"]
    lines = [
        f"network alone: {network['median']:.0f} ms a tile ({row['network_speedup']:.2f} ×),"
        f" 95 % below {network['p95']:.0f} ms",
        f"whole images: {row['px_per_s']:,.0f} px/s",
        f"AP@0.5:0.95 {quality['ap50_95']:.3f}, against {quality['against']}",
        f"{quality['same']:,} objects as before, {quality['changed']:,} changed,"
        f" {quality['lost']:,} lost, {quality['gained']:,} gained",
        f"warm-up: {row['load_s']:.1f} s to load, {row['first_tile_s']:.1f} s for the first tile",
    ]
    features, shaken = row["features"], row["robustness"]
    if features:
        lines.append(f"features: CKA {features['cka']:.3f}")
    if shaken:
        tried = (f"{k} {v:.2f}" for k, v in shaken.items() if v is not None)
        lines.append("AP with " + ", ".join(tried))
    objections = row["objections"]
    return "\n".join(lines + ([f"Not recommended: {'; '.join(objections)}"] if objections else []))


def say_study(report: StudyReport, last: Progress | None) -> str:
    """Say what a study is at, and how long that will take."""
    if report.state == "paused":
        return "Paused"
    if report.state == "stopping":
        return "Stopping…"
    if last is None:
        return "Starting…"
    recipe, colon, stage = last.stage.rpartition(": ")
    what = f"Making {recipe} ({stage})" if colon else _STAGES.get(stage, stage)
    parts = [what, f"{last.done:,} of {last.total:,}"] if last.total > 1 else [what]
    if last.eta_s:
        parts.append(f"{say_duration(last.eta_s)} left")
    return " · ".join(parts)


def say_finished(report: Row) -> str:
    """Say what is recommended, and what could not be done."""
    lines = [f"<b>{escape(report['recommendation'])}</b>"]
    lines += [f"{escape(n)} is left out: {escape(why)}" for n, why in report["left_out"].items()]
    for name, notes in report["notes"].items():
        lines += [f"{escape(name)}: {escape(note)}" for note in notes]
    against = report["variants"][0]["quality"]["against"]
    if against != "labels":
        lines.append("Without labels, AP tells how far a variant agrees with the original.")
    return "<br>".join(lines)


def say_closing() -> tuple[str, str]:
    """Return the title and the text of the question when napari closes."""
    return (
        "The comparison goes on",
        "Models are still being compressed and compared. It can go on without the window, and "
        "you find the result here next time; or it stops now and can be taken up again.",
    )
