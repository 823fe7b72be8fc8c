"""Time models and artefacts in turns, from reading to labels and on one tile alone.

    .venv/bin/python benchmarks/backends.py tiny:fp32 tiny:bf16 tiny-int8-openvino:fp32

Each is MODEL:PRECISION. CPU time of one thread, so that other work on the machine counts little;
medians over rounds in which each has its turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from dinomask.config import SegmentConfig
from dinomask.image.normalise import fit_normaliser
from dinomask.image.resample import read_scaled
from dinomask.image.source import open_image
from dinomask.run.predictor import Predictor
from dinomask.run.report import machine
from dinomask.run.segment import segment
from dinomask.tiles.plan import plan_tiles

SAMPLE = Path(__file__).resolve().parents[1] / "sample_data" / "nuclei.tif"
DIAMETER_PX = 23.5
"""Of the sample's nuclei; given, so that all cut the same tiles."""


def measure(specs: list[str], rounds: int) -> list[dict[str, Any]]:
    """Time each model once a round, after a first run that doesn't count."""
    image = open_image(SAMPLE)
    runs = []
    for spec in specs:
        model, _, precision = spec.partition(":")
        config = SegmentConfig(
            model=model,
            threads=1,
            diameter_px=DIAMETER_PX,
            device="cpu",
            precision=precision or "auto",
        )
        predictor = Predictor.load(config)
        segment(image, config=config, predictor=predictor)
        runs.append((spec, config, predictor))
    plan = plan_tiles(image.shape_yx, runs[0][2].target_diameter_px / DIAMETER_PX, runs[0][1].tiles)
    pixels = read_scaled(image, fit_normaliser(image), plan.scale, plan[0].read_yxyx_px)
    tile = torch.from_numpy(pixels[None]).to(memory_format=torch.channels_last)
    whole: dict[str, list[float]] = {spec: [] for spec in specs}
    alone: dict[str, list[float]] = {spec: [] for spec in specs}
    for _ in range(rounds):
        for spec, config, predictor in runs:
            started = time.process_time()
            segment(image, config=config, predictor=predictor)
            whole[spec].append(time.process_time() - started)
            with torch.inference_mode(), predictor.autocast():
                started = time.process_time()
                predictor.network.look(tile)
                alone[spec].append(time.process_time() - started)
    return [
        {
            "model": spec,
            "reading_to_labels_ms": round(1e3 * statistics.median(whole[spec])),
            "look_ms": round(1e3 * statistics.median(alone[spec])),
        }
        for spec in specs
    ]


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = measure(given.models, given.rounds)
    print(f"{'model':34} reading to labels, ms   look, ms")
    for row in rows:
        print(f"{row['model']:34} {row['reading_to_labels_ms']:21} {row['look_ms']:10}")
    if given.json:
        report = {"machine": machine(), "rounds": given.rounds, "rows": rows}
        given.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
