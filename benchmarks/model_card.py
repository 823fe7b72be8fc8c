"""Measure a checkpoint on validation images and write its card and metrics.

    python benchmarks/model_card.py CHECKPOINT DATA... [--split val] [--choose-threshold]

Prints a table, stores the figures in the checkpoint's manifest and writes
MODEL_CARD.md beside it. With --choose-threshold the score threshold that gives
the best mean of AP@0.5 and AP@0.75, every modality counting the same, is stored as the
model's own: users' images are not mixed as the validation images are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console

from dinomask.config import DetectConfig, SegmentConfig
from dinomask.image import open_image
from dinomask.measure.matching import average_precision
from dinomask.nets.zoo import MANIFEST_FILE, Manifest, read_manifest, write_atomically
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from dinomask.terminal import ProgressBar, accuracy_table, print_table
from dinomask.tiles.render import render_image
from dinomask.train.datasets import Sample, find_samples
from dinomask.train.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

THRESHOLDS = tuple(round(0.2 + 0.05 * i, 2) for i in range(10))

COLUMNS = {
    "images": "images",
    "objects": "objects",
    "ap50": "AP@0.5",
    "ap75": "AP@0.75",
    "ap90": "AP@0.9",
    "ap50_95": "AP@0.5:0.95",
    "seg": "SEG",
    "coco_ap": "COCO AP",
    "size_within_25pct": "size ±25 %",
}

CARD = """# {name}

{what}

| | |
|---|---|
| architecture | {architecture} |
| parameters | {parameters:.1f} M, half precision |
| trained on | {data} |
| training | {training} |
| to repeat it | {recipe} (a time budget: another machine takes another number of steps) |
| licence of the weights | {licence} |
| score threshold | {threshold} |
| weights | sha256 `{sha256}` |

## Measured

`{command}`; object size estimated (`--diameter auto`), mean over images, one CPU thread.

{table}

The score threshold was chosen on these images, so read the figures as slightly optimistic.

## What it has not seen

It knows nuclei in fluorescence, in stained tissue and in brightfield cytology, and adherent cells
in phase contrast, the latter from {n_phase} images only. Whole cells in fluorescence, bacteria,
yeast, tissue in three dimensions, electron microscopy and objects of hundreds of pixels may need
training: `dinomask train YOUR_DATA --init {name} --out my_model --minutes 30`.
Thin, long, touching cells are its weakest kind.
"""


def choose_threshold(samples: Sequence[Sample], model: str) -> float:
    """Return the threshold with the best mean of AP@0.5 and AP@0.75 over modalities.

    Instances are suppressed by better ones only, so one run at the lowest
    threshold gives the results at all the higher ones.
    """
    config = SegmentConfig(
        model=model, threads=1, detect=DetectConfig(score_threshold=THRESHOLDS[0])
    )
    predictor = Predictor.load(config)
    figures = np.zeros((len(samples), len(THRESHOLDS)))
    for i, sample in enumerate(samples):
        _, labels, _ = sample.read()
        stitched = segment(open_image(sample.image), config=config, predictor=predictor).stitched
        for j, threshold in enumerate(THRESHOLDS):
            kept = stitched.instances.scores >= threshold
            drawn, _ = render_image(stitched.take(kept), labels.shape)
            figures[i, j] = np.mean(average_precision(labels, drawn, [0.5, 0.75]))
    modalities = np.array([sample.modality for sample in samples])
    means = np.mean([figures[modalities == m].mean(axis=0) for m in np.unique(modalities)], axis=0)
    for threshold, mean in zip(THRESHOLDS, means, strict=True):
        print(f"threshold {threshold:.2f}  mean of AP@0.5 and AP@0.75 {mean:.4f}")
    return float(THRESHOLDS[int(means.argmax())])


def accuracy_lines(report: dict) -> str:
    """Lay out an evaluation as a Markdown table, the mean last."""
    lines = ["| modality | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("|---" * (len(COLUMNS) + 1) + "|")
    for name, row in [*report["modalities"].items(), ("**mean**", report["mean"])]:
        values = [row[c] if isinstance(row[c], int) else f"{row[c]:.3f}" for c in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(map(str, values)) + " |")
    return "\n".join(lines)


def describe_parts(training: dict) -> str:
    """Tell how many steps a training took, and the one that it went on from."""
    counts = "{steps} steps, {crops} crops, {minutes} minutes".format(**training)
    if "from" in training:
        return f"{describe_parts(training['from'])}; from there {counts}"
    return f"from random weights {counts}"


def write_card(folder: Path, manifest: Manifest, report: dict, command: str) -> None:
    """Write MODEL_CARD.md from the manifest and an evaluation."""
    architecture = manifest.architecture
    model = Predictor.load(SegmentConfig(model=str(folder), threads=1)).model
    training = manifest.training
    threads = training["settings"]["threads"]
    text = CARD.format(
        name=manifest.name,
        what="The bundled model of DINOmask: instances of nuclei and cells in microscopy images.",
        architecture=f"{architecture.backbone} (ViT width 192, depth 12, patch 14, 4 registers,"
        " DINOv2 arrangement), detail stem, pyramid at strides 3.5 to 28, FCOS, SAG-Mask, MaskIoU",
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        data="; ".join(
            f"{d['name']} ({d['split']}, {d['images']} images; {d['licence']})"
            for d in manifest.trained_on
        ),
        training=f"{describe_parts(training)}; crops of {training['settings']['crop_px']} px,"
        f" {threads} CPU thread{'s' if threads != 1 else ''}",
        recipe="`make train-tiny`, see docs/model.md",
        licence=manifest.licence,
        threshold=manifest.score_threshold,
        sha256=manifest.weights_sha256,
        command=command,
        table=accuracy_lines(report),
        n_phase=next((d["images"] for d in manifest.trained_on if d["name"] == "usiigaci"), "0"),
    )
    write_atomically(folder / "MODEL_CARD.md", text.encode())


def main() -> None:
    """Measure, store, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--split", default="val")
    parser.add_argument("--licence", default="BSD-3-Clause")
    parser.add_argument("--choose-threshold", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.checkpoint
    samples = find_samples(arguments.data, arguments.split)
    manifest = dataclasses.replace(read_manifest(folder), licence=arguments.licence)
    if arguments.choose_threshold:
        threshold = choose_threshold(samples, str(folder))
        manifest = dataclasses.replace(manifest, score_threshold=threshold)
        store(folder, manifest)
    console = Console()
    with ProgressBar(Console(stderr=True)) as bar:
        report = evaluate(samples, SegmentConfig(model=str(folder), threads=1), on_progress=bar)
    print_table(console, accuracy_table(report))
    names = " ".join(p.name for p in arguments.data)
    command = f"python benchmarks/model_card.py CHECKPOINT {names} --split {arguments.split}"
    metrics = {"command": command, "mean": report["mean"], "modalities": report["modalities"]}
    manifest = dataclasses.replace(manifest, metrics=metrics)
    store(folder, manifest)
    write_card(folder, manifest, report, command)


def store(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest; the weights stay."""
    text = json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"
    write_atomically(folder / MANIFEST_FILE, text.encode())


if __name__ == "__main__":
    main()
