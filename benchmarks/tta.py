"""What test-time augmentation gains and what it costs.

    python benchmarks/tta.py DATA [DATA …] --split train --images 20 --json tta.json

Segments the same images with each choice of views (object size estimated, one
thread) and prints a row each: accuracy, pixels a second, and how many times
longer it takes than without. The images are drawn evenly over the modalities by
a seed. On a CPU, times are the process's own, so other work on the machine
doesn't count; with CUDA they are by the clock.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dinomask.config import DetectConfig, SegmentConfig
from dinomask.image import open_image
from dinomask.nets.zoo import write_atomically
from dinomask.run.predictor import Predictor
from dinomask.run.report import header
from dinomask.run.views import plan_views
from dinomask.terminal import ProgressBar, print_table
from dinomask.train.datasets import Sample, draw_evenly, find_samples
from dinomask.train.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

CHOICES = {
    "off": DetectConfig(),
    "flips": DetectConfig(tta="flips"),
    "full": DetectConfig(tta="full"),
    "scales": DetectConfig(tta_scales=(0.8, 1.25)),
    "flips+scales": DetectConfig(tta="flips", tta_scales=(0.8, 1.25)),
}

COLUMNS = {"ap50": "AP@0.5", "ap75": "AP@0.75", "ap90": "AP@0.9", "ap50_95": "AP@0.5:0.95"}


def measure(
    samples: Sequence[Sample], config: SegmentConfig, predictor: Predictor, bar: ProgressBar
) -> dict[str, Any]:
    """Evaluate one choice of views."""
    clock = time.process_time if predictor.device.type == "cpu" else time.perf_counter
    started = clock()
    report = evaluate(samples, config, predictor=predictor, on_progress=bar)
    seconds = clock() - started
    shapes = [open_image(sample.image).shape_yx for sample in samples]
    return {
        "views": len(plan_views(config.detect)),
        "detect": dataclasses.asdict(config.detect),
        "seconds": seconds,
        "px_per_s": sum(height * width for height, width in shapes) / seconds,
        "mean": report["mean"],
        "modalities": report["modalities"],
    }


def show(rows: dict[str, dict[str, Any]]) -> Table:
    """Lay out the choices; the first one is what the others are compared with."""
    table = Table("views", *COLUMNS.values(), "px/s", "times", box=None)
    base = next(iter(rows.values()))
    for name, row in rows.items():
        figures = [f"{row['mean'][c]:.3f}" for c in COLUMNS]
        times = base["px_per_s"] / row["px_per_s"]
        label = f"{name} ({row['views']})"
        table.add_row(label, *figures, f"{row['px_per_s']:.0f}", f"{times:.1f}")
    return table


def main() -> None:
    """Measure each choice and print after each, so that a long run can be followed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--split", default="train")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=SegmentConfig.model)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--views", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    samples = draw_evenly(
        find_samples(arguments.data, arguments.split), arguments.images, arguments.seed
    )
    base = SegmentConfig(model=arguments.model, device=arguments.device, threads=1)
    predictor = Predictor.load(base)
    rows: dict[str, dict[str, Any]] = {}
    for name in arguments.views:
        config = dataclasses.replace(base, detect=CHOICES[name])
        with ProgressBar(Console(stderr=True)) as bar:
            rows[name] = measure(samples, config, predictor, bar)
        print_table(Console(), show(rows))
        if arguments.json:
            chosen = {"split": arguments.split, "seed": arguments.seed}
            names = [sample.name for sample in samples]
            report = {**header(predictor), **chosen, "images": names, "views": rows}
            write_atomically(arguments.json, (json.dumps(report, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
