"""Draw what a model finds on one validation image of each modality.

    python benchmarks/model_figures.py DATA... [--split val] [--model tiny] [--out docs/images]

The image shown is the one whose AP@0.5 is the median of its modality's, so neither
the best nor the worst; a part of it is cut out. Left the image, right the truth in
white and what was found in colour. Also writes the figures under the pictures, as JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import imageio.v3 as imageio
import numpy as np
import torch
from skimage.segmentation import find_boundaries

from dinomask.config import SegmentConfig
from dinomask.image import open_image
from dinomask.image.normalise import fit_normaliser
from dinomask.measure.matching import average_precision
from dinomask.nets.zoo import write_atomically
from dinomask.run.overlay import hues
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from dinomask.tiles.render import render_image
from dinomask.train.datasets import Sample, find_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

SIDE_PX = 300
"""Side of a panel; the cut-out shows 12 median objects across."""


def median_sample(samples: Sequence[Sample], predictor: Predictor, config: SegmentConfig) -> dict:
    """Segment all samples of a modality and return the one of median AP@0.5."""
    rows = []
    for sample in samples:
        _, truth, _ = sample.read()
        stitched = segment(open_image(sample.image), config=config, predictor=predictor).stitched
        found, _ = render_image(stitched, truth.shape)
        ap = float(average_precision(truth, found, [0.5])[0])
        rows.append({"sample": sample, "truth": truth, "found": found, "ap50": ap})
    rows.sort(key=lambda row: row["ap50"])
    return rows[(len(rows) - 1) // 2]


def draw(row: dict) -> np.ndarray:
    """Return the two panels, shape (SIDE_PX, 2 · SIDE_PX + 8, 3), uint8."""
    image = open_image(row["sample"].image)
    pixels, truth, _ = row["sample"].read()
    areas = np.bincount(truth.ravel())[1:]
    diameter = 2 * np.sqrt(np.median(areas[areas > 0]) / np.pi)
    side = int(np.clip(12 * diameter, 64, min(truth.shape)))
    # where most objects are
    busy = (truth > 0).astype(float).cumsum(0).cumsum(1)
    starts = [
        (y, x)
        for y in range(0, truth.shape[0] - side + 1, max(1, side // 4))
        for x in range(0, truth.shape[1] - side + 1, max(1, side // 4))
    ]
    y, x = max(
        starts,
        key=lambda s: (
            busy[s[0] + side - 1, s[1] + side - 1]
            - busy[s[0], s[1] + side - 1]
            - busy[s[0] + side - 1, s[1]]
            + busy[s]
        ),
    )
    window = (slice(y, y + side), slice(x, x + side))
    index = np.minimum(((np.arange(SIDE_PX) + 0.5) * side / SIDE_PX).astype(int), side - 1)
    shown = np.clip(fit_normaliser(image).apply(pixels[(slice(None), *window)]), 0, 1)
    shown = np.moveaxis(shown, 0, 2)[index[:, None], index]
    outlined = shown.copy()
    real, found = (labels[window][index[:, None], index] for labels in (row["truth"], row["found"]))
    outlined[find_boundaries(real, mode="inner")] = 1.0
    edge = find_boundaries(found, mode="inner")
    outlined[edge] = hues(int(row["found"].max(initial=0)))[found][edge]
    gap = np.ones((SIDE_PX, 8, 3))
    return np.round(np.concatenate([shown, gap, outlined], 1) * 255).astype(np.uint8)


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = SegmentConfig(model=arguments.model, threads=1)
    predictor = Predictor.load(config)
    samples = find_samples(arguments.data, arguments.split)
    figures = {}
    for modality in sorted({sample.modality for sample in samples}):
        row = median_sample(
            [sample for sample in samples if sample.modality == modality], predictor, config
        )
        payload = imageio.imwrite("<bytes>", draw(row), extension=".png")
        write_atomically(arguments.out / f"model_{modality}.png", payload)
        figures[modality] = {"image": row["sample"].name, "ap50": round(row["ap50"], 3)}
        print(f"{modality:22} {row['sample'].name:14} AP@0.5 {row['ap50']:.3f}", flush=True)
    text = json.dumps(
        {"model_hash": predictor.manifest.weights_sha256, "images": figures}, indent=2
    )
    write_atomically(arguments.out / "model_figures.json", (text + "\n").encode())


if __name__ == "__main__":
    main()
