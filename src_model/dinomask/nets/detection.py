"""FCOS: an anchor-free detector.

Tian et al., "FCOS: Fully convolutional one-stage object detection",
arXiv 1904.01355, with the size ranges and sampling written out below.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from dinomask.instances import REFUTED, UNSUPERVISED
from dinomask.nets.processes import mean_over_processes
from dinomask.nets.pyramid import LEVEL_STRIDES_PX

SIZE_RANGES_PX = ((0.0, 56.0), (56.0, 112.0), (112.0, math.inf))
"""Largest side distance max(l, t, r, b) that each level is responsible for."""

PRIOR = 0.01
"""Probability of a class at any location before training."""

SAMPLING_RADIUS = 1.5
"""Locations within this many strides of an object's centre are positive."""

REFUTED_WEIGHT = 2.0
"""How much such a location counts, against 1 of other background."""


@dataclasses.dataclass(frozen=True)
class DensePredictions:
    """FCOS output of B tiles over all L locations of all levels.

    Attributes
    ----------
    class_logits : shape (B, L, C)
    distances_px : shape (B, L, 4); distances to the top, left, bottom, right
    centerness_logits : shape (B, L)
    locations_yx_px : shape (L, 2); centres of the cells
    strides_px : shape (L,)
    """

    class_logits: Tensor
    distances_px: Tensor
    centerness_logits: Tensor
    locations_yx_px: Tensor
    strides_px: Tensor

    def boxes_yxyx_px(self) -> Tensor:
        """Return the box of every location, shape (B, L, 4)."""
        low = self.locations_yx_px - self.distances_px[..., :2]
        high = self.locations_yx_px + self.distances_px[..., 2:]
        return torch.cat([low, high], dim=-1)

    def scores(self) -> Tensor:
        """Return √(class · centerness), shape (B, L, C)."""
        centerness = self.centerness_logits.sigmoid()[..., None]
        return (self.class_logits.sigmoid() * centerness).sqrt()


@dataclasses.dataclass(frozen=True)
class InstanceTargets:
    """What one training crop shows.

    Attributes
    ----------
    labels_yx : shape (H, W), int64; 0 background, 1..N objects, -1 not
        supervised (neither object nor background), -2 refuted (background that counts
        twice)
    boxes_yxyx_px : shape (N, 4), float32, half-open; row n is label n + 1
    classes : shape (N,), int64
    areas_px : shape (N,), float32
    image_class : shape (), int64; class of the whole image, None or -1 if unknown
    """

    labels_yx: Tensor
    boxes_yxyx_px: Tensor
    classes: Tensor
    areas_px: Tensor
    image_class: Tensor | None = None

    def to(self, device: torch.device | str) -> InstanceTargets:
        """Move everything to a device."""
        return InstanceTargets(
            self.labels_yx.to(device),
            self.boxes_yxyx_px.to(device),
            self.classes.to(device),
            self.areas_px.to(device),
            None if self.image_class is None else self.image_class.to(device),
        )


class FCOSHead(nn.Module):
    """Class, box and centerness at every location, shared by all levels.

    Distances are ``stride * softplus(scale * x)``: positive like the paper's
    ReLU, without its dead zone. Prior 0.01 for the classes.
    """

    def __init__(self, width: int, n_convs: int, n_classes: int) -> None:
        super().__init__()
        self.class_tower = self._tower(width, n_convs)
        self.box_tower = self._tower(width, n_convs)
        self.classes = nn.Conv2d(width, n_classes, 3, padding=1)
        self.box = nn.Conv2d(width, 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(LEVEL_STRIDES_PX)))
        # prior of the classes; a first guess of two strides to each side
        biases = (-math.log((1 - PRIOR) / PRIOR), 2.0, 0.0)
        layers = (self.classes, self.box, self.centerness)
        for layer, bias in zip(layers, biases, strict=True):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias)

    @staticmethod
    def _tower(width: int, n_convs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(n_convs):
            layers += [nn.Conv2d(width, width, 3, padding=1), LayerNorm2d(width), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, levels: tuple[Tensor, ...]) -> DensePredictions:
        """Predict from maps at strides 7, 14, 28 of shape (B, C, H / s, W / s)."""
        logits, distances, centerness, locations, strides = [], [], [], [], []
        for x, stride, scale in zip(levels, LEVEL_STRIDES_PX, self.scales, strict=True):
            box_features = self.box_tower(x)
            logits.append(_rows(self.classes(self.class_tower(x))))
            distances.append(_rows(F.softplus(self.box(box_features) * scale) * stride))
            centerness.append(_rows(self.centerness(box_features))[..., 0])
            grid = grid_locations(x.shape[-2], x.shape[-1], stride, x.device)
            locations.append(grid)
            strides.append(torch.full((len(grid),), stride, device=x.device))
        return DensePredictions(
            torch.cat(logits, 1).float(),
            torch.cat(distances, 1).float(),
            torch.cat(centerness, 1).float(),
            torch.cat(locations),
            torch.cat(strides),
        )


def _rows(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def grid_locations(height: int, width: int, stride_px: float, device: torch.device) -> Tensor:
    """Return the cell centres of a map, shape (height * width, 2), y then x."""
    y = (torch.arange(height, device=device) + 0.5) * stride_px
    x = (torch.arange(width, device=device) + 0.5) * stride_px
    return torch.cartesian_prod(y, x)


def assign(locations_yx_px: Tensor, strides_px: Tensor, target: InstanceTargets) -> Tensor:
    """Decide which object each location should find.

    A location is positive for an object if it lies in its box, within
    1.5 strides of the box's centre, and the object's size fits the level. Of
    an object that covers such locations only those on its own mask are kept,
    so that thin and curved neighbours don't claim each other. Where several
    objects claim a location, the smallest wins.

    Returns
    -------
    shape (L,), int64: row of the object, -1 for background, -2 for locations
        without supervision
    """
    label = _label_at(locations_yx_px, target)
    nothing = torch.where(label == UNSUPERVISED, -2, -1)
    if len(target.boxes_yxyx_px) == 0:
        return nothing
    boxes = target.boxes_yxyx_px
    sides = _side_distances(locations_yx_px[:, None], boxes[None])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    offset = (locations_yx_px[:, None] - centre[None]).abs().amax(-1)
    size = sides.amax(-1)
    low, high = _size_bounds(strides_px)
    claims = (
        (sides.amin(-1) > 0)
        & (offset < SAMPLING_RADIUS * strides_px[:, None])
        & (size >= low[:, None])
        & (size < high[:, None])
    )
    on_mask = claims & (label[:, None] == torch.arange(1, len(boxes) + 1, device=label.device))
    claims = torch.where(on_mask.any(0), on_mask, claims)
    area = torch.where(claims, target.areas_px[None], math.inf)
    best = area.argmin(1)
    assigned = torch.where(claims.any(1), best, nothing)
    # inside an object but not near its centre, a location stays background, as in the paper
    return assigned


def _label_at(locations_yx_px: Tensor, target: InstanceTargets) -> Tensor:
    y = locations_yx_px[:, 0].long().clamp(0, target.labels_yx.shape[0] - 1)
    x = locations_yx_px[:, 1].long().clamp(0, target.labels_yx.shape[1] - 1)
    return target.labels_yx[y, x]


def _side_distances(locations_yx: Tensor, boxes_yxyx: Tensor) -> Tensor:
    return torch.cat(
        [locations_yx - boxes_yxyx[..., :2], boxes_yxyx[..., 2:] - locations_yx], dim=-1
    )


def _size_bounds(strides_px: Tensor) -> tuple[Tensor, Tensor]:
    low, high = torch.zeros_like(strides_px), torch.zeros_like(strides_px)
    for stride, (smallest, largest) in zip(LEVEL_STRIDES_PX, SIZE_RANGES_PX, strict=True):
        low[strides_px == stride] = smallest
        high[strides_px == stride] = largest
    return low, high


def centerness_target(distances: Tensor) -> Tensor:
    """√(min(t, b) / max(t, b) · min(l, r) / max(l, r)), shape (N,) from (N, 4)."""
    vertical, horizontal = distances[:, 0::2], distances[:, 1::2]
    ratio = (vertical.amin(1) / vertical.amax(1)) * (horizontal.amin(1) / horizontal.amax(1))
    return ratio.clamp(min=0).sqrt()


def detection_losses(
    dense: DensePredictions, targets: list[InstanceTargets], class_weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Focal loss of classes, GIoU loss of boxes, cross-entropy of centerness.

    Classes are summed over supervised locations and divided by the number of
    positives, a mean over the processes of a distributed training; boxes are weighted
    by their centerness target.

    Parameters
    ----------
    dense : predictions of B tiles
    targets : B crops' truth
    class_weights : shape (C,); factor on the focal loss of the locations that
        should find an object of each class; background counts 1
    """
    assigned = torch.stack(
        [assign(dense.locations_yx_px, dense.strides_px, target) for target in targets]
    )
    positive = assigned >= 0
    n_positive = mean_over_processes(positive.sum()).clamp(min=1)
    one_hot = torch.zeros_like(dense.class_logits)
    boxes = torch.zeros_like(dense.distances_px)
    for b, target in enumerate(targets):
        where = positive[b].nonzero()[:, 0]
        rows = assigned[b, where]
        one_hot[b, where, target.classes[rows]] = 1.0
        boxes[b, where] = target.boxes_yxyx_px[rows]
    focal = sigmoid_focal_loss(dense.class_logits, one_hot, alpha=0.25, gamma=2.0)
    if class_weights is not None:
        focal = focal * torch.where(positive, one_hot @ class_weights, 1.0)[..., None]
    label = torch.stack([_label_at(dense.locations_yx_px, target) for target in targets])
    focal = focal * torch.where((label == REFUTED) & ~positive, REFUTED_WEIGHT, 1.0)[..., None]
    supervised = (assigned != -2)[..., None]
    locations = dense.locations_yx_px.expand(len(targets), -1, -1)[positive]
    goal = centerness_target(_side_distances(locations, boxes[positive]))
    giou = generalized_box_iou_loss(dense.boxes_yxyx_px()[positive], boxes[positive])
    centerness = F.binary_cross_entropy_with_logits(
        dense.centerness_logits[positive], goal, reduction="sum"
    )
    return {
        "class": (focal * supervised).sum() / n_positive,
        "box": (giou * goal).sum() / mean_over_processes(goal.sum()).clamp(min=1),
        "centerness": centerness / n_positive,
    }
