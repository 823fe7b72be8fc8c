"""A small random model that is built by name, and images to compress it with."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import tifffile
import torch

from dinomask.config import (
    ChannelPruneSettings,
    CompressConfig,
    DistilSettings,
    ModelConfig,
    NetworkShape,
    QatSettings,
    TokenMergeSettings,
)
from dinomask.nets.catalogue import Manifest
from dinomask.nets.centermask import CenterMask
from dinomask.nets.zoo import save_checkpoint
from tests.nets.small import small_config

if TYPE_CHECKING:
    from pathlib import Path

DEPTH = 4

CONFIG = dataclasses.replace(
    small_config(),
    backbone="dinomask_tiny_patch14_reg4",
    feature_blocks=(1, DEPTH - 1),
    shape=NetworkShape(heads=(3,) * DEPTH, hidden=(128,) * DEPTH),
)
"""The bundled model's backbone with a third of its blocks, narrow MLPs and heads."""

FAST = CompressConfig(
    images=2,
    tiles=4,
    threads=1,
    channel_prune=ChannelPruneSettings(ratio=0.5),
    token_merge=TokenMergeSettings(tokens=4),
    distil=DistilSettings(minutes=None, steps=3, batch=1, crop_px=112),
    qat=QatSettings(minutes=None, steps=2, batch=1, crop_px=112),
)


def compressible_model(config: ModelConfig = CONFIG, seed: int = 0) -> CenterMask:
    """Random weights, with scores high enough that something is found."""
    torch.manual_seed(seed)
    model = CenterMask(config).eval()
    with torch.no_grad():
        model.detector.classes.bias.fill_(0.0)
        model.mask_iou.hidden[-1].bias.fill_(0.5)
    return model


def save_model(folder: Path, model: CenterMask) -> Manifest:
    """Write a checkpoint."""
    manifest = Manifest(folder.name, model.config, score_threshold=0.05)
    return save_checkpoint(folder, model.state_dict(), manifest)


def write_images(folder: Path, image: Path, labels: Path, n: int = 2) -> Path:
    """Cut a labelled image into a data set of n images; return its folder."""
    pixels, ids = tifffile.imread(image), tifffile.imread(labels)
    for i in range(n):
        rows = slice(160 * i, 160 * (i + 1))
        for kind, plane in (("images", pixels), ("labels", ids)):
            path = folder / kind / f"part_{i}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, np.ascontiguousarray(plane[rows, :160]))
    return folder
