"""Models small enough to be trained in a test."""

from __future__ import annotations

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer

from dinomask.config import ModelConfig
from dinomask.instances import Instances, paste_probability
from dinomask.nets.centermask import CenterMask
from dinomask.nets.detection import InstanceTargets
from dinomask.nets.features import ViTBackbone


def small_vit(
    *, grid: int = 4, registers: int = 4, width: int = 32, depth: int = 4
) -> VisionTransformer:
    """A ViT in the DINOv2 arrangement, with LayerScale high enough to matter."""
    return VisionTransformer(
        img_size=14 * grid,
        patch_size=14,
        embed_dim=width,
        depth=depth,
        num_heads=2,
        reg_tokens=registers,
        no_embed_class=registers > 0,
        init_values=0.3,
        num_classes=0,
        dynamic_img_size=True,
    )


def small_config(n_classes: int = 1) -> ModelConfig:
    """Narrow pyramid and heads."""
    return ModelConfig(
        n_classes=n_classes,
        pyramid_width=16,
        detail_width=16,
        head_convs=1,
        mask_width=16,
        mask_convs=1,
        iou_width=32,
    )


def small_model(n_classes: int = 1, seed: int = 0) -> CenterMask:
    """A whole model of 0.1 M parameters."""
    torch.manual_seed(seed)
    return CenterMask(small_config(n_classes), ViTBackbone(small_vit()))


def discs(
    centres_yx: list[tuple[float, float]], radius_px: float, side_px: int
) -> tuple[torch.Tensor, InstanceTargets]:
    """A tile (1, 3, side, side) of bright discs on grey, and its truth."""
    y, x = np.mgrid[:side_px, :side_px] + 0.5
    labels = np.zeros((side_px, side_px), np.int64)
    for i, (cy, cx) in enumerate(centres_yx):
        labels[(y - cy) ** 2 + (x - cx) ** 2 < radius_px**2] = i + 1
    return tile_of(labels), targets_of(labels)


def tile_of(labels_yx: np.ndarray) -> torch.Tensor:
    plane = np.where(labels_yx > 0, 0.8, 0.3).astype(np.float32)
    return torch.from_numpy(np.repeat(plane[None, None], 3, axis=1))


def targets_of(labels_yx: np.ndarray, classes: list[int] | None = None) -> InstanceTargets:
    """Measure labels 1..N of a label image; -1 is unsupervised."""
    n = int(labels_yx.max(initial=0))
    boxes, areas = [], []
    for label in range(1, n + 1):
        y, x = np.nonzero(labels_yx == label)
        boxes.append([y.min(), x.min(), y.max() + 1, x.max() + 1])
        areas.append(len(y))
    return InstanceTargets(
        torch.from_numpy(labels_yx.astype(np.int64)),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(classes if classes is not None else [0] * n, dtype=torch.int64),
        torch.tensor(areas, dtype=torch.float32),
    )


def masks_of(found: Instances, shape_yx: tuple[int, int]) -> list[np.ndarray]:
    """Draw each mask on a canvas of its own."""
    masks = []
    for mask, box in zip(found.masks, found.boxes_yxyx_px, strict=True):
        canvas = np.zeros(shape_yx, bool)
        probability, (y, x) = paste_probability(mask, box, (0, 0, *shape_yx))
        canvas[y : y + probability.shape[0], x : x + probability.shape[1]] = probability >= 0.5
        masks.append(canvas)
    return masks
