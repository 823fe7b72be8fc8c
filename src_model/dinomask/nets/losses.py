"""The training losses of a whole model, of what it answered to a batch of tiles."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from dinomask.nets.detection import DensePredictions, InstanceTargets, detection_losses
from dinomask.nets.proposals import roi_losses, sample_proposals, sample_true_boxes
from dinomask.nets.tasks import ClassWeights, check_classes, image_class_loss, semantic_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from dinomask.nets.centermask import CenterMask
    from dinomask.nets.pyramid import Pyramid

LOSS_NAMES = ("class", "box", "centerness", "mask", "mask_iou")
"""Losses of every model; further heads add theirs."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """In which boxes masks are learned, and what counts how much.

    Attributes
    ----------
    n_true : true boxes a crop, jittered, that train mask and MaskIoU
    n_proposals : own detections a crop that train MaskIoU, and the mask where they hit;
        false ones teach MaskIoU to answer 0, which lets it reject them
    class_weights : how much each class counts; None counts all alike
    chance : generators on the CPU that boxes are drawn from, one a crop, so that they don't
        depend on the crop's company; None makes them from torch's own
    """

    n_true: int
    n_proposals: int
    class_weights: ClassWeights | None = None
    chance: Sequence[torch.Generator] | None = None


def losses_of(
    model: CenterMask,
    pyramid: Pyramid,
    dense: DensePredictions,
    targets: list[InstanceTargets],
    size_px: tuple[int, int],
    sampling: Sampling,
) -> dict[str, Tensor]:
    """Compute all training losses of a batch of which pyramid and dense answers are known.

    Parameters
    ----------
    model : whose heads answer the rest
    pyramid, dense : of the tiles
    targets : B crops' truth
    size_px : height and width of a tile
    sampling : see the class

    Returns
    -------
    losses by name, see `CenterMask.loss_names`

    Raises
    ------
    DataError
        If an object or image is of a class that the model doesn't have.
    """
    check_classes(targets, model.config.n_classes, model.config.image_classes)
    weights = sampling.class_weights or ClassWeights()
    losses = detection_losses(dense, targets, weights.objects)
    chance = sampling.chance or [_generator() for _ in targets]
    rois = [sample_true_boxes(t, sampling.n_true, g) for t, g in zip(targets, chance, strict=True)]
    if sampling.n_proposals:
        proposals = sample_proposals(dense, targets, sampling.n_proposals, chance)
        rois = [a.joined(b) for a, b in zip(rois, proposals, strict=True)]
    predicted = model.masks(pyramid, [roi.boxes_yxyx_px for roi in rois])
    losses.update(roi_losses(*predicted, targets, rois))
    if model.semantic_head is not None:
        logits = model.semantic_head(pyramid, size_px)
        losses["semantic"] = semantic_loss(logits, targets, weights.pixels)
    if model.image_head is not None:
        logits = model.image_head(pyramid)
        losses["image_class"] = image_class_loss(logits, targets, weights.images)
    return losses


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))
