"""How good and how quick the model's answers to clicks are.

    python benchmarks/clicks.py DATA [DATA …] --split val --images 20 --json clicks.json

Segments annotated images as a user would, and clicks on the true cells that were
missed (no found object reaches IoU 0.5): at the pixel farthest from the cell's edge
("centre"), and at a random pixel of its inner half ("off centre"). Found objects that
are right keep their pixels; wrong ones count as deleted by the user before. A row each
gives the IoU of the proposal with the true cell, at the first answer and at the best of
the sizes one can scroll through. "any cell" clicks on some of all cells, as if nothing
had been found.

Times are by the clock, on one thread: making a tile ready, the first click, and
further ones on the same tile.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from skimage.measure import regionprops

from dinomask.adapt.events import Piece
from dinomask.adapt.prompt import Prompter, Proposal
from dinomask.config import SegmentConfig
from dinomask.errors import InputError
from dinomask.image import open_image
from dinomask.image.normalise import fit_normaliser
from dinomask.measure.matching import match
from dinomask.nets.zoo import write_atomically
from dinomask.run.predictor import Predictor
from dinomask.run.report import header
from dinomask.run.segment import segment
from dinomask.terminal import ProgressBar, print_table
from dinomask.train.datasets import Sample, draw_evenly, find_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.instances import Array
    from dinomask.tiles.plan import Box

SIZES = 3
"""Answers one scrolls through."""

ANY_CELLS = 8
"""Cells an image for "any cell", drawn at random."""

Point = tuple[float, float]


def click_points(mask_yx: Array, rng: np.random.Generator) -> dict[str, Point]:
    """Return where to click on a cell: farthest from its edge, and in its inner half."""
    depth = ndimage.distance_transform_edt(np.pad(mask_yx, 1))[1:-1, 1:-1]
    inner = np.argwhere(depth >= depth.max() / 2)
    centre = np.unravel_index(depth.argmax(), depth.shape)
    off = inner[rng.integers(len(inner))]
    return {
        "centre": (centre[0] + 0.5, centre[1] + 0.5),
        "off centre": (off[0] + 0.5, off[1] + 0.5),
    }


def iou_of(proposal: Proposal, truth_yx: Array) -> float:
    """Return the IoU of a proposal with the true pixels, shape of the image."""
    y0, x0, y1, x1 = proposal.window_yxyx_px
    overlap = int(np.count_nonzero(truth_yx[y0:y1, x0:x1] & proposal.mask_yx))
    union = int(np.count_nonzero(truth_yx)) + int(np.count_nonzero(proposal.mask_yx)) - overlap
    return overlap / union


class Clicker:
    """Clicks on one image, and notes IoU and time."""

    def __init__(self, prompter: Prompter) -> None:
        self.prompter = prompter
        self.ious: dict[str, list[tuple[float, float]]] = {}
        self.tile_ms: list[float] = []
        self.click_ms: list[float] = []

    def click(
        self,
        kind: str,
        point: Point,
        truth_yx: Array,
        labels_yx: Array,
        refuted: Sequence[Piece] = (),
    ) -> None:
        """Click once, and scroll through the sizes."""
        if not self.prompter.ready(point):
            self.tile_ms.append(_ms(lambda: self.prompter.prepare(point)))

        def read(window: Box) -> Array:
            y0, x0, y1, x1 = window
            return labels_yx[y0:y1, x0:x1]

        found = []
        for rank in range(SIZES):
            try:
                started = time.perf_counter()
                proposal = self.prompter.propose(point, rank, read, refuted)
                self.click_ms.append(1000 * (time.perf_counter() - started))
                found.append(iou_of(proposal, truth_yx))
            except InputError:
                found.append(0.0)
        self.ious.setdefault(kind, []).append((found[0], max(found)))


def _ms(work: Any) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def click_on(sample: Sample, predictor: Predictor, rng: np.random.Generator) -> Clicker | None:
    """Segment one image and click on what was missed; None if no object size was found."""
    _, truth, _ = sample.read()
    config = SegmentConfig(threads=1)
    image = open_image(sample.image)
    result = segment(image, config=config, predictor=predictor)
    if result.diameter_px is None or result.labels_yx is None:
        return None
    scale = predictor.target_diameter_px / result.diameter_px
    clicker = Clicker(Prompter(predictor, image, fit_normaliser(image), scale))
    matching = match(truth, result.labels_yx)
    hits = matching.iou >= 0.5
    right = matching.prediction_ids[matching.prediction_index[hits]]
    found = set(matching.reference_ids[matching.reference_index[hits]].tolist())
    others = np.where(np.isin(result.labels_yx, right), result.labels_yx, 0)
    wrong = [
        Piece(region.label, region.bbox[:2], region.image)
        for region in regionprops(result.labels_yx)
        if region.label not in right
    ]
    cells = {region.label: region for region in regionprops(np.maximum(truth, 0))}
    for label in [i for i in cells if i not in found]:
        mask_yx = truth == label
        for place, point in click_points(mask_yx, rng).items():
            clicker.click(f"missed, {place}", point, mask_yx, others, wrong)
    for label in rng.permutation(list(cells))[:ANY_CELLS].tolist():
        mask_yx = truth == label
        for place, point in click_points(mask_yx, rng).items():
            clicker.click(f"any cell, {place}", point, mask_yx, np.zeros_like(truth))
    return clicker


def summarise(clickers: list[Clicker]) -> dict[str, Any]:
    """Collect the figures of several images."""
    ious: dict[str, list[tuple[float, float]]] = {}
    for clicker in clickers:
        for kind, values in clicker.ious.items():
            ious.setdefault(kind, []).extend(values)
    tile_ms = [t for clicker in clickers for t in clicker.tile_ms]
    click_ms = [t for clicker in clickers for t in clicker.click_ms]
    rows = {}
    for kind in sorted(ious):
        first, best = np.array(ious[kind]).T
        rows[kind] = {
            "n": len(first),
            "median_iou": float(np.median(first)),
            "share_iou_50": float((first >= 0.5).mean()),
            "share_iou_70": float((first >= 0.7).mean()),
            "share_iou_50_best": float((best >= 0.5).mean()),
            "share_iou_70_best": float((best >= 0.7).mean()),
        }
    return {
        "clicks": rows,
        "tile_ms": {"median": float(np.median(tile_ms)), "n": len(tile_ms)},
        "click_ms": {
            "median": float(np.median(click_ms)),
            "p95": float(np.percentile(click_ms, 95)),
            "n": len(click_ms),
        },
    }


def show(figures: dict[str, dict[str, Any]]) -> Table:
    """Lay the figures out, a row each data set and kind of click."""
    heads = ("data", "click on", "n", "median IoU", "≥ 0.5", "≥ 0.7")
    table = Table(*heads, f"≥ 0.5 of {SIZES}", f"≥ 0.7 of {SIZES}", "ms a click", "ms a tile")
    for name, figure in figures.items():
        ms = f"{figure['click_ms']['median']:.0f} (p95 {figure['click_ms']['p95']:.0f})"
        for kind, row in figure["clicks"].items():
            shares = [f"{value:.2f}" for key, value in row.items() if key != "n"]
            tile_ms = f"{figure['tile_ms']['median']:.0f}"
            table.add_row(name, kind, str(row["n"]), *shares, ms, tile_ms)
    return table


def main() -> None:
    """Click on each data set, and print after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=20, help="a data set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=SegmentConfig.model)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    predictor = Predictor.load(SegmentConfig(model=arguments.model, device="cpu", threads=1))
    figures: dict[str, dict[str, Any]] = {}
    for folder in arguments.data:
        rng = np.random.default_rng(arguments.seed)
        samples = find_samples([folder], arguments.split)
        samples = draw_evenly(samples, arguments.images, arguments.seed)
        clickers = []
        with ProgressBar(Console(stderr=True)):
            for sample in samples:
                clicker = click_on(sample, predictor, rng)
                clickers += [clicker] if clicker and clicker.ious else []
        figures[folder.name] = summarise(clickers)
        print_table(Console(), show(figures))
        if arguments.json:
            report = {
                **header(predictor),
                "split": arguments.split,
                "seed": arguments.seed,
                "images": arguments.images,
                "data": figures,
            }
            write_atomically(arguments.json, (json.dumps(report, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
