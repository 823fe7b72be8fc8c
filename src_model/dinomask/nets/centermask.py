"""The whole model, assembled in one place.

image → backbone → pyramid → FCOS boxes → SAG-Mask → MaskIoU → instances
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou

from dinomask.config import DetectConfig, ModelConfig
from dinomask.nets.backbone import backbone_of
from dinomask.nets.detection import (
    DensePredictions,
    FCOSHead,
    InstanceTargets,
    detection_losses,
)
from dinomask.nets.masks import (
    MaskHead,
    MaskIoUHead,
    expand_boxes,
    iou_targets,
    mask_loss,
    mask_targets,
)
from dinomask.nets.pyramid import FeaturePyramid, Pyramid

if TYPE_CHECKING:
    from dinomask.nets.features import Backbone

ROI_CHUNK = 256
"""RoIs that go through the mask head at once, to bound memory."""

JITTER = 0.08
"""Spread of the corners of true boxes in training, relative to the box."""


@dataclasses.dataclass(frozen=True)
class Detections:
    """Objects of one tile, in model pixels, best score first.

    Attributes
    ----------
    boxes_yxyx_px : shape (N, 4); as the detector regressed them
    rois_yxyx_px : shape (N, 4); what the masks cover
    scores : shape (N,); detection · MaskIoU
    classes : shape (N,)
    masks : shape (N, M, M); probabilities
    """

    boxes_yxyx_px: Tensor
    rois_yxyx_px: Tensor
    scores: Tensor
    classes: Tensor
    masks: Tensor


class CenterMask(nn.Module):
    """Backbone, feature pyramid, FCOS, SAG-Mask and MaskIoU.

    Inputs are tiles of shape (B, 3, H, W) with values around 0 to 1 (from
    `dinomask.image.normalise`), H and W multiples of 14, in which objects have
    about the target diameter.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone or backbone_of(config)
        self.pyramid = FeaturePyramid(
            self.backbone.widths,
            self.backbone.strides_px,
            config.pyramid_width,
            config.detail_width,
        )
        self.detector = FCOSHead(config.pyramid_width, config.head_convs, config.n_classes)
        self.mask = MaskHead(
            config.detail_width, config.mask_width, config.mask_convs, config.mask_px
        )
        self.mask_iou = MaskIoUHead(
            config.detail_width,
            config.mask_width,
            config.mask_px,
            config.iou_width,
            config.n_classes,
        )
        for name in ("mean", "std"):
            value = torch.tensor(getattr(self.backbone, name)).view(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def features(self, tiles: Tensor) -> Pyramid:
        """Compute the pyramid of tiles of shape (B, 3, H, W)."""
        normalised = (tiles - self.mean) / self.std
        pyramid: Pyramid = self.pyramid(normalised, self.backbone(normalised))
        return pyramid

    def dense(self, pyramid: Pyramid) -> DensePredictions:
        """Predict class, box and centerness at every location."""
        dense: DensePredictions = self.detector(pyramid.levels)
        return dense

    def masks(self, pyramid: Pyramid, boxes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the masks in given boxes.

        Parameters
        ----------
        pyramid : of B tiles
        boxes : B tensors of shape (N_b, 4), y0 x0 y1 x1 in model pixels

        Returns
        -------
        rois_yxyx_px : shape (N, 4), all tiles in order
        mask_logits : shape (N, M, M)
        iou : shape (N, C), predicted IoU of each mask with the truth
        """
        rois = [expand_boxes(b) for b in boxes]
        pooled = self.mask.pool_fine(pyramid, rois)
        logits = self.mask(pooled, self.mask.pool_detail(pyramid, rois))
        return torch.cat(rois), logits.float(), self.mask_iou(pooled, logits.detach()).float()

    @torch.inference_mode()
    def detect(
        self, tiles: Tensor, config: DetectConfig, score_threshold: float
    ) -> list[Detections]:
        """Find the instances of each tile, duplicates of boxes removed.

        Parameters
        ----------
        tiles : shape (B, 3, H, W)
        config : limits and thresholds
        score_threshold : lowest detection · MaskIoU that is kept
        """
        pyramid = self.features(tiles)
        dense = self.dense(pyramid)
        return [
            self._detect_one(_select(pyramid, b), candidates, score_threshold)
            for b, candidates in enumerate(propose(dense, config, score_threshold))
        ]

    def _detect_one(
        self,
        pyramid: Pyramid,
        candidates: tuple[Tensor, Tensor, Tensor],
        score_threshold: float,
    ) -> Detections:
        boxes, scores, classes = candidates
        parts = [self.masks(pyramid, [chunk]) for chunk in boxes.split(ROI_CHUNK)]
        rois, logits, iou = (torch.cat(p) for p in zip(*parts, strict=True))
        scores = scores * iou.gather(1, classes[:, None])[:, 0].clamp(0, 1)
        order = scores.argsort(descending=True, stable=True)
        order = order[scores[order] >= score_threshold]
        return Detections(
            boxes[order], rois[order], scores[order], classes[order], logits[order].sigmoid()
        )

    def losses(
        self, tiles: Tensor, targets: list[InstanceTargets], n_true: int, n_proposals: int
    ) -> dict[str, Tensor]:
        """Compute all training losses of a batch.

        Parameters
        ----------
        tiles : shape (B, 3, H, W)
        targets : B crops' truth
        n_true : true boxes a crop, jittered, that train mask and MaskIoU
        n_proposals : own detections a crop that train MaskIoU, and the mask
            where they hit; false ones teach MaskIoU to answer 0, which lets it
            reject them
        """
        pyramid = self.features(tiles)
        dense = self.dense(pyramid)
        losses = detection_losses(dense, targets)
        rois = [sample_true_boxes(target, n_true) for target in targets]
        if n_proposals:
            proposals = sample_proposals(dense, targets, n_proposals)
            rois = [_join(a, b) for a, b in zip(rois, proposals, strict=True)]
        losses.update(self._mask_losses(pyramid, targets, rois))
        return losses

    def _mask_losses(
        self, pyramid: Pyramid, targets: list[InstanceTargets], rois: list[tuple[Tensor, Tensor]]
    ) -> dict[str, Tensor]:
        boxes, logits, iou = self.masks(pyramid, [box for box, _ in rois])
        counts = [len(box) for box, _ in rois]
        labels = torch.cat([label for _, label in rois])
        truth = torch.cat(
            [
                mask_targets(target.labels_yx, box, label, self.config.mask_px)
                for target, box, (_, label) in zip(
                    targets, boxes.detach().split(counts), rois, strict=True
                )
            ]
        )
        areas = torch.cat(
            [_lookup(t.areas_px, r[1], 0.0) for t, r in zip(targets, rois, strict=True)]
        )
        classes = torch.cat(
            [_lookup(t.classes, r[1], 0) for t, r in zip(targets, rois, strict=True)]
        )
        real = labels > 0
        goal = iou_targets(logits.detach(), truth, boxes.detach(), areas) * real
        predicted = iou.gather(1, classes[:, None])[:, 0]
        return {
            "mask": mask_loss(logits[real], truth[real]),
            "mask_iou": 0.5 * F.mse_loss(predicted, goal, reduction="sum") / max(len(goal), 1),
        }


def propose(
    dense: DensePredictions, config: DetectConfig, score_threshold: float = 0.0
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Select boxes of each tile: best of each level, then suppression by class.

    A score can only fall when MaskIoU is multiplied in, so nothing below the
    final threshold needs a mask.

    Returns
    -------
    for each tile: boxes (N, 4) in model pixels, scores (N,), classes (N,)
    """
    lowest = max(config.candidate_score, score_threshold)
    boxes_all, scores_all = dense.boxes_yxyx_px(), dense.scores()
    selected = []
    for boxes, scores in zip(boxes_all, scores_all, strict=True):
        keep = []
        for stride in dense.strides_px.unique():
            level = torch.where((dense.strides_px == stride)[:, None], scores, -1.0).flatten()
            top = level.topk(min(config.pre_nms, len(level)))
            keep.append(top.indices[top.values > lowest])
        flat = torch.cat(keep)
        rows, classes = flat // scores.shape[1], flat % scores.shape[1]
        chosen = boxes[rows]
        kept = batched_nms(chosen, scores.flatten()[flat], classes, config.nms_iou)
        kept = kept[: config.max_instances]
        selected.append((chosen[kept], scores.flatten()[flat][kept], classes[kept]))
    return selected


def sample_true_boxes(target: InstanceTargets, n: int) -> tuple[Tensor, Tensor]:
    """Draw up to n objects and jitter their boxes; return boxes (N, 4) and labels (N,)."""
    n_objects = len(target.boxes_yxyx_px)
    rows = torch.randperm(n_objects, device=target.boxes_yxyx_px.device)[:n]
    boxes = target.boxes_yxyx_px[rows]
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.randn_like(boxes).clamp(-2, 2) * JITTER
    return boxes + noise * size, rows + 1


@torch.no_grad()
def sample_proposals(
    dense: DensePredictions, targets: list[InstanceTargets], n: int
) -> list[tuple[Tensor, Tensor]]:
    """Draw the model's own boxes and the label each one hits (0: none).

    Boxes on unsupervised ground are passed over.
    """
    config = DetectConfig(pre_nms=300, max_instances=100, candidate_score=0.1)
    result = []
    for (boxes, _, _), target in zip(propose(dense, config), targets, strict=True):
        limit = boxes.new_tensor([target.labels_yx.shape[0], target.labels_yx.shape[1]]).repeat(2)
        centre = ((boxes[:, :2] + boxes[:, 2:]) / 2).clamp(min=0).minimum(limit[:2] - 1).long()
        boxes = boxes[target.labels_yx[centre[:, 0], centre[:, 1]] >= 0]
        boxes = boxes[torch.randperm(len(boxes), device=boxes.device)[:n]]
        labels = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        if len(target.boxes_yxyx_px) and len(boxes):
            overlap, row = box_iou(boxes, target.boxes_yxyx_px).max(1)
            labels = torch.where(overlap >= 0.4, row + 1, 0)
        result.append((boxes, labels))
    return result


def _select(pyramid: Pyramid, b: int) -> Pyramid:
    one = slice(b, b + 1)
    at_7, at_14, at_28 = (level[one] for level in pyramid.levels)
    return Pyramid(pyramid.detail[one], pyramid.fine[one], (at_7, at_14, at_28))


def _join(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])


def _lookup(values: Tensor, labels: Tensor, default: float) -> Tensor:
    if len(values) == 0:
        return torch.full_like(labels, int(default), dtype=values.dtype)
    return torch.where(labels > 0, values[(labels - 1).clamp(min=0)], default).to(values.dtype)
