"""From measurements to one row of figures a variant."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.compress.bench.quality import (
    ImageQuality,
    by_data_set,
    judge,
    list_changes,
    summarise,
)
from dinomask.nets.catalogue import find_model, read_manifest
from dinomask.run.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.compress.bench.measure import Bench
    from dinomask.compress.bench.variant import Variant
    from dinomask.run.progress import OnProgress

OTHER = "other domain: "
"""Begins the kind of images on which generalisation is judged."""


def collect(bench: Bench, on_progress: OnProgress | None = None) -> list[dict[str, Any]]:
    """Return a row of figures for each variant that was measured, the original first.

    Parameters
    ----------
    bench : whose measurements are complete
    on_progress : called after each image; may raise to stop
    """
    alive = [v for v in range(len(bench.variants)) if bench.variants[v].name not in bench.failed]
    judged = _judge_all(bench, alive, on_progress)
    rows = []
    for v in alive:
        variant = bench.variants[v]
        about = bench.units.get(f"about-{v}") or {}
        own = [image for image in judged[v] if not image.kind.startswith(OTHER)]
        other = [image for image in judged[v] if image.kind.startswith(OTHER)]
        rows.append(
            {
                "name": variant.name,
                "model": variant.model,
                "adapter": variant.adapter,
                "methods": list(variant.methods),
                "size_mb": about["size_bytes"] / 1e6,
                "target_diameter_px": _target_px(variant),
                **{k: about[k] for k in ("parameters", "macs", "load_s", "first_tile_s")},
                **_speed(bench, v),
                **_memory(bench, v, about),
                "quality": summarise(own),
                "ap50_by_data_set": by_data_set(own),
                "other_domain": _gap(own, other),
                "features": (bench.units.get(f"features-{v}") or {}).get("similarity"),
                "robustness": (bench.units.get(f"shaken-{v}") or {}).get("ap50"),
                "disagreements": [list_changes(image) for image in judged[v]] if v else [],
                "header": about["header"],
            }
        )
    return rows


def _judge_all(
    bench: Bench, alive: Sequence[int], on_progress: OnProgress | None
) -> dict[int, list[ImageQuality]]:
    judged: dict[int, list[ImageQuality]] = {v: [] for v in alive}
    started = time.monotonic()
    for i, source in enumerate(bench.sources):
        truth = None if source.sample is None else source.sample.read()[1]
        original = bench.units.labels(0, i)
        measured = bench.units.get(f"image-{i}") or {}
        for v in alive:
            scores = {int(k): s for k, s in measured[str(v)]["scores"].items()}
            found = bench.units.labels(v, i)
            judged[v].append(judge(source, truth, original, found, scores))
        if on_progress:
            done, seconds = i + 1, time.monotonic() - started
            on_progress(Progress("score", done, len(bench.sources), seconds))
    return judged


def _target_px(variant: Variant) -> float:
    """Return the diameter at which a variant is shown objects."""
    return read_manifest(find_model(variant.model)).architecture.target_diameter_px


def _speed(bench: Bench, v: int) -> dict[str, Any]:
    """Return times, and ratios to the original within the same turn."""
    clock = bench.config.clock
    rounds = [bench.units.get(f"round-{r}") or {} for r in range(bench.config.rounds)]
    images = [bench.units.get(f"image-{i}") or {} for i in range(len(bench.sources))]
    own, base = str(v), "0"
    network = [r[own]["network"][clock] for r in rounds]
    whole = [i[own]["seconds"][clock] for i in images]
    side = bench.segment.tiles.tile_px
    return {
        "network_ms": _spread([1e3 * s for s in network]),
        "tile_ms": _spread([1e3 * r[own]["tile"][clock] for r in rounds]),
        "image_s": _spread(whole),
        "network_px_per_s": side**2 / statistics.median(network),
        "px_per_s": sum(i[own]["n_px"] for i in images) / sum(whole),
        "network_speedup": statistics.median(
            r[base]["network"][clock] / r[own]["network"][clock] for r in rounds
        ),
        "speedup": statistics.median(
            i[base]["seconds"][clock] / i[own]["seconds"][clock] for i in images
        ),
        "clock": clock,
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "p95": float(np.percentile(values, 95))}


def _memory(bench: Bench, v: int, about: dict[str, Any]) -> dict[str, float]:
    """Return the peak of the process, and what of it is above the imported libraries."""
    images = [bench.units.get(f"image-{i}") or {} for i in range(len(bench.sources))]
    peak_mb = max(image[str(v)]["peak_mb"] for image in images)
    return {
        "peak_memory_mb": peak_mb,
        "model_memory_mb": max(0.0, peak_mb - about["libraries_mb"]),
    }


def _gap(own: Sequence[ImageQuality], other: Sequence[ImageQuality]) -> dict[str, Any] | None:
    """Return how well it does on images of another domain, and how much worse that is."""
    if not other:
        return None
    there = summarise(other)
    return {**there, "gap_ap50": summarise(own)["ap50"] - there["ap50"]}
