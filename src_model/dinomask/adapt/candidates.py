"""Boxes that a click may mean: the detector's own at each location, and plain ones.

FCOS (Tian et al., arXiv 1904.01355) regresses a box at every location, whether it
is sure of an object there or not. A click on a cell that was missed asks for the
boxes that hold the clicked point.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch
from torchvision.ops import batched_nms

if TYPE_CHECKING:
    from torch import Tensor

    from dinomask.nets.detection import DensePredictions

MAX_BOXES = 10
"""Boxes of the detector's own that go on to the mask head."""

SAME_IOU = 0.7
"""Of boxes that overlap more than this only the best goes on."""

PLAIN_SIZES = (0.5, 0.71, 1.0, 1.41, 2.0)
"""Sides of the plain boxes around the click, relative to the expected diameter. They serve
where the detector sees nothing, and offer other sizes where it sees one only."""

PLAIN_SCORE = 0.02
"""Score of a plain box of the expected diameter; the others' are lower by their ratio to it."""

EDGE_FIT = 0.1
"""Fit of a box at the very edge of which the click lies."""


@dataclasses.dataclass(frozen=True)
class Candidates:
    """N boxes that hold a point, best first.

    Attributes
    ----------
    boxes_yxyx_px : shape (N, 4), in model pixels
    scores : shape (N,); √(class · centerness), in [0, 1]
    fits : shape (N,); how well the point lies in the box, in [0, 1]
    classes : shape (N,), int64
    """

    boxes_yxyx_px: Tensor
    scores: Tensor
    fits: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.scores)


def click_fit(boxes_yxyx_px: Tensor, point_yx_px: Tensor) -> Tensor:
    """Tell how central a point is in boxes: FCOS's centerness of the point, shape (N,).

    √(min(t, b) / max(t, b) · min(l, r) / max(l, r)), raised to `EDGE_FIT` at the edge;
    0 outside a box.
    """
    low = point_yx_px - boxes_yxyx_px[:, :2]
    high = boxes_yxyx_px[:, 2:] - point_yx_px
    ratio = torch.minimum(low, high) / torch.maximum(low, high).clamp(min=1e-6)
    central = ratio.clamp(min=0).prod(1).sqrt()
    inside = (low > 0).all(1) & (high > 0).all(1)
    return torch.where(inside, EDGE_FIT + (1 - EDGE_FIT) * central, 0.0)


def candidates_at(
    dense: DensePredictions, point_yx_px: tuple[float, float], diameter_px: float
) -> Candidates:
    """Choose the boxes that a click at a point may mean.

    Boxes of all levels that hold the point, ranked by score · fit, doubles left
    out; then plain squares around the point, of which one has the expected diameter.

    Parameters
    ----------
    dense : predictions of one tile
    point_yx_px : in model pixels of the tile
    diameter_px : expected diameter of objects, in model pixels
    """
    boxes = dense.boxes_yxyx_px()[0].float()
    scores, classes = dense.scores()[0].float().max(1)
    point = boxes.new_tensor(point_yx_px)
    fits = click_fit(boxes, point)
    rank = scores * fits
    near = torch.topk(rank, min(50 * MAX_BOXES, len(rank))).indices
    near = near[fits[near] > 0]
    # one group: at one point, classes compete
    kept = batched_nms(boxes[near], rank[near], torch.zeros_like(near), SAME_IOU)
    best = near[kept[:MAX_BOXES]]
    plain = _plain_boxes(point, diameter_px)
    likely = classes[best[0]] if len(best) else classes.new_zeros(())
    ratio = boxes.new_tensor([min(s, 1 / s) for s in PLAIN_SIZES])
    return Candidates(
        torch.cat([boxes[best], plain]),
        torch.cat([scores[best], PLAIN_SCORE * ratio]),
        torch.cat([fits[best], torch.ones_like(ratio)]),
        torch.cat([classes[best], likely.expand(len(plain))]),
    )


def _plain_boxes(point: Tensor, diameter_px: float) -> Tensor:
    half = point.new_tensor(PLAIN_SIZES)[:, None] * diameter_px / 2
    return torch.cat([point - half, point + half], dim=1)


def distinct_sizes(areas_px: list[int], ratio: float) -> list[int]:
    """Choose, from best to worst, those whose size differs clearly from all chosen before.

    Parameters
    ----------
    areas_px : pixels of the masks, best first; those of 0 are left out
    ratio : of the areas of two that differ clearly, above 1
    """
    chosen: list[int] = []
    for i, area in enumerate(areas_px):
        if area > 0 and all(abs(math.log(area / areas_px[k])) >= math.log(ratio) for k in chosen):
            chosen.append(i)
    return chosen
