"""What segmenting and clicking need from a model, whatever runs it: the seam of the backends.

A network looks at tiles once, slowly, and then draws masks in boxes, quickly. What
lies between (which boxes, in which order, which doubles) is the same for all and
stays here in Python.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

from dinomask.nets.proposals import propose

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from dinomask.config import DetectConfig, ModelConfig
    from dinomask.nets.detection import DensePredictions

ROI_CHUNK = 256
"""RoIs whose features are pooled at once, to bound memory."""

GROUP, GROUP_STEP = 64, 8
"""RoIs that go through the mask head at once, and what their number is filled up to a multiple
of: kernels are made, and kept, for each size of a group that comes."""


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


@dataclasses.dataclass(frozen=True)
class RoiMaps:
    """Maps that masks are pooled from, of a batch of tiles.

    Attributes
    ----------
    fine : shape (B, C', H / 3.5, W / 3.5)
    detail : shape (B, 16, H / 2, W / 2), for contours
    """

    fine: Tensor
    detail: Tensor

    def of_tile(self, b: int) -> RoiMaps:
        """Return those of the b-th tile."""
        return RoiMaps(self.fine[b : b + 1], self.detail[b : b + 1])


class Network(Protocol):
    """A model that can be run; `CenterMask` is one, and so is what a backend loads.

    Tiles have shape (B, 3, H, W), values around 0 to 1, sides that are multiples of
    14, and lie on the network's device.
    """

    @property
    def config(self) -> ModelConfig:
        """The architecture."""

    @property
    def side_step_px(self) -> int:
        """What tiles' sides should be multiples of, itself a multiple of `SIDE_STEP_PX`.

        Others work too. It is larger where every further shape costs time once.
        """

    def expect(self, shape: tuple[int, ...], n_batches: int) -> None:
        """Prepare for many batches of tiles of one shape, if that pays.

        Results of a shape may differ in their last bits from those without.

        Parameters
        ----------
        shape : (B, 3, H, W)
        n_batches : how many will come
        """

    def look(self, tiles: Tensor) -> tuple[RoiMaps, DensePredictions]:
        """Compute what masks are pooled from, and class, box and centerness everywhere."""

    def draw(self, maps: RoiMaps, boxes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the masks in given boxes.

        Parameters
        ----------
        maps : of B tiles
        boxes : B tensors of shape (N_b, 4), y0 x0 y1 x1 in model pixels

        Returns
        -------
        rois_yxyx_px : shape (N, 4), all tiles in order
        mask_logits : shape (N, M, M)
        iou : shape (N, C), predicted IoU of each mask with the truth
        """

    def semantic(self, tiles: Tensor) -> Tensor:
        """Predict the class of every pixel: shape (B, S, H, W), background first.

        Raises
        ------
        ModelError
            If the model has no head for it.
        """

    def image_class(self, tiles: Tensor) -> Tensor:
        """Predict the class of each tile as a whole: shape (B, K).

        Raises
        ------
        ModelError
            If the model has no head for it.
        """

    def tokens(self, tiles: Tensor) -> Tensor:
        """Compute the backbone's deepest map: shape (B, D, h, w)."""


def draw_in_groups(
    heads: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], pooled: Tensor, detail: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw any number of masks in groups of few sizes.

    Parameters
    ----------
    heads : maps the features of a group to its mask logits and IoUs
    pooled, detail : what is pooled for each of N >= 1 RoIs

    Returns
    -------
    mask_logits, iou : see `Network.draw`
    """
    found = []
    for features, contours in zip(pooled.split(GROUP), detail.split(GROUP), strict=True):
        n = len(features)
        filling = (0, 0) * 3 + (0, -n % GROUP_STEP)
        logits, iou = heads(F.pad(features, filling), F.pad(contours, filling))
        found.append((logits[:n], iou[:n]))
    logits, iou = (torch.cat(parts) for parts in zip(*found, strict=True))
    return logits, iou


@torch.inference_mode()
def find_instances(
    network: Network, tiles: Tensor, config: DetectConfig, score_threshold: float
) -> list[Detections]:
    """Find the instances of each tile, duplicates of boxes removed.

    Parameters
    ----------
    network : what to run
    tiles : shape (B, 3, H, W)
    config : limits and thresholds
    score_threshold : lowest detection · MaskIoU that is kept
    """
    maps, dense = network.look(tiles)
    return [
        _of_tile(network, maps.of_tile(b), candidates, score_threshold)
        for b, candidates in enumerate(propose(dense, config, score_threshold))
    ]


def _of_tile(
    network: Network,
    maps: RoiMaps,
    candidates: tuple[Tensor, Tensor, Tensor],
    score_threshold: float,
) -> Detections:
    boxes, scores, classes = candidates
    parts = [network.draw(maps, [chunk]) for chunk in boxes.split(ROI_CHUNK)]
    rois, logits, iou = (torch.cat(p) for p in zip(*parts, strict=True))
    scores = scores * iou.gather(1, classes[:, None])[:, 0].clamp(0, 1)
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= score_threshold]
    return Detections(
        boxes[order], rois[order], scores[order], classes[order], logits[order].sigmoid()
    )
