"""A sample of an image's tokens in all layers, at the same places whatever the model."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dinomask.config import PATCH_PX
from dinomask.errors import NoAttentionError
from dinomask.explain.recording import attention_blocks, prefix_tokens
from dinomask.nets.mixing import Mixing
from dinomask.run.progress import OnProgress, Progress

if TYPE_CHECKING:
    from torch import nn

    from dinomask.explain.seen import SeenImage
    from dinomask.instances import Array
    from dinomask.tiles.plan import Tile

N_TOKENS = 2048
"""Places that are sampled."""

MAX_TILES = 4
"""Tiles that are looked at, spread evenly over the image."""


@dataclasses.dataclass(frozen=True)
class LayerTokens:
    """Tokens of the same places in several layers.

    Attributes
    ----------
    layers : layer → shape (N, D), float32
    raw : whether they are as the blocks pass them on; else normalised, as the pyramid
        takes them in
    n_prefix : class and register tokens, which are left out
    """

    layers: dict[int, Array]
    raw: bool
    n_prefix: int = 0

    @property
    def n_tokens(self) -> int:
        """Number of places."""
        return len(next(iter(self.layers.values())))


def sample_tokens(
    seen: SeenImage,
    n_tokens: int = N_TOKENS,
    *,
    raw: bool = False,
    layer: int | None = None,
    max_tiles: int = MAX_TILES,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> LayerTokens:
    """Look at a few tiles of an image of any size, and keep tokens of places drawn at random.

    Parameters
    ----------
    n_tokens : places; fewer where the image has fewer
    raw : tokens as blocks pass them on, where they can be had: not where tokens merge or
        attend within windows, nor in convolutional networks
    layer : this one alone, of which -1 is the last; None takes all
    max_tiles : tiles at most
    seed : of the places
    on_progress : told after each tile; may raise to stop
    """
    predictor = seen.predictor
    backbone = predictor.model.backbone
    wanted = list(range(backbone.n_layers)) if layer is None else [layer % backbone.n_layers]
    blocks = _plain_blocks(backbone) if raw else None
    indices = np.unique(np.linspace(0, len(seen.plan) - 1, max_tiles).round().astype(int))
    started = time.monotonic()
    parts: dict[int, list[Array]] = {}
    rng = np.random.default_rng(seed)
    each = -(-n_tokens // len(indices))
    for done, index in enumerate(indices.tolist(), 1):
        tile = seen.plan[index]
        cells = np.argwhere(_owned_cells(seen, tile))
        cells = cells[np.sort(rng.permutation(len(cells))[:each])]
        maps = _raw_maps(seen, tile, blocks) if blocks else _maps(seen, tile, wanted)
        for number, map_hwd in maps.items():
            if number in wanted:
                parts.setdefault(number, []).append(map_hwd[cells[:, 0], cells[:, 1]])
        if on_progress:
            on_progress(Progress("explain", done, len(indices), time.monotonic() - started))
    layers = {i: np.concatenate(found)[:n_tokens] for i, found in parts.items()}
    return LayerTokens(layers, blocks is not None, sum(prefix_tokens(backbone)) if blocks else 0)


def _owned_cells(seen: SeenImage, tile: Tile) -> Array:
    """Return which patches of a tile have their middle in its core, shape (h, w), bool."""
    top, left, bottom, right = tile.read_yxyx_px
    y0, x0, y1, x1 = tile.core_yxyx_px
    rows = np.arange(top + PATCH_PX // 2, bottom, PATCH_PX)
    columns = np.arange(left + PATCH_PX // 2, right, PATCH_PX)
    inside: Array = ((rows >= y0) & (rows < y1))[:, None] & ((columns >= x0) & (columns < x1))
    return inside


def _maps(seen: SeenImage, tile: Tile, layers: list[int]) -> dict[int, Array]:
    pixels = np.asarray(seen.read(tile).cpu())
    maps = seen.predictor.layer_tokens(pixels, layers)
    grid_yx = _patches(tile)
    found = {}
    for layer, map_bdyx in zip(layers, maps, strict=True):
        found[layer] = _on_patches(np.moveaxis(np.asarray(map_bdyx[0]), 0, 2), grid_yx)
    return found


def _patches(tile: Tile) -> tuple[int, int]:
    """Return how many patches a tile has along y and x."""
    top, left, bottom, right = tile.read_yxyx_px
    return (bottom - top) // PATCH_PX, (right - left) // PATCH_PX


def _on_patches(map_hwd: Array, grid_yx: tuple[int, int]) -> Array:
    """Bring a map onto the grid of patches: the mean of finer cells, coarser ones repeated."""
    height, width = grid_yx
    k = map_hwd.shape[0] / height
    if k > 1:
        n = round(k)
        cut = map_hwd[: height * n, : width * n]
        finer: Array = cut.reshape(height, n, width, n, -1).mean(axis=(1, 3))
        return finer
    if k < 1:
        n = -(-height // map_hwd.shape[0])
        return map_hwd.repeat(n, axis=0).repeat(n, axis=1)[:height, :width]
    return map_hwd


def _plain_blocks(backbone: Any) -> list[nn.Module] | None:
    """Return the blocks whose outputs can be had; None if there are none on one grid."""
    try:
        blocks = attention_blocks(backbone)
    except NoAttentionError:
        return None
    mixing: Mixing = getattr(backbone, "mixing", Mixing())
    return blocks if mixing.plain and len(blocks) == backbone.n_layers else None


@torch.inference_mode()
def _raw_maps(seen: SeenImage, tile: Tile, blocks: list[nn.Module]) -> dict[int, Array]:
    backbone = seen.predictor.model.backbone
    n_prefix, own = sum(prefix_tokens(backbone)), threading.get_ident()
    grid_yx = _patches(tile)
    kept: dict[int, Array] = {}

    def keep(i: int, output: torch.Tensor) -> None:
        # another thread may be segmenting with the same network
        if threading.get_ident() != own:
            return
        values = np.asarray(output[0].float().cpu())
        if values.ndim == 2:
            values = values[n_prefix:].reshape(*grid_yx, -1)
        kept[i] = _on_patches(values, grid_yx)

    handles = [
        block.register_forward_hook(lambda _, __, out, i=i: keep(i, out))
        for i, block in enumerate(blocks)
    ]
    try:
        with seen.predictor.autocast():
            seen.predictor.model.backbone_maps(seen.read(tile))
    finally:
        for handle in handles:
            handle.remove()
    return kept
