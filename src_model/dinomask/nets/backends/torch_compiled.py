"""PyTorch, compiled for the tiles of large images: some faster, after a minute of warm-up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from dinomask.nets.backends.run_on import Running, choose_device
from dinomask.nets.backends.torch_eager import placed
from dinomask.nets.backends.torch_weights import build
from dinomask.nets.detection import DensePredictions
from dinomask.nets.masks import expand_boxes
from dinomask.nets.network import RoiMaps, draw_in_groups

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from dinomask.config import ModelConfig
    from dinomask.nets.backends.run_on import RunOn
    from dinomask.nets.catalogue import Manifest
    from dinomask.nets.centermask import CenterMask

COMPILED_FROM = 300_000_000
"""Values in all tiles of an image from which its shape is compiled for: a hundred megapixels,
a few minutes of a processor."""


def load(folder: Path, manifest: Manifest, wanted: RunOn) -> Running:
    """Load the weights; what is compiled is compiled when it is first used."""
    device = choose_device(wanted.device)
    torch.set_num_threads(wanted.threads)
    model = placed(build(folder, manifest), device)
    common = (wanted.batch, 3, wanted.tile_px, wanted.tile_px)
    return Running(CompiledNetwork(model, common), device, wanted.dtype(manifest, device))


class CompiledNetwork:
    """A model compiled by TorchInductor, see `dinomask.nets.network.Network`.

    Tiles of one shape are compiled for: that of the run, if many were expected, else the first
    one. Others are computed as usual, since each further shape would cost another warm-up.

    Parameters
    ----------
    model : in evaluation mode, on its device
    common : shape that is expected at first
    """

    def __init__(self, model: CenterMask, common: tuple[int, ...]) -> None:
        self._model = model
        self._first = self._common = common
        self._look = torch.compile(self._look_plain, dynamic=False)
        self._masks = torch.compile(self._masks_plain, dynamic=True)

    @property
    def config(self) -> ModelConfig:
        """See `dinomask.nets.network.Network.config`."""
        return self._model.config

    @property
    def side_step_px(self) -> int:
        """See `dinomask.nets.network.Network.side_step_px`."""
        return self._model.side_step_px

    def expect(self, shape: tuple[int, ...], n_batches: int) -> None:
        """Compile for this shape if so many come that it pays."""
        pays = n_batches * math.prod(shape) >= COMPILED_FROM
        self._common = shape if pays else self._first

    def look(self, tiles: Tensor) -> tuple[RoiMaps, DensePredictions]:
        """See `dinomask.nets.network.Network.look`."""
        if tuple(tiles.shape) != self._common:
            return self._model.look(tiles)
        fine, detail, *dense = self._look(tiles)
        return RoiMaps(fine, detail), DensePredictions(*dense)

    def draw(self, maps: RoiMaps, boxes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """See `dinomask.nets.network.Network.draw`."""
        rois = [expand_boxes(b) for b in boxes]
        together = torch.cat(rois)
        if not len(together):
            return self._model.draw(maps, boxes)
        mask = self._model.mask
        pooled, detail = mask.pool_fine(maps.fine, rois), mask.pool_detail(maps.detail, rois)
        logits, iou = draw_in_groups(self._masks, pooled, detail)
        return together, logits.float(), iou.float()

    def semantic(self, tiles: Tensor) -> Tensor:
        """See `dinomask.nets.network.Network.semantic`."""
        return self._model.semantic(tiles)

    def image_class(self, tiles: Tensor) -> Tensor:
        """See `dinomask.nets.network.Network.image_class`."""
        return self._model.image_class(tiles)

    def tokens(self, tiles: Tensor) -> Tensor:
        """See `dinomask.nets.network.Network.tokens`."""
        return self._model.tokens(tiles)

    def _look_plain(self, tiles: Tensor) -> tuple[Tensor, ...]:
        maps, dense = self._model.look(tiles)
        return (
            maps.fine,
            maps.detail,
            dense.class_logits,
            dense.distances_px,
            dense.centerness_logits,
            dense.locations_yx_px,
            dense.strides_px,
        )

    def _masks_plain(self, pooled: Tensor, detail: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._model.mask(pooled, detail)
        return logits, self._model.mask_iou(pooled, logits)
