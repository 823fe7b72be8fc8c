"""An image of any size that takes little space: the sample of nuclei, side by side."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import tifffile
import zarr

SAMPLE = Path(__file__).resolve().parents[1] / "sample_data" / "nuclei.tif"
SAMPLE_DIAMETER_PX = 26.0
CHUNK_PX = 512


def write_repeated(folder: Path, side_px: int, magnify: int) -> Path:
    """Write a square zarr of the sample repeated, each chunk once on disk."""
    period = np.kron(tifffile.imread(SAMPLE), np.ones((magnify, magnify), np.uint16))
    n_period, n_side = len(period) // CHUNK_PX, -(-side_px // CHUNK_PX)
    path = folder / f"nuclei_{side_px}_{magnify}.zarr"
    array = zarr.create_array(
        path,
        shape=(side_px, side_px),
        chunks=(CHUNK_PX, CHUNK_PX),
        dtype=period.dtype,
        dimension_names=("y", "x"),
    )
    n_first = min(n_period, n_side)
    first = period[: n_first * CHUNK_PX, : n_first * CHUNK_PX]
    array[: len(first), : len(first)] = first[:side_px, :side_px]
    for row, column in itertools.product(range(n_side), repeat=2):
        chunk = path / "c" / str(row) / str(column)
        if not chunk.exists():
            chunk.parent.mkdir(parents=True, exist_ok=True)
            os.link(path / "c" / str(row % n_period) / str(column % n_period), chunk)
    return path
