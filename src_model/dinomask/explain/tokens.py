"""Tokens of a whole image on one grid of patches, computed tile by tile.

A token at the border of what a tile sees knows less of its surroundings, so tiles
overlap by the halo and give only their cores. What they still disagree on there is
measured on the way (`Alignment`).
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import numpy as np

from dinomask.config import PATCH_PX
from dinomask.errors import SettingsError
from dinomask.explain.patches import PatchPlan
from dinomask.explain.seen import SeenImage
from dinomask.image.resample import read_scaled
from dinomask.run.engines.tile_work import CUDA_BATCH
from dinomask.run.predictor import Predictor
from dinomask.run.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dinomask.config import SegmentConfig
    from dinomask.explain.alignment import Alignment
    from dinomask.explain.patches import PatchTile
    from dinomask.image.source import Image
    from dinomask.instances import Array
    from dinomask.nets.features import Backbone
    from dinomask.run.progress import OnProgress


DEFAULT_DEPTH = 0.75
"""How deep the layer lies that is looked at unless another is asked for."""


@dataclasses.dataclass(frozen=True)
class TokenSource:
    """The tokens of some layers over a whole image, in tiles.

    Attributes
    ----------
    seen : the image as the model sees it; its own tiles aren't used
    layers : of the backbone, from 0, ascending
    plan : the tiles
    batch : tiles that go through the network at once
    """

    seen: SeenImage
    layers: tuple[int, ...]
    plan: PatchPlan
    batch: int

    @staticmethod
    def of(
        image: Image,
        layers: Sequence[int],
        config: SegmentConfig,
        predictor: Predictor | None = None,
        on_progress: OnProgress | None = None,
    ) -> TokenSource:
        """Prepare an image for a model.

        Parameters
        ----------
        image : any size
        layers : negative ones count from the last; none takes the default
        config : model, object size, normalisation, tiles and batch
        predictor : a loaded model; None loads that of `config`
        on_progress : told while the object size is estimated, if it is to be

        Raises
        ------
        SettingsError
            If there is no such layer, or the diameter can't be.
        InputError
            If the image can't be used, or no object tells its size.
        ModelError
            If the model can't be loaded.
        """
        predictor = Predictor.of(config, predictor)
        chosen = choose_layers(predictor.model.backbone, layers)
        seen = SeenImage.of(image, config, predictor, on_progress)
        batch = config.batch or (CUDA_BATCH if predictor.device.type == "cuda" else 1)
        plan = PatchPlan.of(seen.plan.shape_scaled_yx, config.tiles)
        return TokenSource(seen, chosen, plan, batch)

    @property
    def cell_px(self) -> float:
        """Side of a patch in image pixels."""
        return PATCH_PX / self.seen.plan.scale

    @property
    def diameter_px(self) -> float:
        """Size of objects by which the image was scaled, in image pixels."""
        return self.seen.predictor.target_diameter_px / self.seen.plan.scale

    @property
    def backbone(self) -> Backbone:
        """What computes the tokens."""
        return self.seen.predictor.model.backbone

    def cells_a_patch(self, layer: int) -> int:
        """How many cells of a layer's map lie along the side of a patch: 1, 2 or 4."""
        return round(PATCH_PX / self.backbone.layer_stride_px(layer))

    def width(self, layer: int) -> int:
        """How many features a layer has."""
        backbone = self.backbone
        return backbone.widths[layer if backbone.n_layers == len(backbone.widths) else -1]

    def rows_of_patches(self, axis: int) -> Array:
        """Return the patch that holds the middle of each image pixel along an axis, ascending."""
        n_px, n_patches = self.seen.image.shape_yx[axis], self.plan.shape_yx[axis]
        patches = np.floor((np.arange(n_px) + 0.5) * (self.seen.plan.scale / PATCH_PX)).astype(
            np.int64
        )
        return np.asarray(np.minimum(patches, n_patches - 1))

    def look(
        self,
        indices: Sequence[int],
        stage: str,
        on_progress: OnProgress | None = None,
        alignment: Alignment | None = None,
    ) -> Iterator[tuple[PatchTile, Mapping[int, Array]]]:
        """Yield tiles and the tokens of their cores.

        Parameters
        ----------
        indices : of the tiles wanted, in this order
        stage : what progress is called
        on_progress : told before the first and after each tile; may raise to stop
        alignment : given what tiles see of each other's

        Yields
        ------
        tile : where
        tokens : layer → shape (h, w, D), float32, the cells of the tile's core
        """
        started = time.monotonic()
        for first in range(0, len(indices), self.batch):
            _tell(on_progress, stage, first, len(indices), started)
            tiles = [self.plan[i] for i in indices[first : first + self.batch]]
            pixels = np.stack([self._read(tile) for tile in tiles])
            maps = self.seen.predictor.layer_tokens(pixels, self.layers)
            for b, tile in enumerate(tiles):
                tokens = {}
                for layer, of_batch in zip(self.layers, maps, strict=True):
                    map_yxd = np.moveaxis(of_batch[b], 0, 2)
                    if alignment is not None:
                        alignment.add(tile, layer, map_yxd)
                    tokens[layer] = self._core(map_yxd, tile, layer)
                yield tile, tokens
        _tell(on_progress, stage, len(indices), len(indices), started)

    def _read(self, tile: PatchTile) -> Array:
        y0, x0, y1, x1 = (v * PATCH_PX for v in tile.read_yxyx)
        seen = self.seen
        return read_scaled(seen.image, seen.normaliser, seen.plan.scale, (y0, x0, y1, x1))

    def _core(self, map_yxd: Array, tile: PatchTile, layer: int) -> Array:
        k = self.cells_a_patch(layer)
        top, left = tile.read_yxyx[:2]
        y0, x0, y1, x1 = tile.core_yxyx
        core = map_yxd[(y0 - top) * k : (y1 - top) * k, (x0 - left) * k : (x1 - left) * k]
        return np.ascontiguousarray(core)


def choose_layers(backbone: Backbone, layers: Sequence[int]) -> tuple[int, ...]:
    """Return layers counted from 0, ascending, each once.

    None asked for means the one at three quarters of the depth: tokens of the last blocks
    depend most on all else that a tile shows, so tiles agree less there.

    Raises
    ------
    SettingsError
        If there is no such layer.
    """
    n = backbone.n_layers
    wrong = [layer for layer in layers if not -n <= layer < n]
    if wrong:
        raise SettingsError(
            expected=f"layers from 0 to {n - 1}, or from -{n} to -1, counted from the last",
            got=f"{wrong[0]}",
            remedy="Layer -1 is the last one.",
        )
    return tuple(sorted({layer % n for layer in layers})) or (round(DEFAULT_DEPTH * n) - 1,)


def _tell(
    on_progress: OnProgress | None, stage: str, done: int, total: int, started: float
) -> None:
    if on_progress is not None:
        on_progress(Progress(stage, done, total, time.monotonic() - started))
