"""The slow part of an answer to a click, done once a tile and kept."""

from __future__ import annotations

import collections
import dataclasses
import threading
from typing import TYPE_CHECKING

import numpy as np
import torch

from dinomask.image.resample import read_scaled

if TYPE_CHECKING:
    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image
    from dinomask.nets.detection import DensePredictions
    from dinomask.nets.network import RoiMaps
    from dinomask.run.predictor import Predictor
    from dinomask.tiles.plan import TilePlan


@dataclasses.dataclass(frozen=True)
class TileFeatures:
    """What the network saw in a tile.

    Attributes
    ----------
    maps : what masks are pooled from
    dense : class, box and centerness everywhere
    origin_yx_px : where the tile begins, in scaled pixels
    """

    maps: RoiMaps
    dense: DensePredictions
    origin_yx_px: tuple[int, int]

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        parts = [self.maps.fine, self.maps.detail]
        parts += [getattr(self.dense, field.name) for field in dataclasses.fields(self.dense)]
        return sum(part.element_size() * part.nelement() for part in parts)


class FeatureMemory:
    """Features of the tiles that were looked at last; safe in threads.

    Parameters
    ----------
    predictor, image, normaliser, plan : what to look at, and how it is cut
    max_bytes : that are kept; at least one tile's are

    Attributes
    ----------
    lock : to be held by whoever uses the network
    """

    def __init__(
        self,
        predictor: Predictor,
        image: Image,
        normaliser: Normaliser,
        plan: TilePlan,
        max_bytes: float,
    ) -> None:
        self.lock = threading.Lock()
        self._predictor, self._image, self._normaliser = predictor, image, normaliser
        self._plan = plan
        self._max_bytes = max_bytes
        self._kept: collections.OrderedDict[int, TileFeatures] = collections.OrderedDict()

    @property
    def n_bytes(self) -> int:
        """Memory of all that is kept."""
        return sum(features.n_bytes for features in tuple(self._kept.values()))

    def holds(self, point_yx_px: tuple[float, float]) -> bool:
        """Tell, without waiting, whether the tile of a point of the image was looked at."""
        return self._tile_at(point_yx_px) in self._kept

    def at(self, point_yx_px: tuple[float, float]) -> TileFeatures:
        """Return the features of the tile of a point, looked at now if need be.

        Raises
        ------
        ChunkError
            If the image can't be read there.
        """
        index = self._tile_at(point_yx_px)
        with self.lock:
            if index not in self._kept:
                self._kept[index] = self._look(index)
                while len(self._kept) > 1 and self.n_bytes > self._max_bytes:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(index)
            return self._kept[index]

    def _tile_at(self, point_yx_px: tuple[float, float]) -> int:
        return int(self._plan.tiles_at(np.array([point_yx_px]))[0])

    @torch.inference_mode()
    def _look(self, index: int) -> TileFeatures:
        window = self._plan[index].read_yxyx_px
        tile = read_scaled(self._image, self._normaliser, self._plan.scale, window)
        tiles = torch.from_numpy(tile[None]).to(
            self._predictor.device, memory_format=torch.channels_last
        )
        with self._predictor.autocast():
            return TileFeatures(*self._predictor.network.look(tiles), window[:2])
