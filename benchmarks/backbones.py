"""Measure backbones side by side: parameters, time and memory of one tile, the pyramid left out.

    python benchmarks/backbones.py [NAME ...] [--all] [--windows 16] [--merge 10 25] [--json FILE]

Plain transformers appear again with attention within windows and with merged tokens. Weights are
random: they change neither time nor memory. Each time is the median of CPU seconds on one thread,
and each ratio the median over rounds in which the reference ran directly before, so that other
work on the machine weighs on both. Memory is the peak of what one forward pass without gradients
holds beside the weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

# the profiler would tell of each start
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from rich.console import Console
from rich.table import Table
from timm.models.vision_transformer import VisionTransformer

import dinomask
from dinomask.nets.backbone import TINY, create_backbone
from dinomask.nets.families import FAMILIES
from dinomask.nets.mixing import Mixing
from dinomask.nets.zoo import write_atomically
from dinomask.run.report import machine
from dinomask.terminal import print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dinomask.nets.features import Backbone

DEFAULT = (
    TINY,
    "vit_small_patch14_reg4_dinov2",
    "swin_tiny_patch4_window7_224",
    "convnext_atto",
    "resnet18",
    "mobilenetv4_conv_small",
)

DINOV2 = tuple(
    f"vit_{size}_patch14_{registers}dinov2"
    for size in ("small", "base", "large", "giant")
    for registers in ("", "reg4_")
)

COLUMNS = {
    "backbone": "backbone",
    "mixing": "attention",
    "parameters_m": "parameters, M",
    "weights_mb": "weights, MB",
    "forward_ms": "forward, ms",
    "ratio": "× reference",
    "peak_mb": "peak memory, MB",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of one network."""

    backbone: str
    mixing: str
    parameters_m: float
    weights_mb: float
    forward_ms: float
    ratio: float
    """Time relative to the reference, measured side by side."""
    peak_mb: float


def mixings(windows: Sequence[int], merges: Sequence[int]) -> dict[str, Mixing]:
    """Return what plain transformers are measured with, under the name for the table."""
    return (
        {"all": Mixing()}
        | {f"windows of {side}": Mixing(window_tokens=side) for side in windows}
        | {f"{r} merged a block": Mixing(merge_tokens=r) for r in merges}
    )


@torch.inference_mode()
def forward_s(backbone: Backbone, images: torch.Tensor) -> float:
    """Return the CPU seconds of one forward pass."""
    start_s = time.process_time()
    backbone(images)
    return time.process_time() - start_s


@torch.inference_mode()
def peak_mb(backbone: Backbone, images: torch.Tensor) -> float:
    """Return the most that tensors of a forward pass take at one time, in MB."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        backbone(images)
    results = profile.profiler.kineto_results  # type: ignore[union-attr]
    changes = [(e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda entry: entry[0]):
        held += change
        peak = max(peak, held)
    return peak / 1e6


def measure(
    name: str, variants: dict[str, Mixing], reference: Backbone, images: torch.Tensor, rounds: int
) -> Iterator[Row]:
    """Measure a network plain and, if it is a plain transformer, with each mixing."""
    backbone = create_backbone(name).eval()
    network = getattr(backbone, "vit", None) or backbone.get_submodule("network")
    if not isinstance(network, VisionTransformer):
        variants = {"its own": Mixing()}
    parameters = list(backbone.parameters())
    for title, mixing in variants.items():
        backbone.mixing = mixing  # type: ignore[assignment]
        forward_s(backbone, images)
        times = [(forward_s(reference, images), forward_s(backbone, images)) for _ in range(rounds)]
        yield Row(
            name,
            title,
            sum(p.numel() for p in parameters) / 1e6,
            sum(p.numel() * p.element_size() for p in parameters) / 1e6,
            1e3 * statistics.median(own for _, own in times),
            statistics.median(own / other for other, own in times),
            peak_mb(backbone, images),
        )


def table_of(rows: Sequence[Row]) -> Table:
    """Lay the rows out for the terminal."""
    table = Table(box=None)
    for column, title in COLUMNS.items():
        table.add_column(title, justify="left" if column in ("backbone", "mixing") else "right")
    for row in rows:
        digits = {"ratio": 2, "parameters_m": 1}
        values = [getattr(row, column) for column in COLUMNS]
        table.add_row(
            *(
                value if isinstance(value, str) else f"{value:.{digits.get(column, 0)}f}"
                for column, value in zip(COLUMNS, values, strict=True)
            )
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=DEFAULT)
    parser.add_argument("--all", action="store_true", help="every DINOv2, and one of each family")
    parser.add_argument("--reference", default=TINY)
    parser.add_argument("--tile", type=int, default=448, help="side in px, a multiple of 14")
    parser.add_argument("--windows", type=int, nargs="*", default=[16])
    parser.add_argument("--merge", type=int, nargs="*", default=[10, 25])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = [TINY, *DINOV2, *(f.example for f in FAMILIES)] if chosen.all else chosen.names
    images = torch.randn(1, 3, chosen.tile, chosen.tile)
    reference = create_backbone(chosen.reference).eval()
    forward_s(reference, images)
    variants = mixings(chosen.windows, chosen.merge)
    rows: list[Row] = []
    for name in dict.fromkeys(names):
        rows += measure(name, variants, reference, images, chosen.rounds)
    print_table(Console(), table_of(rows))
    if chosen.json:
        report = {
            "dinomask_version": dinomask.__version__,
            "machine": machine(),
            "tile_px": chosen.tile,
            "rounds": chosen.rounds,
            "reference": chosen.reference,
            "rows": [dataclasses.asdict(row) for row in rows],
        }
        write_atomically(chosen.json, (json.dumps(report, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
