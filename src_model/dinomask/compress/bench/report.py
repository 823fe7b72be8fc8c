"""The bench from start to end: measure, judge, recommend, in one report."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import psutil

import dinomask
from dinomask.compress.bench.figures import OTHER, collect
from dinomask.compress.bench.measure import Bench
from dinomask.compress.bench.verdict import add_verdicts, recommend
from dinomask.config import BenchConfig, SegmentConfig, as_dict
from dinomask.run.report import machine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dinomask.compress.bench.variant import Variant
    from dinomask.compress.material import Source
    from dinomask.run.progress import OnProgress

VARIANT_MB = 1700
"""Memory of a process with PyTorch, a backend and a variant of a model that looks at tiles of
560 px. With less than it takes, all of them wait for pages of their libraries."""

MEMORY_SHARE = 0.6
"""Part of the machine's memory that variants may take together."""


def bench(
    variants: Sequence[Variant],
    sources: Sequence[Source],
    folder: Path,
    config: BenchConfig | None = None,
    segment: SegmentConfig | None = None,
    *,
    other: Sequence[Source] = (),
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Compare variants of a model with the original on images.

    What was measured stays in `folder`: a bench that was stopped goes on with what is missing.

    Parameters
    ----------
    variants : the uncompressed model first
    sources : images; where they have labels, quality is judged against these, elsewhere
        against what the uncompressed model finds
    folder : of what is kept
    config : what to measure, and what to ask of a recommended variant
    segment : how every variant segments; model, adapter and precision are its own
    other : images of another domain, to see what generalisation is lost
    on_progress : called after each step and while waiting; raising `CancelledError` stops

    Returns
    -------
    report with a row of figures for each variant (``variants``, the original first), what
    failed, and the recommendation

    Raises
    ------
    DinomaskError
        If the uncompressed model can't be measured.
    OutputError
        If the folder can't be written.
    """
    config, segment = config or BenchConfig(), segment or SegmentConfig()
    away = [dataclasses.replace(source, kind=OTHER + source.kind) for source in other]
    groups = parted(variants, config.variants_at_once or most_at_once())
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for number, group in enumerate(groups):
        place = folder / f"group-{number + 1}" if len(groups) > 1 else folder
        measured = Bench(group, [*sources, *away], config, segment, place, on_progress)
        with contextlib.ExitStack() as stack:
            measured.run(stack)
        # ratios are to the original of the same group; it is told once
        rows += collect(measured, on_progress)[min(number, 1) :]
        failed |= measured.failed
    add_verdicts(rows, config)
    name, words = recommend(rows)
    return {
        "dinomask_version": dinomask.__version__,
        "machine": machine(),
        "settings": as_dict(config),
        "segment": as_dict(segment),
        "images": len(sources),
        "folder": str(folder),
        "variants": rows,
        "failed": failed,
        "groups": [[variant.name for variant in group] for group in groups],
        "recommended": name,
        "recommendation": words,
    }


def parted(variants: Sequence[Variant], most: int) -> list[list[Variant]]:
    """Part variants into groups of at most so many, each led by the original.

    Parameters
    ----------
    variants : the original first
    most : variants of a group, at least 2
    """
    original, *others = variants
    n = max(1, -(-len(others) // (most - 1)))
    return [
        [original, *others[i * len(others) // n : (i + 1) * len(others) // n]] for i in range(n)
    ]


def most_at_once() -> int:
    """Return how many variants this machine's memory holds, each in a process of its own."""
    total_mb = psutil.virtual_memory().total / 1e6
    return max(2, int(MEMORY_SHARE * total_mb / VARIANT_MB))
