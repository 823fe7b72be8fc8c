"""Small models of two families, exported by every method, for the suite of the backends."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import tifffile
import torch

from dinomask.compress import onnx as onnx_methods
from dinomask.compress import openvino as openvino_methods
from dinomask.compress.onnx_files import write_onnx
from dinomask.config.compress import Int8Settings
from dinomask.nets.centermask import CenterMask
from dinomask.nets.precision import processor_abilities
from tests.compress.small import CONFIG, FAST, compressible_model
from tests.contracts.members import raise_residuals
from tests.nets.small import small_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

FLOAT = ("openvino", "onnx")
INT8 = ("int8-openvino", "int8-onnx", "int8-onnx-dynamic", "int8-dynamic")
FAMILIES = ("dinov2", "mobilenet")

HAS_VNNI = processor_abilities()["vnni"]
SATURATING = ("int8-onnx", "int8-onnx-dynamic", "int8-dynamic")
"""Not made on processors whose sums of 8-bit products overflow."""

TOLERANCE = {
    "openvino": 2e-3,
    "onnx": 1e-4,
    "compiled": 1e-4,
    # without VNNI weights take half of the range, so that sums don't overflow
    "int8-openvino": 0.1 if HAS_VNNI else 0.15,
    # rounds what convolutions give, too: left in floating point, its error halves
    "int8-onnx": 0.15,
    "int8-onnx-dynamic": 0.1,
    "int8-dynamic": 0.1,
}
"""Largest difference from eager float32, as a share of an output's norm. Random weights are
harder in 8 bits than trained ones."""

SAMPLE = Path(__file__).parents[2] / "sample_data" / "nuclei.tif"

SIDE = 112
"""The common tile's side here; graphs are compiled for it, and for any other."""

QUICK = dataclasses.replace(
    FAST,
    # what falls back and when has a test of its own
    int8_openvino=Int8Settings(least_agreement=0.01),
    int8_onnx=Int8Settings(least_agreement=0.01),
)


def convolutional_model() -> CenterMask:
    """A MobileNet with random weights, whose batch norms and scores are set to show something."""
    torch.manual_seed(1)
    config = dataclasses.replace(
        small_config(), backbone="mobilenetv3_small_050", semantic_classes=2, image_classes=3
    )
    model = CenterMask(config).eval()
    raise_residuals(model.backbone)
    with torch.no_grad():
        model.detector.classes.bias.fill_(0.0)
        model.mask_iou.hidden[-1].bias.fill_(0.5)
    return model


def model_of(family: str) -> CenterMask:
    return compressible_model(CONFIG) if family == "dinov2" else convolutional_model()


def export_once(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let methods share the exported files of a model, since exporting is what takes long."""

    def shared(model: CenterMask, manifest, out: Path) -> tuple[Path, Path]:
        kept = folder / manifest.weights_sha256
        if not kept.exists():
            kept.mkdir(parents=True)
            write_onnx(model, manifest, kept)
        copies = [out / file.name for file in sorted(kept.iterdir(), reverse=True)]
        for copy in copies:
            shutil.copy(kept / copy.name, copy)
        return copies[0], copies[1]

    for module in (onnx_methods, openvino_methods):
        patch.setattr(module, "write_onnx", shared)


def tiles(batch: int, height: int, width: int) -> torch.Tensor:
    """Cut tiles of the kind of image that 8 bits are calibrated on.

    On noise, which no calibration has seen, activations leave the range that was found: random
    convolutions in 8 bits are then three times as far off.
    """
    pixels = torch.from_numpy(tifffile.imread(SAMPLE).astype("float32"))
    pixels = pixels / pixels.quantile(0.998)
    generator = torch.Generator().manual_seed(height * width + batch)
    rows = torch.randint(pixels.shape[0] - height, (batch,), generator=generator)
    columns = torch.randint(pixels.shape[1] - width, (batch,), generator=generator)
    cut = [pixels[y : y + height, x : x + width] for y, x in zip(rows, columns, strict=True)]
    return torch.stack(cut)[:, None].clamp(max=1).repeat(1, 3, 1, 1)


def boxes(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 60
    return torch.cat([corner, corner + 12 + torch.rand(n, 2, generator=generator) * 30], 1)


def differences(parts: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Largest difference of pairs, as a share of the norm of each pair's second."""
    return max(float((a - b).norm() / b.norm().clamp(min=1e-6)) for a, b in parts)
