"""Boxes that reach the mask branch: the detector's own, or true ones; and what they teach it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torchvision.ops import batched_nms, box_iou

from dinomask.config import DetectConfig
from dinomask.instances import UNSUPERVISED
from dinomask.nets.masks import iou_targets, mask_loss, mask_targets
from dinomask.nets.processes import mean_over_processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from dinomask.nets.detection import DensePredictions, InstanceTargets

JITTER = 0.08
"""Spread of the corners of true boxes in training, relative to the box."""

HIT_IOU = 0.4
"""A proposal that overlaps an object's box at least this much shows the object."""


@dataclasses.dataclass(frozen=True)
class RoiSample:
    """Boxes of one crop to train the mask branch on.

    Attributes
    ----------
    boxes_yxyx_px : shape (N, 4)
    labels : shape (N,); the object each one shows, 0 for none
    classes : shape (N,); of the object, or what the detector took it for
    """

    boxes_yxyx_px: Tensor
    labels: Tensor
    classes: Tensor

    def joined(self, other: RoiSample) -> RoiSample:
        """Return these boxes and then the other ones."""
        fields = dataclasses.fields(self)
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in fields]
        return RoiSample(*(torch.cat(pair) for pair in pairs))


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


def sample_true_boxes(target: InstanceTargets, n: int, chance: torch.Generator) -> RoiSample:
    """Draw up to n objects and jitter their boxes; chance comes from a generator on the CPU."""
    device = target.boxes_yxyx_px.device
    rows = torch.randperm(len(target.boxes_yxyx_px), generator=chance)[:n].to(device)
    boxes = target.boxes_yxyx_px[rows]
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.randn(boxes.shape, generator=chance).to(device).clamp(-2, 2) * JITTER
    return RoiSample(boxes + noise * size, rows + 1, target.classes[rows])


@torch.no_grad()
def sample_proposals(
    dense: DensePredictions,
    targets: list[InstanceTargets],
    n: int,
    chance: Sequence[torch.Generator],
) -> list[RoiSample]:
    """Draw the model's own boxes, the label each one hits and the class it was found as.

    Boxes on unsupervised ground are passed over.
    """
    config = DetectConfig(pre_nms=300, max_instances=100, candidate_score=0.1)
    result = []
    found = zip(propose(dense, config), targets, chance, strict=True)
    for (boxes, _, classes), target, generator in found:
        limit = boxes.new_tensor([target.labels_yx.shape[0], target.labels_yx.shape[1]]).repeat(2)
        centre = ((boxes[:, :2] + boxes[:, 2:]) / 2).clamp(min=0).minimum(limit[:2] - 1).long()
        known = target.labels_yx[centre[:, 0], centre[:, 1]] != UNSUPERVISED
        rows = known.nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)[:n].to(rows.device)]
        boxes = boxes[rows]
        labels = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        if len(target.boxes_yxyx_px) and len(boxes):
            overlap, row = box_iou(boxes, target.boxes_yxyx_px).max(1)
            labels = torch.where(overlap >= HIT_IOU, row + 1, 0)
        result.append(RoiSample(boxes, labels, classes[rows]))
    return result


def roi_losses(
    rois_yxyx_px: Tensor,
    mask_logits: Tensor,
    iou: Tensor,
    targets: list[InstanceTargets],
    samples: list[RoiSample],
) -> dict[str, Tensor]:
    """Mask loss of the boxes that show an object, and MaskIoU loss of all.

    MaskIoU is taught for the class of each sample alone, as in the paper. Its
    goal is 0 where the detector found what is no object, or took it for another
    class: detection · MaskIoU then rejects both.

    Parameters
    ----------
    rois_yxyx_px, mask_logits, iou : N predictions of `CenterMask.masks`
    targets : B crops' truth
    samples : the B crops' boxes, N in all
    """
    labels = torch.cat([sample.labels for sample in samples])
    classes = torch.cat([sample.classes for sample in samples])
    rois = rois_yxyx_px.detach()
    mask_px = mask_logits.shape[-1]
    crops = zip(targets, rois.split([len(s.labels) for s in samples]), samples, strict=True)
    truth = torch.cat([mask_targets(t.labels_yx, r, s.labels, mask_px) for t, r, s in crops])
    pairs = list(zip(targets, samples, strict=True))
    areas = torch.cat([_lookup(t.areas_px, s.labels, 0.0) for t, s in pairs])
    true_classes = torch.cat([_lookup(t.classes, s.labels, -1) for t, s in pairs])
    real = labels > 0
    goal = iou_targets(mask_logits.detach(), truth, rois, areas) * (classes == true_classes)
    predicted = iou.gather(1, classes[:, None])[:, 0]
    counts = mean_over_processes(torch.stack([real.sum(), labels.new_tensor(len(goal))]))
    n_real, n_all = counts.clamp(min=1)
    return {
        "mask": mask_loss(mask_logits[real], truth[real]).sum() / n_real,
        "mask_iou": 0.5 * F.mse_loss(predicted, goal, reduction="sum") / n_all,
    }


def _lookup(values: Tensor, labels: Tensor, default: float) -> Tensor:
    if len(values) == 0:
        return torch.full_like(labels, int(default), dtype=values.dtype)
    return torch.where(labels > 0, values[(labels - 1).clamp(min=0)], default).to(values.dtype)
