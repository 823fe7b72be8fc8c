"""What reached the mask head in a tile, with nothing left out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from dinomask.instances import Instances
from dinomask.nets.duplicates import drop_duplicates
from dinomask.nets.network import ROI_CHUNK
from dinomask.nets.proposals import propose
from dinomask.run.blank import is_blank

if TYPE_CHECKING:
    from dinomask.config import DetectConfig
    from dinomask.explain.heads import TileHeads
    from dinomask.instances import Array


@dataclasses.dataclass(frozen=True)
class Proposals:
    """What reached the mask head in a tile, see `find_instances`, with nothing left out.

    Attributes
    ----------
    boxes_yxyx_px : shape (N, 4), model pixels
    detector, mask_iou : shape (N,)
    found : with final scores, in model pixels
    kept : the ones that a segmentation keeps
    is_blank : the tile is too even to be shown to the network
    """

    boxes_yxyx_px: torch.Tensor
    detector: Array
    mask_iou: Array
    found: Instances
    kept: frozenset[int]
    is_blank: bool = False


@torch.inference_mode()
def proposals_of(heads: TileHeads, config: DetectConfig) -> Proposals:
    """Repeat the steps of a segmentation on a tile; the slow part of `why_missed`."""
    seen = heads.seen
    threshold = seen.predictor.score_threshold(config)
    boxes, scores, classes = propose(heads.dense, config, threshold)[0]
    network = seen.predictor.network
    with seen.predictor.autocast():
        parts = [network.draw(heads.maps, [chunk]) for chunk in boxes.split(ROI_CHUNK)]
    rois, logits, iou = (torch.cat(part) for part in zip(*parts, strict=True))
    quality = iou.gather(1, classes[:, None])[:, 0].clamp(0, 1)
    found = Instances(
        np.asarray(rois.float().cpu()),
        np.asarray((scores * quality).float().cpu()),
        np.asarray(classes.to(torch.int32).cpu()),
        np.asarray((logits.sigmoid() * 255).round().to(torch.uint8).cpu()),
    )
    pixels = np.asarray(seen.read(heads.tile)[0].cpu())
    return Proposals(
        boxes,
        np.asarray(scores.float().cpu()),
        np.asarray(quality.float().cpu()),
        found,
        _kept(found, pixels.shape[1:], config, threshold),
        seen.plan.config.skip_blank and is_blank(seen.plan, heads.tile, pixels),
    )


def _kept(
    found: Instances, shape_yx: tuple[int, ...], config: DetectConfig, threshold: float
) -> frozenset[int]:
    """Return the instances that a segmentation keeps."""
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= threshold]
    # the class of each carries its number through the removal of doubles
    numbered = dataclasses.replace(found.take(order), classes=order.astype(np.int32))
    left = drop_duplicates(numbered, (shape_yx[0], shape_yx[1]), config)
    return frozenset(left.classes.tolist())
