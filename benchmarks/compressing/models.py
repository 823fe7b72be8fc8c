"""The models that are compressed: the bundled one, and one as large as a ViT-S."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from dinomask.config import ModelConfig
from dinomask.nets.catalogue import Manifest, find_model, read_manifest
from dinomask.nets.centermask import CenterMask
from dinomask.nets.zoo import load_model, save_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

LARGE = "vit_small_patch14_reg4_dinov2"


def write_large(folder: Path, heads_of: str) -> Path:
    """Write a model with a ViT-S of random weights, unless it is there.

    Heads and stem are another model's wherever their shapes are the same, so that there are
    objects to draw, as in use. Its speed and size can be compared; its accuracy is that of the
    stem and the heads.

    Parameters
    ----------
    folder : of the checkpoint
    heads_of : name of the other model

    Returns
    -------
    the folder
    """
    donor, about = load_model(heads_of)
    if folder.is_dir() and read_manifest(folder).training.get("heads") == about.weights_sha256:
        return folder
    torch.manual_seed(0)
    config = dataclasses.replace(ModelConfig(), backbone=LARGE)
    model = CenterMask(config)
    given = donor.state_dict()
    own = model.state_dict()
    own |= {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(own)
    manifest = Manifest(
        folder.name,
        config,
        score_threshold=about.score_threshold,
        training={"random": True, "heads": about.weights_sha256},
    )
    save_checkpoint(folder, model.state_dict(), manifest)
    return folder


def describe(name: str) -> dict[str, object]:
    """Return name, hash and backbone of a model, for the report."""
    manifest = read_manifest(find_model(name))
    return {
        "name": manifest.name,
        "sha256": manifest.weights_sha256,
        "backbone": manifest.architecture.backbone,
        "random": bool(manifest.training.get("random")),
    }
