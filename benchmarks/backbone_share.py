"""How much of a model's accuracy its backbone accounts for.

    python benchmarks/backbone_share.py DATA [DATA …] --split val [--images 20] [--json FILE]

Segments the same images with the model as it is, with the backbone's maps set to zero, and with
their places shuffled. What is left without them is the work of the detail stem, the pyramid and
the heads; shuffled maps keep the values and lose where they belong.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table
from tta import COLUMNS, draw_evenly

from dinomask.config import SegmentConfig
from dinomask.nets.zoo import write_atomically
from dinomask.run.predictor import Predictor
from dinomask.run.report import header
from dinomask.terminal import ProgressBar, print_table
from dinomask.train.datasets import find_samples
from dinomask.train.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Change = Callable[[Tensor], Tensor]


def shuffled(maps: Tensor) -> Tensor:
    """Move every place of maps of shape (B, C, h, w) to another one, always the same."""
    n_places = maps.shape[-2] * maps.shape[-1]
    order = torch.randperm(n_places, generator=torch.Generator().manual_seed(0))
    return maps.flatten(2)[:, :, order.to(maps.device)].view_as(maps)


CHANGES: dict[str, Change] = {
    "as it is": lambda maps: maps,
    "zero": torch.zeros_like,
    "shuffled": shuffled,
}


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
    for name, change in CHANGES.items():
        hook = predictor.model.backbone.register_forward_hook(
            lambda _module, _given, maps, change=change: [change(m) for m in maps]
        )
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
