"""UMAP of 20,000 objects, and placing as many new ones into the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dinomask.config import MapConfig
from dinomask.explain.embedding import fit_map
from dinomask.explain.objects import ObjectFeatures
from explaining.cost import costs

SIZES = (2_000, 20_000)
WIDTH = 192
KINDS = 8


def make_objects(n: int, seed: int) -> tuple[ObjectFeatures, Any]:
    """Draw objects of several kinds, as wide as the bundled model's features."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(KINDS, WIDTH)) * 1.5
    kind = rng.integers(0, KINDS, n)
    vectors = (centres[kind] + rng.normal(size=(n, WIDTH))).astype(np.float32)
    table = pd.DataFrame({"image": "made", "id": np.arange(1, n + 1)})
    return ObjectFeatures(table, {8: vectors}), kind


def measure() -> list[dict[str, Any]]:
    """Lay each number of objects out; the first pays for compiling, as any does."""
    rows = []
    for n in SIZES:
        features, kind = make_objects(n, 1)
        new, new_kind = make_objects(n, 2)
        with costs() as fitting:
            found = fit_map(features, MapConfig(method="umap"))
        with costs() as placing:
            placed = found.project(new)
        centres = np.stack([found.positions[kind == k].mean(axis=0) for k in range(KINDS)])
        nearest = np.linalg.norm(placed[:, None] - centres, axis=2).argmin(axis=1)
        rows.append(
            {
                "objects": n,
                "UMAP s": round(fitting.seconds, 1),
                "CPU s": round(fitting.cpu_s, 1),
                "MB of its process": round(fitting.child_mb),
                "placing as many s": round(placing.seconds, 1),
                "placed with their kind": round(float((nearest == new_kind).mean()), 3),
            }
        )
    return rows
