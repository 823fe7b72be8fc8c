"""The whole model, assembled in one place.

image → backbone → pyramid → FCOS boxes → SAG-Mask → MaskIoU → instances
                           → classes of pixels and of the image, where configured
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dinomask.config.model import SIDE_STEP_PX
from dinomask.errors import ModelError
from dinomask.nets.backbone import backbone_of
from dinomask.nets.detection import DensePredictions, FCOSHead, InstanceTargets
from dinomask.nets.losses import LOSS_NAMES, Sampling, losses_of
from dinomask.nets.masks import MaskHead, MaskIoUHead, expand_boxes
from dinomask.nets.network import Detections, RoiMaps, draw_in_groups, find_instances
from dinomask.nets.pyramid import FeaturePyramid, Pyramid
from dinomask.nets.reshape import finish_shape
from dinomask.nets.tasks import ImageClassHead, SemanticHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.config import DetectConfig, ModelConfig
    from dinomask.nets.features import Backbone


class CenterMask(nn.Module):
    """Backbone, feature pyramid, FCOS, SAG-Mask and MaskIoU.

    With `semantic_classes` or `image_classes` in the settings it also tells the
    class of every pixel, or of the whole tile, from the same features.

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
            config.stem_blocks,
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
        # last, and only if asked for: other models keep their names and random weights
        self.semantic_head = (
            SemanticHead(config.detail_width, config.semantic_classes)
            if config.semantic_classes
            else None
        )
        self.image_head = (
            ImageClassHead(config.pyramid_width, config.image_classes)
            if config.image_classes
            else None
        )
        finish_shape(self, config.shape)
        for name in ("mean", "std"):
            value = torch.tensor(getattr(self.backbone, name)).view(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def features(
        self,
        tiles: Tensor,
        maps: Sequence[Tensor] | None = None,
        stem_kept: Tensor | None = None,
    ) -> Pyramid:
        """Compute the pyramid of tiles of shape (B, 3, H, W).

        Parameters
        ----------
        tiles : see the class
        maps : what `backbone_maps` returned for them; None computes it
        stem_kept : see `dinomask.nets.pyramid.FeaturePyramid.forward`
        """
        normalised = (tiles - self.mean) / self.std
        maps = self.backbone(normalised) if maps is None else maps
        pyramid: Pyramid = self.pyramid(normalised, maps, stem_kept)
        return pyramid

    def backbone_maps(self, tiles: Tensor) -> list[Tensor]:
        """Compute the backbone's maps of tiles of shape (B, 3, H, W), fine to coarse."""
        return list(self.backbone((tiles - self.mean) / self.std))

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
        return self.draw(self._roi_maps(pyramid), boxes)

    @property
    def side_step_px(self) -> int:
        """See `dinomask.nets.network.Network.side_step_px`."""
        return SIDE_STEP_PX

    def expect(self, shape: tuple[int, ...], n_batches: int) -> None:
        """Do nothing: any shape is as good as another."""

    def look(self, tiles: Tensor) -> tuple[RoiMaps, DensePredictions]:
        """See `dinomask.nets.network.Network.look`."""
        pyramid = self.features(tiles)
        return self._roi_maps(pyramid), self.dense(pyramid)

    def draw(self, maps: RoiMaps, boxes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """See `dinomask.nets.network.Network.draw`."""
        rois = [expand_boxes(b) for b in boxes]
        pooled = self.mask.pool_fine(maps.fine, rois)
        detail = self.mask.pool_detail(maps.detail, rois)
        if torch.is_grad_enabled() or not len(pooled):
            logits, iou = self._heads(pooled, detail)
        else:
            logits, iou = draw_in_groups(self._heads, pooled, detail)
        return torch.cat(rois), logits.float(), iou.float()

    def tokens(self, tiles: Tensor) -> Tensor:
        """See `dinomask.nets.network.Network.tokens`."""
        return self.backbone_maps(tiles)[-1]

    def _heads(self, pooled: Tensor, detail: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.mask(pooled, detail)
        return logits, self.mask_iou(pooled, logits.detach())

    def _roi_maps(self, pyramid: Pyramid) -> RoiMaps:
        return RoiMaps(pyramid.fine, self.mask.detail(pyramid.detail))

    def detect(
        self, tiles: Tensor, config: DetectConfig, score_threshold: float
    ) -> list[Detections]:
        """Find the instances of each tile, see `dinomask.nets.network.find_instances`."""
        return find_instances(self, tiles, config, score_threshold)

    @torch.inference_mode()
    def semantic(self, tiles: Tensor) -> Tensor:
        """Predict the class of every pixel.

        Returns
        -------
        shape (B, S, H, W); probabilities, background first

        Raises
        ------
        ModelError
            If the model has no head for it.
        """
        if self.semantic_head is None:
            raise _no_head(setting="semantic_classes")
        logits: Tensor = self.semantic_head(self.features(tiles), _size_px(tiles))
        return logits.softmax(1)

    @torch.inference_mode()
    def image_class(self, tiles: Tensor) -> Tensor:
        """Predict the class of each tile as a whole.

        Returns
        -------
        shape (B, K); probabilities

        Raises
        ------
        ModelError
            If the model has no head for it.
        """
        if self.image_head is None:
            raise _no_head(setting="image_classes")
        logits: Tensor = self.image_head(self.features(tiles))
        return logits.softmax(1)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of what `losses` returns, in order."""
        extra = {"semantic": self.semantic_head, "image_class": self.image_head}
        return (*LOSS_NAMES, *(name for name, head in extra.items() if head is not None))

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the last parameters that every loss depends on.

        The layer that makes the level at stride 14: levels 7 and 28 and the
        masks' fine level are made of it. Gradients with respect to it cost a pass
        through the heads alone, not through the backbone.
        """
        return list(self.pyramid.out_14.parameters())

    def losses(
        self,
        tiles: Tensor,
        targets: list[InstanceTargets],
        sampling: Sampling,
        maps: Sequence[Tensor] | None = None,
        stem_kept: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute all training losses of a batch.

        Parameters
        ----------
        tiles : shape (B, 3, H, W)
        targets : B crops' truth
        sampling : in which boxes masks are learned, and what counts how much
        maps, stem_kept : as in `features`

        Raises
        ------
        DataError
            If an object or image is of a class that the model doesn't have.
        """
        pyramid = self.features(tiles, maps, stem_kept)
        dense = self.dense(pyramid)
        return losses_of(self, pyramid, dense, targets, _size_px(tiles), sampling)


def _size_px(tiles: Tensor) -> tuple[int, int]:
    return tiles.shape[-2], tiles.shape[-1]


def _no_head(*, setting: str) -> ModelError:
    return ModelError(
        expected=f"a model with {setting.replace('_', ' ')}",
        got="one without a head for them",
        remedy=f"Train one with {setting} in its architecture.",
    )
