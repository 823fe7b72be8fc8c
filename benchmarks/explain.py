"""What looking inside a model costs: time and memory, a part in a process of its own each.

    python benchmarks/explain.py --json explain.json
    python benchmarks/explain.py --part umap

A part is a module of `benchmarks/explaining` with ``measure() -> rows``, a dictionary a row
of the table. Times are by the clock, on one thread; "CPU s" is what the processors spent on
it, which other work on the machine doesn't change. "memory MB" is the highest resident
memory of the process, and "at start" what it held before, most of which is PyTorch.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dinomask.nets.zoo import write_atomically
from dinomask.run.report import machine
from dinomask.terminal import print_table

PARTS = ("attention", "pca", "umap", "lasso", "tiles")

_RESULT = "result "


def run_part(name: str) -> list[dict[str, Any]]:
    """Measure a part in a process of its own, so that memory is its own."""
    command = [sys.executable, __file__, "--inside", name]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | threads
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith(_RESULT))
    rows: list[dict[str, Any]] = json.loads(line.removeprefix(_RESULT))
    return rows


def show(name: str, rows: list[dict[str, Any]]) -> Table:
    """Lay a part's figures out."""
    table = Table(title=name)
    for key in rows[0]:
        table.add_column(key, justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        table.add_row(*(f"{v:,.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    return table


def main() -> None:
    """Measure the parts asked for, and print after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        rows = importlib.import_module(f"explaining.{arguments.inside}").measure()
        print(_RESULT + json.dumps(rows))
        return
    figures: dict[str, Any] = {}
    for name in arguments.part:
        figures[name] = run_part(name)
        print_table(Console(), show(name, figures[name]))
        if arguments.json:
            report = {"machine": machine(), "parts": figures}
            write_atomically(arguments.json, (json.dumps(report, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
