"""Colours of the tokens of images of growing size: memory must not grow with them.

The image is the sample of nuclei, repeated, at the model's own scale.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from dinomask.config import SegmentConfig
from dinomask.explain.pca import colour_tokens
from dinomask.explain.rasters import write_raster
from dinomask.image import open_image
from dinomask.run.predictor import Predictor
from explaining.cost import costs

SIDES_PX = (1024, 8192)
SAMPLE = Path(__file__).resolve().parents[2] / "sample_data" / "nuclei.tif"


def write_image(folder: Path, side_px: int) -> Path:
    """Write a zarr of the sample, side by side with itself."""
    sample = tifffile.imread(SAMPLE)
    side = sample.shape[0]
    path = folder / f"{side_px}.zarr"
    stored = zarr.create_array(
        path, shape=(side_px, side_px), chunks=(side, side), dtype=sample.dtype
    )
    for y in range(0, side_px, side):
        for x in range(0, side_px, side):
            stored[y : y + side, x : x + side] = np.rot90(sample, (y + 3 * x) // side)
    return path


def measure() -> list[dict[str, Any]]:
    """Colour each size, and write it as TIFF."""
    # 32 px is the size the model wants, so that pixels are model pixels
    config = SegmentConfig(diameter_px=32.0, device="cpu", threads=1)
    predictor = Predictor.load(config)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for side_px in SIDES_PX:
            image = open_image(write_image(Path(name), side_px), axes="yx")
            with costs() as cost:
                found = colour_tokens(image, config, predictor=predictor, scratch=Path(name))
                write_raster(found.raster(), Path(name) / "p.tif")
            rows.append(
                {
                    "image": f"{side_px} x {side_px}",
                    "tokens": found.rgb_yxc.shape[0] * found.rgb_yxc.shape[1],
                    "s": round(cost.seconds, 1),
                    "CPU s": round(cost.cpu_s, 1),
                    "MB at start": round(cost.start_mb),
                    "MB at most": round(cost.peak_mb),
                }
            )
    return rows
