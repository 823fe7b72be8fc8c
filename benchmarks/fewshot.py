"""What a model learns from a few corrected objects.

    python benchmarks/fewshot.py [--tables objects modes ranks] [--data FOLDER]
        [--objects 10 30 100 300] [--minutes 5 | --steps N] [--threads 2] [--json FILE]

Without --data it takes ampis_powder of the folder in DINOMASK_DATA. A simulated user
corrects only what the base model got wrong on the images of one split, patch by patch,
through the same corrections and journal as in the window; the model is taught on what the
journal says; the images of another split, never looked at, are then segmented as anybody
would (object size estimated) and scored.

- objects: accuracy after 0, 10, 30, … corrected objects, and with all labels
- modes: heads, late, lora, hybrid, full from 100 corrected objects: weights that learn,
  seconds a step, peak memory, adapter's size, accuracy
- ranks: LoRA of rank 4, 8, 16, 32 from the same

Every teaching runs in a process of its own, whose peak memory is measured.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from teaching.simulated_user import correct, sit_down

from dinomask.adapt.finetune import finetune
from dinomask.adapt.taught import taught_from_sample
from dinomask.config import SegmentConfig, TeachConfig
from dinomask.nets.adapters import TENSORS_FILE
from dinomask.nets.zoo import write_atomically
from dinomask.run.predictor import Predictor
from dinomask.run.report import machine
from dinomask.terminal import print_table
from dinomask.train.datasets import find_samples
from dinomask.train.evaluate import evaluate

MODES = ("heads", "late", "lora", "hybrid", "full")
RANKS = (4, 8, 16, 32)
N_MODES = 100

COLUMNS = {
    "row": "",
    "corrected": "corrected",
    "objects": "objects known",
    "steps": "steps",
    "trainable_pct": "learns %",
    "seconds_per_step": "s/step",
    "peak_mb": "peak MB",
    "adapter_mb": "adapter MB",
    "minutes": "min",
    "share": "share",
    "promoted": "passed",
    "held_out": "held out",
    "reference": "reference AP@.5",
    "ap50": "AP@.5",
    "ap75": "AP@.75",
    "ap50_95": "AP@.5:.95",
    "size": "size ±25 %",
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One teaching."""

    row: str
    data: str
    splits: tuple[str, str]
    n_corrected: int | None
    config: TeachConfig
    seed: int


def teach(job: Job) -> dict[str, Any]:
    """Correct, teach, and score; runs in a process of its own."""
    learn, judge = (find_samples([Path(job.data)], split) for split in job.splits)
    segmenting = SegmentConfig(threads=job.config.threads, model=job.config.model)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        corrected = 0
        if job.n_corrected is None:
            taught = [taught_from_sample(sample) for sample in learn]
        else:
            predictor = Predictor.load(segmenting)
            desks = sit_down(learn, predictor, segmenting, folder, job.seed)
            correct(desks, job.n_corrected)
            corrected = sum(desk.n_corrected for desk in desks)
            taught = [image for desk in desks for image in desk.taught()]
            del predictor
        started = time.perf_counter()
        result = finetune(taught, folder / "work", "few", job.config, folder=folder / "few")
        seconds = time.perf_counter() - started
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        size_mb = (result.folder / TENSORS_FILE).stat().st_size / 1e6
        used = str(result.folder) if result.promoted else None
        scores = evaluate(judge, dataclasses.replace(segmenting, adapter=used))["mean"]
    gate = result.figures["gate"]
    return {
        "row": job.row,
        "corrected": corrected,
        "objects": result.figures["objects"],
        "steps": result.figures["steps"],
        "trainable_pct": 100 * result.figures["trainable_weights"] / result.figures["weights"],
        "seconds_per_step": result.figures["seconds_per_step"],
        "peak_mb": peak_mb,
        "adapter_mb": size_mb,
        "minutes": seconds / 60,
        "share": gate["share"],
        "promoted": result.promoted,
        "held_out": f"{gate['before']['held_out']:.3f} → {gate['after']['held_out']:.3f}",
        "reference": (
            f"{gate['before']['reference_ap50']:.3f} → {gate['after']['reference_ap50']:.3f}"
        ),
        **_scores(scores),
    }


def base_row(job: Job) -> dict[str, Any]:
    """Score the base model."""
    judge = find_samples([Path(job.data)], job.splits[1])
    config = SegmentConfig(threads=job.config.threads, model=job.config.model)
    return {"row": job.row, "corrected": 0, **_scores(evaluate(judge, config)["mean"])}


def _scores(mean: dict[str, Any]) -> dict[str, Any]:
    picked = {key: mean[key] for key in ("ap50", "ap75", "ap50_95")}
    return picked | {"size": mean["size_within_25pct"]}


def plan(args: argparse.Namespace) -> list[tuple[str, Job]]:
    """List the teachings of each table."""
    config = TeachConfig(
        minutes=args.minutes, steps=args.steps, threads=args.threads, seed=args.seed
    )
    splits = (args.learn_split, args.judge_split)

    def job(row: str, n: int | None, **changes: Any) -> Job:
        return Job(
            row, str(args.data), splits, n, dataclasses.replace(config, **changes), args.seed
        )

    jobs: list[tuple[str, Job]] = []
    if "objects" in args.tables:
        jobs.append(("objects", job("base", 0)))
        jobs += [("objects", job(f"{n} corrected", n)) for n in args.objects]
        jobs.append(("objects", job("all labels", None)))
    if "modes" in args.tables:
        jobs += [("modes", job(mode, N_MODES, mode=mode)) for mode in MODES]
    if "ranks" in args.tables:
        jobs += [("ranks", job(f"rank {r}", N_MODES, mode="lora", rank=r)) for r in RANKS]
    return jobs


def show(title: str, rows: list[dict[str, Any]]) -> Table:
    """Lay out one table."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    keys = [key for key in COLUMNS if any(key in row for row in rows)]
    for key in keys:
        table.add_column(COLUMNS[key], justify="left" if key == "row" else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in keys))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Run what is asked for, a row at a time; the json grows with every row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", default=["objects", "modes", "ranks"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--learn-split", default="adapt")
    parser.add_argument("--judge-split", default="eval")
    parser.add_argument("--objects", nargs="+", type=int, default=[10, 30, 100, 300])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.data = args.data or Path(os.environ["DINOMASK_DATA"]) / "ampis_powder"
    tables: dict[str, list[dict[str, Any]]] = {}
    for table, job in plan(args):
        # a fresh process each, so that peaks don't mix
        with concurrent.futures.ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn")
        ) as pool:
            row = pool.submit(base_row if job.n_corrected == 0 else teach, job).result()
        tables.setdefault(table, []).append(row)
        print(table, row, flush=True)
        if args.json:
            report = {"machine": machine(), "settings": vars(args), "tables": tables}
            write_atomically(args.json, json.dumps(report, indent=2, default=str).encode())
    for title, rows in tables.items():
        print_table(Console(), show(title, rows))


if __name__ == "__main__":
    main()
