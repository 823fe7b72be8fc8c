"""A network of two exported graphs, whatever library runs them.

The first graph looks at tiles, the second draws masks from what is pooled for each
RoI; choosing boxes lies between them and stays in Python (`dinomask.nets.network`).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol

import torch

from dinomask.errors import ModelError
from dinomask.nets.detection import DensePredictions, grid_locations
from dinomask.nets.masks import expand_boxes, pool_rois
from dinomask.nets.network import RoiMaps, draw_in_groups
from dinomask.nets.pyramid import DETAIL_STRIDE_PX, FINE_STRIDE_PX, LEVEL_STRIDES_PX

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from dinomask.config import ModelConfig

    Array = npt.NDArray[Any]

TILES = "tiles"
"""Input of the first graph: shape (B, 3, H, W), float32."""

FINE, DETAIL = "fine", "detail"
CLASSES, DISTANCES, CENTERNESS = "class_logits", "distances_px", "centerness_logits"
TOKENS = "tokens"
SEMANTIC, IMAGE_CLASS = "semantic_logits", "image_class_logits"
LOOK_OUTPUTS = (FINE, DETAIL, CLASSES, DISTANCES, CENTERNESS, TOKENS)
"""Outputs of the first graph; `SEMANTIC` and `IMAGE_CLASS` follow where the model has them."""

POOLED, POOLED_DETAIL = "pooled", "pooled_detail"
"""Inputs of the second graph: shapes (N, C', M / 2, M / 2) and (N, 16, M, M), float32."""

MASK_LOGITS, IOU = "mask_logits", "iou"
"""Outputs of the second graph: shapes (N, M, M) and (N, C)."""


class Graph(Protocol):
    """A function of named arrays that a library runs."""

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """Return the outputs by name; float32, not changed by later calls."""

    @property
    def side_step_px(self) -> int:
        """See `dinomask.nets.network.Network.side_step_px`."""

    def expect(self, shapes: dict[str, tuple[int, ...]], n_calls: int) -> None:
        """Prepare for many calls with inputs of these shapes, if that pays."""


class GraphNetwork:
    """Two graphs as a `dinomask.nets.network.Network`.

    Parameters
    ----------
    config : architecture of the model that was exported
    looks, draws : the two graphs
    device : where tiles come from and results go
    """

    def __init__(
        self, config: ModelConfig, looks: Graph, draws: Graph, device: torch.device
    ) -> None:
        self.config = config
        self._looks = looks
        self._draws = draws
        self._device = device

    @property
    def side_step_px(self) -> int:
        """See `dinomask.nets.network.Network.side_step_px`."""
        return self._looks.side_step_px

    def expect(self, shape: tuple[int, ...], n_batches: int) -> None:
        """See `dinomask.nets.network.Network.expect`."""
        self._looks.expect({TILES: shape}, n_batches)

    def look(self, tiles: Tensor) -> tuple[RoiMaps, DensePredictions]:
        """See `dinomask.nets.network.Network.look`."""
        found = self._run(tiles)
        locations, strides = _grid(tiles.shape[-2], tiles.shape[-1], self._device)
        dense = DensePredictions(
            found[CLASSES], found[DISTANCES], found[CENTERNESS], locations, strides
        )
        return RoiMaps(found[FINE], found[DETAIL]), dense

    def draw(self, maps: RoiMaps, boxes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """See `dinomask.nets.network.Network.draw`."""
        rois = [expand_boxes(b) for b in boxes]
        side, together = self.config.mask_px, torch.cat(rois)
        if not len(together):
            masks = together.new_zeros(0, side, side)
            return together, masks, together.new_zeros(0, self.config.n_classes)
        pooled = pool_rois(maps.fine, rois, FINE_STRIDE_PX, side // 2)
        detail = pool_rois(maps.detail, rois, DETAIL_STRIDE_PX, side)
        logits, iou = draw_in_groups(self._heads, pooled, detail)
        return together, logits, iou

    def semantic(self, tiles: Tensor) -> Tensor:
        """See `dinomask.nets.network.Network.semantic`."""
        return self._head(tiles, SEMANTIC).softmax(1)

    def image_class(self, tiles: Tensor) -> Tensor:
        """See `dinomask.nets.network.Network.image_class`."""
        return self._head(tiles, IMAGE_CLASS).softmax(1)

    def tokens(self, tiles: Tensor) -> Tensor:
        """See `dinomask.nets.network.Network.tokens`."""
        return self._run(tiles)[TOKENS]

    def _heads(self, pooled: Tensor, detail: Tensor) -> tuple[Tensor, Tensor]:
        found = self._draws(**{POOLED: _array(pooled), POOLED_DETAIL: _array(detail)})
        return self._tensor(found[MASK_LOGITS]), self._tensor(found[IOU])

    def _head(self, tiles: Tensor, name: str) -> Tensor:
        found = self._run(tiles)
        if name not in found:
            raise ModelError(
                expected="a model with classes of pixels or of images",
                got="one without a head for them",
                remedy="Train one with semantic_classes or image_classes in its architecture.",
            )
        return found[name]

    def _run(self, tiles: Tensor) -> dict[str, Tensor]:
        found = self._looks(**{TILES: _array(tiles)})
        return {name: self._tensor(value) for name, value in found.items()}

    def _tensor(self, value: Array) -> Tensor:
        return torch.from_numpy(value).to(self._device)


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().float().contiguous().cpu().numpy()
    return array


@functools.lru_cache(maxsize=16)
def _grid(height_px: int, width_px: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what `DensePredictions` says of the locations of tiles of this size."""
    grids = [
        grid_locations(_cells(height_px, stride), _cells(width_px, stride), stride, device)
        for stride in LEVEL_STRIDES_PX
    ]
    strides = [
        torch.full((len(grid),), stride, device=device)
        for grid, stride in zip(grids, LEVEL_STRIDES_PX, strict=True)
    ]
    return torch.cat(grids), torch.cat(strides)


def _cells(side_px: int, stride_px: float) -> int:
    # an odd number of patches leaves half a cell at stride 28, which a convolution drops
    return int(side_px // stride_px)
