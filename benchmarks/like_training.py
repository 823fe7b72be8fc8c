"""What a model says of annotated images: whether they are like those of its training.

    python benchmarks/like_training.py DATA[:SPLIT] [DATA[:SPLIT] …] [--model tiny]
        [--diameter true|auto] [--threads 1] [--json FILE]

Prints a row for each modality of each data set: how many images count as like the training's, at
its edge and outside (`dinomask.explain.reference`). The size of the objects is the annotated one,
or that which a segmentation estimates.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dinomask.cli_options import check_report, write_report
from dinomask.config import SegmentConfig
from dinomask.errors import InputError, ModelError
from dinomask.explain.reference import read_reference, typicality
from dinomask.explain.seen import SeenImage
from dinomask.image.source import open_image
from dinomask.nets.catalogue import find_model
from dinomask.run.predictor import Predictor
from dinomask.run.progress import Progress
from dinomask.terminal import ProgressBar, print_table
from dinomask.train.datasets import find_samples, median_diameter_px

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.train.datasets import Sample

VERDICTS = {"inside": "like the training's", "edge": "at the edge", "outside": "outside"}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", help="folder of a data set; val unless :SPLIT follows")
    parser.add_argument("--model", default=SegmentConfig.model)
    parser.add_argument("--diameter", choices=("true", "auto"), default="true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def samples_of(place: str) -> Iterator[tuple[str, Sample]]:
    """Yield the samples of DATA:SPLIT, each with the name of its set and modality."""
    folder, _, split = place.partition(":")
    for sample in find_samples([Path(folder)], split or "val"):
        yield f"{Path(folder).name}, {sample.modality}", sample


def judge_all(options: argparse.Namespace) -> dict[str, collections.Counter[str]]:
    """Return how many images of each kind count as what."""
    config = SegmentConfig(model=options.model, threads=options.threads)
    predictor = Predictor.load(config)
    reference = read_reference(find_model(options.model), predictor.manifest.weights_sha256)
    if reference is None:
        raise ModelError(
            expected=f"a model with a reference of its training's images, got {options.model}",
            got="none that belongs to its weights",
            remedy=f"Make one: dinomask explain reference {options.model} DATA",
        )
    samples = [found for place in options.data for found in samples_of(place)]
    counted: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    with ProgressBar(Console(stderr=True)) as bar:
        for n, (kind, sample) in enumerate(samples):
            diameter = None
            if options.diameter == "true":
                diameter = median_diameter_px(sample.read_annotated().labels_yx)
            try:
                own = dataclasses.replace(config, diameter_px=diameter)
                seen = SeenImage.of(open_image(sample.image), own, predictor)
                counted[kind][typicality(reference, seen).verdict] += 1
            except InputError:
                # nothing in it tells a size
                counted[kind]["unknown"] += 1
            bar(Progress("looking", n + 1, len(samples), 0.0))
    return counted


def main() -> None:
    """Judge, print and write."""
    options = parse()
    check_report(options.json)
    counted = judge_all(options)
    table = Table("images", *VERDICTS.values(), "unknown", box=None)
    report: dict[str, Any] = {"model": options.model, "diameter": options.diameter, "counts": {}}
    for kind, counts in sorted(counted.items()):
        row = {key: counts[key] for key in (*VERDICTS, "unknown")}
        table.add_row(kind, *map(str, row.values()))
        report["counts"][kind] = row
    print_table(Console(), table)
    write_report(options.json, report)


if __name__ == "__main__":
    main()
