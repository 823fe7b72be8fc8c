"""What a model learns from a few corrected objects.

    python benchmarks/fewshot.py [--tables objects modes …] [--data FOLDER]
        [--objects 10 30 100 300] [--minutes 5 | --steps N] [--judge-images N]
        [--threads 2] [--json FILE]

Without --data it takes ampis_powder of the folder in DINOMASK_DATA. A simulated user
corrects only what the base model got wrong on the images of one split, patch by patch,
through the same corrections and journal as in the window; the model is taught on what the
journal says; the images of another split, never looked at, are then segmented as anybody
would (object size estimated) and scored.

- objects: accuracy after 0, 10, 30, … corrected objects, and with all labels
- modes: heads, late, lora, hybrid, full from 100 corrected objects: weights that learn,
  seconds a step, peak memory, adapter's size, accuracy
- ranks: LoRA of rank 4, 8, 16, 32 from the same
- suggestions: where the model suggests, against anywhere, after the same numbers of corrections
- domain: a base checkpoint trained for --base-minutes without one kind of image of another
  data set (H&E of dsb2018, unless told otherwise), then taught that kind from 1, 5, 10 and all
  of its images. The base is kept in --work and used again.

Every teaching runs in a process of its own, whose peak memory is measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from teaching.jobs import Job, in_own_process
from teaching.without import base_without

from dinomask.config import TeachConfig
from dinomask.nets.zoo import write_atomically
from dinomask.run.report import machine
from dinomask.terminal import print_table

TABLES = ("objects", "modes", "ranks", "suggestions", "domain")
DOMAIN_IMAGES = (1, 5, 10)
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


def plan(args: argparse.Namespace, table: str) -> list[Job]:
    """List the teachings of a table."""
    config = TeachConfig(
        minutes=args.minutes, steps=args.steps, threads=args.threads, seed=args.seed
    )
    splits = (args.learn_split, args.judge_split)

    def job(row: str, n: int | None, suggested: bool = False, **changes: Any) -> Job:
        changed = dataclasses.replace(config, **changes)
        return Job(
            row,
            str(args.data),
            splits,
            n,
            changed,
            args.seed,
            suggested=suggested,
            n_judge=args.judge_images,
        )

    if table == "objects":
        some = [job(f"{n} corrected", n) for n in args.objects]
        return [job("base", 0), *some, job("all labels", None)]
    if table == "modes":
        return [job(mode, N_MODES, mode=mode) for mode in MODES]
    if table == "ranks":
        return [job(f"rank {r}", N_MODES, mode="lora", rank=r) for r in RANKS]
    if table == "suggestions":
        orders = {"anywhere": False, "suggested": True}
        return [
            job(f"{n} {order}", n, suggested=suggested)
            for n in args.suggestions
            for order, suggested in orders.items()
        ]
    return plan_domain(args, config)


def plan_domain(args: argparse.Namespace, config: TeachConfig) -> list[Job]:
    """Train the base that never saw the kind of image, and list what it is taught."""
    home = Path(os.environ["DINOMASK_DATA"])
    data = args.domain_data or home / "dsb2018"
    folders = list(dict.fromkeys([data, home / "usiigaci"]))
    out = args.work / f"without_{args.domain}_{args.base_minutes:g}min"
    base = base_without(folders, args.domain, out, args.base_minutes, args.threads)
    config = dataclasses.replace(config, model=str(base))

    def job(row: str, n_corrected: int | None, n_images: int | None = None) -> Job:
        return Job(
            row,
            str(data),
            ("train", "val"),
            n_corrected,
            config,
            args.seed,
            args.domain,
            n_images,
            n_judge=args.judge_images,
        )

    some = [job(f"{n} image{'s'[: n > 1]}", None, n) for n in DOMAIN_IMAGES]
    return [job("base", 0), *some, job("all images", None)]


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


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--learn-split", default="adapt")
    parser.add_argument("--judge-split", default="eval")
    parser.add_argument("--judge-images", type=int, help="as many only, evenly spread")
    parser.add_argument("--objects", nargs="+", type=int, default=[10, 30, 100, 300])
    parser.add_argument("--suggestions", nargs="+", type=int, default=[20, 40, 80])
    parser.add_argument("--domain", default="histology", help="beginning of the modality")
    parser.add_argument("--domain-data", type=Path, help="data set that has it; default dsb2018")
    parser.add_argument("--base-minutes", type=float, default=60.0)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where bases are kept; default: a user cache")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.data = args.data or Path(os.environ["DINOMASK_DATA"]) / "ampis_powder"
    args.work = args.work or user_cache_path("dinomask-benchmarks") / "fewshot"
    return args


def main() -> None:
    """Run what is asked for, a row at a time; the json grows with every row."""
    args = parse()
    tables: dict[str, list[dict[str, Any]]] = {}
    for table in args.tables:
        for job in plan(args, table):
            row = in_own_process(job)
            tables.setdefault(table, []).append(row)
            print(table, row, flush=True)
            if args.json:
                report = {"machine": machine(), "settings": vars(args), "tables": tables}
                write_atomically(args.json, json.dumps(report, indent=2, default=str).encode())
    for title, rows in tables.items():
        print_table(Console(), show(title, rows))


if __name__ == "__main__":
    main()
