"""Why there is no object at a place: which part of the model turned it down, in words.

The steps of a segmentation are repeated on the place's tile, and the first one that an
object there fails is named: the detector's score, suppression of boxes, MaskIoU, or the
removal of doubles.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torchvision.ops import box_iou

from dinomask.explain.proposed import Proposals, proposals_of
from dinomask.instances import Instances, paste_probability
from dinomask.nets.detection import centerness_target

if TYPE_CHECKING:
    from dinomask.config import DetectConfig
    from dinomask.explain.heads import TileHeads
    from dinomask.explain.seen import Point
    from dinomask.instances import Array

Cause = Literal["found", "blank", "score", "suppressed", "mask_iou", "double", "mask", "nothing"]

LEAST_FIT = 0.3
"""Boxes in which a place has a lower centerness are about something beside it."""

NOTHING = 0.02
"""Scores below this are the detector's answer to empty background."""

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Reason:
    """What became of the object at a place.

    Attributes
    ----------
    cause : the step that it failed; ``found`` if none
    sentence : the same in words
    score : of the detector, √(class · centerness), 0 to 1
    class_score, centerness : its factors
    mask_iou : how right MaskIoU expects the mask to be; None before that step
    threshold : lowest score that is reported
    box_yxyx_px : the box it is about, in image pixels; None if there is none
    """

    cause: Cause
    sentence: str
    score: float = 0.0
    class_score: float = 0.0
    centerness: float = 0.0
    mask_iou: float | None = None
    threshold: float = 0.0
    box_yxyx_px: Box | None = None


def why_missed(
    heads: TileHeads,
    point_yx_px: Point,
    config: DetectConfig,
    proposals: Proposals | None = None,
) -> Reason:
    """Say why no object was found at a place of a tile, or that one was.

    Parameters
    ----------
    heads : of the tile that owns the place
    point_yx_px : in image pixels
    config : limits and thresholds of the segmentation; without test-time augmentation
    proposals : of `proposals_of` with the same tile and settings; None computes them
    """
    threshold = heads.seen.predictor.score_threshold(config)
    proposals = proposals or proposals_of(heads, config)
    if proposals.is_blank:
        sentence = "This tile is too even to hold an object and was not shown to the network."
        return Reason("blank", sentence, threshold=threshold)
    at = heads.seen.to_model(heads.tile, point_yx_px)
    order = np.argsort(-proposals.found.scores, kind="stable").tolist()
    covering = [i for i in order if _holds(proposals.found, i, at)]
    for i in covering:
        if i in proposals.kept:
            score = float(proposals.found.scores[i])
            said = f"An object was found here, of score {score:.2f} (threshold {threshold:.2f})."
            return _about(heads, proposals, i, "found", said, threshold)
    if covering:
        return _rejected(heads, proposals, covering[0], threshold, config)
    return _undetected(heads, proposals, at, config, threshold)


def _holds(found: Instances, i: int, at: Point) -> bool:
    y, x = int(np.floor(at[0])), int(np.floor(at[1]))
    pixel, _ = paste_probability(found.masks[i], found.boxes_yxyx_px[i], (y, x, y + 1, x + 1))
    return bool(pixel.size and pixel.max() >= 0.5)


def _rejected(
    heads: TileHeads,
    proposals: Proposals,
    i: int,
    threshold: float,
    config: DetectConfig,
) -> Reason:
    """Say why a mask that holds the place is not among the results."""
    detector, quality = float(proposals.detector[i]), float(proposals.mask_iou[i])
    score = float(proposals.found.scores[i])
    if score < threshold:
        sentence = (
            f"The detector saw an object (score {detector:.2f}), but MaskIoU expects its mask to "
            f"be right to {quality:.2f} only: {detector:.2f} × {quality:.2f} = {score:.2f}, below "
            f"the threshold of {threshold:.2f}. The mask head rejected it."
        )
        return _about(heads, proposals, i, "mask_iou", sentence, threshold)
    iou, iomin, other = _nearest(proposals.found, i, proposals.kept)
    how = (
        f"share {iou:.0%} of their union (limit {config.duplicate_iou:.0%})"
        if iou > config.duplicate_iou
        else f"share {iomin:.0%} of the smaller one (limit {config.duplicate_iomin:.0%})"
    )
    y, x = heads.to_image(_middle(proposals.found.boxes_yxyx_px[other]))[0, :2]
    sentence = (
        f"An object of score {score:.2f} was dropped as a double of the one around y {y:.0f}, "
        f"x {x:.0f} with score {float(proposals.found.scores[other]):.2f}: their masks {how}."
    )
    return _about(heads, proposals, i, "double", sentence, threshold)


def _undetected(
    heads: TileHeads, proposals: Proposals, at: Point, config: DetectConfig, threshold: float
) -> Reason:
    """Say why no mask holds the place: from the detector's answer at all locations."""
    boxes = heads.dense.boxes_yxyx_px()[0]
    fit = _fit(boxes, at)
    best = int(torch.where(fit >= LEAST_FIT, heads.dense.scores()[0].amax(1), -1.0).argmax())
    answer = _answer(heads, best, threshold)
    score = answer.score
    if float(fit[best]) < LEAST_FIT or score < NOTHING:
        sentence = (
            "The detector sees nothing here that could be an object: its best score is "
            f"{score:.2f}, like that of background."
        )
        return dataclasses.replace(answer, cause="nothing", sentence=sentence, box_yxyx_px=None)
    if score <= max(threshold, config.candidate_score):
        weak = "class" if answer.class_score < answer.centerness else "centerness"
        sentence = (
            f"The detector's score of {score:.2f} is below the threshold of {threshold:.2f} "
            f"(class {answer.class_score:.2f}, centerness {answer.centerness:.2f}; it is the "
            f"{weak} that is low). The mask head never saw it."
        )
        return dataclasses.replace(answer, cause="score", sentence=sentence)
    overlap = box_iou(boxes[best : best + 1], proposals.boxes_yxyx_px)[0]
    other = int(overlap.argmax())
    if float(overlap[other]) <= config.nms_iou:
        sentence = f"One of more candidates in this tile than are looked at (score {score:.2f})."
        return dataclasses.replace(answer, cause="suppressed", sentence=sentence)
    if float(_fit(proposals.boxes_yxyx_px[other : other + 1], at)[0]) >= LEAST_FIT:
        sentence = (
            f"The detector found an object here (score {score:.2f}), but its mask leaves this "
            "place out."
        )
        return dataclasses.replace(answer, cause="mask", sentence=sentence)
    sentence = (
        f"A box of score {score:.2f} was suppressed by a neighbour's of score "
        f"{float(proposals.detector[other]):.2f}, which it overlaps to {float(overlap[other]):.0%} "
        f"(limit {config.nms_iou:.0%})."
    )
    return dataclasses.replace(answer, cause="suppressed", sentence=sentence)


def _answer(heads: TileHeads, location: int, threshold: float) -> Reason:
    """Return what the detector says at one location; cause and sentence are still open."""
    dense = heads.dense
    score, kind = dense.scores()[0, location].max(0)
    box = dense.boxes_yxyx_px()[0, location : location + 1]
    return Reason(
        "score",
        "",
        float(score),
        float(dense.class_logits[0, location, kind].sigmoid()),
        float(dense.centerness_logits[0, location].sigmoid()),
        threshold=threshold,
        box_yxyx_px=_box(heads.to_image(box)[0]),
    )


def _fit(boxes_yxyx_px: torch.Tensor, at: Point) -> torch.Tensor:
    """Return the centerness that a place has in boxes, 0 outside of them, shape (N,)."""
    y, x = at
    sides = torch.stack(
        [
            y - boxes_yxyx_px[:, 0],
            x - boxes_yxyx_px[:, 1],
            boxes_yxyx_px[:, 2] - y,
            boxes_yxyx_px[:, 3] - x,
        ],
        dim=1,
    )
    inside = sides.amin(1) > 0
    return torch.where(inside, centerness_target(sides.clamp(min=1e-6)), 0.0)


def _nearest(found: Instances, i: int, kept: frozenset[int]) -> tuple[float, float, int]:
    """Return IoU, share of the smaller mask, and number of the kept mask that one overlaps most."""
    best = (0.0, 0.0, next(iter(kept)))
    own, (top, left) = paste_probability(found.masks[i], found.boxes_yxyx_px[i])
    window = (top, left, top + own.shape[0], left + own.shape[1])
    area = int(np.count_nonzero(own >= 0.5))
    for k in kept:
        whole, _ = paste_probability(found.masks[k], found.boxes_yxyx_px[k])
        part, (y, x) = paste_probability(found.masks[k], found.boxes_yxyx_px[k], window)
        if not part.size:
            continue
        mine = own[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]] >= 0.5
        shared = int(np.count_nonzero(mine & (part >= 0.5)))
        other = int(np.count_nonzero(whole >= 0.5))
        iou, iomin = shared / max(area + other - shared, 1), shared / max(min(area, other), 1)
        if max(iou, iomin) > max(best[:2]):
            best = (iou, iomin, k)
    return best


def _about(
    heads: TileHeads,
    proposals: Proposals,
    i: int,
    cause: Cause,
    sentence: str,
    threshold: float,
) -> Reason:
    apart = (heads.dense.boxes_yxyx_px()[0] - proposals.boxes_yxyx_px[i]).abs().sum(1)
    # the location that regressed it
    answer = _answer(heads, int(apart.argmin()), threshold)
    quality = float(proposals.mask_iou[i])
    return dataclasses.replace(answer, cause=cause, sentence=sentence, mask_iou=quality)


def _middle(box_yxyx_px: Array) -> torch.Tensor:
    y, x = (box_yxyx_px[:2] + box_yxyx_px[2:]) / 2
    return torch.tensor([[y, x, y, x]])


def _box(values: Array) -> Box:
    y0, x0, y1, x1 = values.tolist()
    return y0, x0, y1, x1
