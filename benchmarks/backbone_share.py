"""How much of a model's accuracy its backbone accounts for.

    python benchmarks/backbone_share.py DATA [DATA …] --split val [--images 20] [--json FILE]

Segments the same images with the model as it is, with the backbone's maps set to zero, with
their places shuffled, and with the detail stem left out of the detection levels. What is left
without the maps is the work of the detail stem, the pyramid and the heads; shuffled maps keep the
values and lose where they belong; without the stem the backbone alone finds the objects.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table
from tta import COLUMNS

from dinomask.config import SegmentConfig
from dinomask.nets.zoo import write_atomically
from dinomask.run.predictor import Predictor
from dinomask.run.report import header
from dinomask.terminal import ProgressBar, print_table
from dinomask.train.datasets import draw_evenly, find_samples
from dinomask.train.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.utils.hooks import RemovableHandle

    from dinomask.nets.centermask import CenterMask

    Change = Callable[[Tensor], Tensor]


def shuffled(maps: Tensor) -> Tensor:
    """Move every place of maps of shape (B, C, h, w) to another one, always the same."""
    n_places = maps.shape[-2] * maps.shape[-1]
    order = torch.randperm(n_places, generator=torch.Generator().manual_seed(0))
    return maps.flatten(2)[:, :, order.to(maps.device)].view_as(maps)


MAPS: dict[str, Change] = {
    "as they are": lambda maps: maps,
    "zero": torch.zeros_like,
    "shuffled": shuffled,
}
NO_STEM = "as they are, no stem"


def without_stem(_module: object, _given: object, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Leave the stem out of the detection levels, as a training does for some crops."""
    detail, fine, at_7, at_14 = maps
    return detail, fine, torch.zeros_like(at_7), torch.zeros_like(at_14)


def changed(model: CenterMask, name: str) -> RemovableHandle:
    """Change what the pyramid is given; returns what ends it."""
    if name == NO_STEM:
        return model.pyramid.stem.register_forward_hook(without_stem)
    change = MAPS[name]
    return model.backbone.register_forward_hook(
        lambda _module, _given, maps: [change(m) for m in maps]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, help="drawn evenly over the modalities; else all")
    parser.add_argument("--model", default=SegmentConfig.model)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    samples = find_samples(options.data, options.split)
    if options.images:
        samples = draw_evenly(samples, options.images, seed=0)
    config = SegmentConfig(model=options.model, threads=1)
    predictor = Predictor.load(config)
    results: dict[str, Any] = {}
    for name in (*MAPS, NO_STEM):
        hook = changed(predictor.model, name)
        with ProgressBar(Console(stderr=True)) as bar:
            results[name] = evaluate(samples, config, predictor=predictor, on_progress=bar)
        hook.remove()
    table = Table("backbone's maps", *COLUMNS.values(), title=f"{len(samples)} images")
    for name, report in results.items():
        table.add_row(name, *(f"{report['mean'][column]:.3f}" for column in COLUMNS))
    print_table(Console(), table)
    if options.json:
        kept = {k: {"mean": r["mean"], "modalities": r["modalities"]} for k, r in results.items()}
        text = json.dumps({**header(predictor), "images": len(samples), "backbone": kept}, indent=1)
        write_atomically(options.json, text.encode())


if __name__ == "__main__":
    main()
