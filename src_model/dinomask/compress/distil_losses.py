"""How far a student's answers are from its teacher's: features, boxes and masks.

Features: Romero et al., "FitNets", arXiv 1412.6550, on every map that the heads read.
Boxes: the teacher's probabilities as soft targets of a quality focal loss (Li et al.,
arXiv 2006.04388); distances and centerness where the teacher sees something. Masks: in the
teacher's own boxes, with its probabilities as targets (Hinton et al., arXiv 1503.02531).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from dinomask.config import DetectConfig
from dinomask.nets.proposals import propose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.nets.centermask import CenterMask
    from dinomask.nets.detection import DensePredictions
    from dinomask.nets.pyramid import Pyramid

SEEN = 0.05
"""Locations that the teacher scores lower teach no boxes."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model makes of a batch of tiles.

    Attributes
    ----------
    maps : the backbone's
    pyramid, dense : what heads are computed from
    """

    maps: Sequence[Tensor]
    pyramid: Pyramid
    dense: DensePredictions

    @staticmethod
    def of(model: CenterMask, tiles: Tensor) -> Answer:
        """Let a model look at tiles of shape (B, 3, H, W)."""
        maps = model.backbone_maps(tiles)
        pyramid = model.features(tiles, maps)
        return Answer(maps, pyramid, model.dense(pyramid))

    @property
    def features(self) -> list[Tensor]:
        """The maps that heads read, fine to coarse."""
        return [self.pyramid.fine, *self.pyramid.levels]


class Projections(nn.ModuleList):
    """1×1 convolutions from a narrower student's maps to its teacher's channels.

    Maps of equal width are compared as they are.
    """

    def __init__(self, student: CenterMask, teacher: CenterMask) -> None:
        own, other = student.config, teacher.config
        pairs = [(own.detail_width, other.detail_width)]
        pairs += [(own.pyramid_width, other.pyramid_width)] * 3
        super().__init__(nn.Identity() if a == b else nn.Conv2d(a, b, 1) for a, b in pairs)


def feature_loss(student: Answer, teacher: Answer, projections: Projections) -> Tensor:
    """Mean squared error of each map relative to the teacher's variance, averaged.

    The backbone's own maps are compared too, where they have the same shapes.
    """
    pairs = [
        (project(own), other)
        for project, own, other in zip(projections, student.features, teacher.features, strict=True)
    ]
    if len(student.maps) == len(teacher.maps):
        both = zip(student.maps, teacher.maps, strict=True)
        pairs += [(own, other) for own, other in both if own.shape == other.shape]
    return torch.stack([_relative_error(own, other) for own, other in pairs]).mean()


def _relative_error(own: Tensor, other: Tensor) -> Tensor:
    own, other = own.float(), other.float()
    spread = (other - other.mean((0, 2, 3), keepdim=True)).square().mean()
    error: Tensor = (own - other).square().mean() / spread.clamp(min=1e-6)
    return error


def box_loss(student: DensePredictions, teacher: DensePredictions) -> Tensor:
    """Quality focal loss of classes, GIoU of boxes and cross-entropy of centerness."""
    soft = teacher.class_logits.sigmoid()
    apart = (student.class_logits.sigmoid() - soft).abs()
    entropy = F.binary_cross_entropy_with_logits(student.class_logits, soft, reduction="none")
    total = (apart.square() * entropy).sum() / soft.sum().clamp(min=1)
    weight = teacher.scores().amax(-1)
    seen = weight > SEEN
    if not seen.any():
        return total
    weight = weight[seen]
    giou = generalized_box_iou_loss(
        student.boxes_yxyx_px()[seen], teacher.boxes_yxyx_px()[seen], reduction="none"
    )
    centerness = F.binary_cross_entropy_with_logits(
        student.centerness_logits[seen], teacher.centerness_logits[seen].sigmoid(), reduction="none"
    )
    located: Tensor = ((giou + centerness) * weight).sum() / weight.sum()
    return total + located


def mask_loss(
    student: CenterMask, own: Answer, teacher: CenterMask, other: Answer, rois_per_image: int
) -> Tensor:
    """Cross-entropy and Dice of masks, and squared error of their predicted quality.

    In the teacher's best boxes of each tile.
    """
    config = DetectConfig(pre_nms=500, max_instances=rois_per_image, candidate_score=SEEN)
    boxes = [found[0] for found in propose(other.dense, config)]
    if not sum(map(len, boxes)):
        return own.dense.class_logits.new_zeros(())
    with torch.no_grad():
        _, logits, quality = teacher.masks(other.pyramid, boxes)
        soft = logits.sigmoid()
    _, answered, guessed = student.masks(own.pyramid, boxes)
    entropy = F.binary_cross_entropy_with_logits(answered, soft, reduction="none").mean((1, 2))
    mask = answered.sigmoid()
    overlap = 2 * (mask * soft).sum((1, 2)) + 1
    dice = 1 - overlap / (mask.square().sum((1, 2)) + soft.square().sum((1, 2)) + 1)
    return (entropy + 0.5 * dice).mean() + F.mse_loss(guessed, quality)
