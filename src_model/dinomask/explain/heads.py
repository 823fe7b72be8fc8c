"""What detector and mask head see: class and centerness maps, spatial attention of a mask.

FCOS: Tian et al., arXiv 1904.01355. SAG-Mask: Lee and Park, arXiv 1911.06667, eq. 1.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from dinomask.errors import SettingsError
from dinomask.explain.attention import Heatmap, TileAttention, gather
from dinomask.explain.recording import recording
from dinomask.explain.seen import GridPlace
from dinomask.nets.pyramid import LEVEL_STRIDES_PX

if TYPE_CHECKING:
    from dinomask.explain.seen import SeenImage
    from dinomask.instances import Array
    from dinomask.nets.detection import DensePredictions
    from dinomask.nets.network import RoiMaps
    from dinomask.tiles.plan import Tile

Kind = Literal["score", "class", "centerness"]
"""√(class · centerness), or one of the two."""

KINDS: tuple[Kind, ...] = ("score", "class", "centerness")


@dataclasses.dataclass(frozen=True)
class TileHeads:
    """Features and dense predictions of one tile, computed once.

    Attributes
    ----------
    seen : the image and the model
    tile : which tile
    maps, dense : of this tile alone
    """

    seen: SeenImage
    tile: Tile
    maps: RoiMaps
    dense: DensePredictions

    def level(self, kind: Kind, stride_px: float, class_id: int | None = None) -> Heatmap:
        """Return one level's map, values 0 to 1.

        Parameters
        ----------
        kind : what
        stride_px : 7, 14 or 28 model pixels; large objects are found at the coarse levels
        class_id : of which class; None takes the likeliest at each place

        Raises
        ------
        SettingsError
            If there is no such level or class.
        """
        index = self._level_index(stride_px)
        rows = self.dense.strides_px == LEVEL_STRIDES_PX[index]
        values = self._values(kind, class_id)[rows]
        n_rows = len(self.dense.locations_yx_px[rows][:, 0].unique())
        map_yx = np.asarray(values.reshape(n_rows, -1).float().cpu())
        return Heatmap(map_yx, self.seen.place(self.tile, LEVEL_STRIDES_PX[index]))

    def merged(self, kind: Kind, class_id: int | None = None) -> Heatmap:
        """Return the highest value of all levels at each place, on the grid of the finest."""
        maps = [self.level(kind, stride, class_id).values_yx for stride in LEVEL_STRIDES_PX]
        finest = maps[0]
        for map_yx in maps[1:]:
            k = round(finest.shape[0] / map_yx.shape[0])
            # a coarse level may end before the tile does
            rows, columns = (
                np.minimum(np.arange(n) // k, n_coarse - 1)
                for n, n_coarse in zip(finest.shape, map_yx.shape, strict=True)
            )
            finest = np.maximum(finest, map_yx[np.ix_(rows, columns)])
        return Heatmap(finest, self.seen.place(self.tile, LEVEL_STRIDES_PX[0]))

    @torch.inference_mode()
    def mask_attention(self, box_yxyx_px: tuple[float, float, float, float]) -> Heatmap:
        """Return where the mask head looks for the object in a box: SAG-Mask's attention.

        It multiplies the features of every place by 0 to 1 before the mask is drawn.

        Parameters
        ----------
        box_yxyx_px : in image pixels

        Returns
        -------
        shape (M / 2, M / 2), over the frame that the mask covers, a tenth larger than the box
        """
        model = self.seen.predictor.model
        kept: list[torch.Tensor] = []
        own = threading.get_ident()

        def note(_: torch.nn.Module, __: object, output: torch.Tensor) -> None:
            # another thread may be segmenting with the same network
            if threading.get_ident() == own:
                kept.append(output)

        handle = model.mask.attention.register_forward_hook(note)
        try:
            with self.seen.predictor.autocast():
                rois, _, _ = model.draw(self.maps, [self.to_model(box_yxyx_px)])
        finally:
            handle.remove()
        values = np.asarray(kept[0][0, 0].sigmoid().float().cpu())
        return Heatmap(values, self._roi_place(rois[0], values.shape))

    def to_model(self, box_yxyx_px: tuple[float, float, float, float]) -> torch.Tensor:
        """Return a box of the image in the tile's model pixels, shape (1, 4)."""
        (y0, x0), (y1, x1) = (
            self.seen.to_model(self.tile, corner) for corner in (box_yxyx_px[:2], box_yxyx_px[2:])
        )
        return torch.tensor([[y0, x0, y1, x1]], device=self.dense.class_logits.device)

    def to_image(self, boxes_yxyx_px: torch.Tensor) -> Array:
        """Return boxes of the tile's model pixels in image pixels, shape (N, 4)."""
        top, left, _, _ = self.tile.read_yxyx_px
        boxes: Array = np.asarray(boxes_yxyx_px.float().cpu(), np.float64)
        moved: Array = (boxes + np.array([top, left] * 2)) / self.seen.plan.scale
        return moved

    def _roi_place(self, roi_yxyx_px: torch.Tensor, shape_yx: tuple[int, ...]) -> GridPlace:
        y0, x0, y1, x1 = self.to_image(roi_yxyx_px[None])[0].tolist()
        return GridPlace((y0, x0), ((y1 - y0) / shape_yx[0], (x1 - x0) / shape_yx[1]))

    def _values(self, kind: Kind, class_id: int | None) -> torch.Tensor:
        """Return values of all locations, shape (L,)."""
        classes = self.dense.class_logits[0].sigmoid()
        centerness = self.dense.centerness_logits[0].sigmoid()
        if kind == "centerness":
            return centerness
        n_classes = classes.shape[1]
        if class_id is not None and not 0 <= class_id < n_classes:
            raise SettingsError(
                expected=f"a class from 0 to {n_classes - 1}",
                got=f"class {class_id}",
                remedy="Choose a class that the model has.",
            )
        chosen = classes.amax(1) if class_id is None else classes[:, class_id]
        return chosen if kind == "class" else (chosen * centerness).sqrt()

    @staticmethod
    def _level_index(stride_px: float) -> int:
        if stride_px not in LEVEL_STRIDES_PX:
            raise SettingsError(
                expected=f"a level of {', '.join(f'{s:g}' for s in LEVEL_STRIDES_PX)} model pixels",
                got=f"{stride_px:g}",
                remedy="Choose one of these, or leave the level out to see all in one.",
            )
        return LEVEL_STRIDES_PX.index(stride_px)


@torch.inference_mode()
def heads_of(seen: SeenImage, tile: Tile) -> TileHeads:
    """Compute features and dense predictions of a tile; works for every backbone."""
    with seen.predictor.autocast():
        return TileHeads(seen, tile, *seen.predictor.network.look(seen.read(tile)))


@torch.inference_mode()
def look_inside(seen: SeenImage, tile: Tile) -> tuple[TileAttention, TileHeads]:
    """Compute attention, features and dense predictions of a tile in one pass.

    Raises
    ------
    NoAttentionError
        If the model's backbone is convolutional; `heads_of` works for it.
    """
    with recording(seen.predictor.model.backbone) as recorded:
        heads = heads_of(seen, tile)
    return gather(seen, tile, recorded), heads
