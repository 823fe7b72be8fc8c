"""Attention of a tile: computed once, then asked by layer, head and source.

Rollout: Abnar & Zuidema, "Quantifying attention flow in transformers", arXiv
2005.00928.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from dinomask.errors import InputError, SettingsError
from dinomask.explain.head_figures import HeadFigures, head_figures
from dinomask.explain.recording import Recording, choose_block, prefix_tokens, recording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.explain.parts import BlockAttention
    from dinomask.explain.seen import GridPlace, Point, SeenImage
    from dinomask.instances import Array
    from dinomask.tiles.plan import Tile

Prefix = Literal["class", "registers", "all"]
"""Whose attention: the class token's, the registers' on average, or that of all places."""


@dataclasses.dataclass(frozen=True)
class Heatmap:
    """A map of one tile, placed in the image.

    Attributes
    ----------
    values_yx : shape (h, w), float32
    place : where its cells lie
    elsewhere : share of the attention that class and register tokens, and padding, get
    """

    values_yx: Array
    place: GridPlace
    elsewhere: float = 0.0

    @property
    def relative_yx(self) -> Array:
        """The values as multiples of their mean: 1 is what even attention would give."""
        mean = float(self.values_yx.mean())
        return self.values_yx / mean if mean > 0 else self.values_yx


@dataclasses.dataclass(frozen=True)
class TileAttention:
    """Attention of one tile in all noted layers.

    Attributes
    ----------
    blocks : layers that were noted, in order
    n_class, n_registers : tokens before those of the map
    places : where each block's map lies in the image
    """

    blocks: tuple[BlockAttention, ...]
    n_class: int
    n_registers: int
    places: tuple[GridPlace, ...]

    @property
    def default_source(self) -> Prefix:
        """The class token, where there is one."""
        return "class" if self.n_class else "all"

    @property
    def n_layers(self) -> int:
        """Number of noted layers."""
        return len(self.blocks)

    def n_heads(self, layer: int) -> int:
        """Return the number of heads of a layer."""
        return self.blocks[choose_block(layer, self.n_layers)].n_heads

    def shares_of(self, source: Prefix | Point | Array, layer: int = -1) -> torch.Tensor:
        """Say how much each token counts in a source, shape (P + H·W,), of sum 1.

        Parameters
        ----------
        source : class, registers or all; a point of the image in its pixels; or a
            label image's mask, as `mask_shares` gives it
        layer : whose tokens

        Raises
        ------
        SettingsError
            If the model has no such tokens.
        InputError
            If the point lies outside the tile.
        """
        i = choose_block(layer, self.n_layers)
        block, place = self.blocks[i], self.places[i]
        shares = torch.zeros(block.n_places)
        n_prefix = self.n_class + self.n_registers
        if isinstance(source, np.ndarray):
            shares[n_prefix:] = torch.from_numpy(np.ascontiguousarray(source, np.float32)).ravel()
        elif isinstance(source, tuple):
            shares[n_prefix + _cell_at(place, source, block.grid_yx)] = 1
        else:
            first, last = self._range(source, block.n_places)
            shares[first:last] = 1
        return shares / shares.sum()

    def mask_shares(self, mask_yx: Array, corner_yx_px: tuple[int, int], layer: int = -1) -> Array:
        """Return how much of a mask lies in each cell of a layer's map, shape (h, w).

        Parameters
        ----------
        mask_yx : bool, in image pixels
        corner_yx_px : where it begins in the image

        Raises
        ------
        InputError
            If no pixel of it lies in the tile.
        """
        i = choose_block(layer, self.n_layers)
        height, width = self.blocks[i].grid_yx
        points = np.argwhere(mask_yx) + corner_yx_px + 0.5
        cells = self.places[i].cells_at(points)
        cells = cells[((cells >= 0) & (cells < (height, width))).all(axis=1)]
        if not len(cells):
            raise InputError(
                expected="a cell with pixels in the tile",
                got="none of its pixels there",
                remedy="Choose a cell of the tile that was computed.",
            )
        counts = np.bincount(cells[:, 0] * width + cells[:, 1], minlength=height * width)
        return counts.reshape(height, width).astype(np.float32)

    def look(
        self, layer: int = -1, source: Prefix | Point | Array | None = None, head: int | None = None
    ) -> Heatmap:
        """Return where a source looks in one layer.

        Parameters
        ----------
        layer : among the noted ones; negative counts from the last
        source : as for `shares_of`; None is `default_source`
        head : one head; None averages all

        Raises
        ------
        SettingsError
            If there is no such layer, head or source.
        InputError
            If a point lies outside the tile.
        """
        i = choose_block(layer, self.n_layers)
        block = self.blocks[i]
        spread = block.spread(self.shares_of(self._given(source), i))
        if head is None:
            return self._placed(spread.mean(dim=0), i)
        if not 0 <= head < block.n_heads:
            raise SettingsError(
                expected=f"a head from 0 to {block.n_heads - 1}",
                got=f"head {head}",
                remedy="Choose a head that the layer has, or leave it out for their mean.",
            )
        return self._placed(spread[head], i)

    def heads(self, layer: int = -1, source: Prefix | Point | Array | None = None) -> list[Heatmap]:
        """Return where a source looks, head by head."""
        i = choose_block(layer, self.n_layers)
        spread = self.blocks[i].spread(self.shares_of(self._given(source), i))
        return [self._placed(one, i) for one in spread]

    def rollout(self, layer: int = -1, source: Prefix | Point | Array | None = None) -> Heatmap:
        """Return from where a source is reached through all layers up to one.

        Each layer passes on half of what it had (the residual connection) and half
        of what it attends to, heads averaged: rows of ``∏ ½ (A + I)``.

        Raises
        ------
        SettingsError
            If the layers' maps differ in size, or some were not noted.
        """
        i = choose_block(layer, self.n_layers)
        if len({(b.grid_yx, b.n_prefix) for b in self.blocks}) > 1:
            raise SettingsError(
                expected="a transformer of one resolution for attention rollout",
                got="one whose layers have maps of several sizes",
                remedy="Look at one layer at a time.",
            )
        if [b.block for b in self.blocks[: i + 1]] != list(range(i + 1)):
            raise SettingsError(
                expected="attention of all layers up to the chosen one for rollout",
                got=f"layers {', '.join(str(b.block) for b in self.blocks)}",
                remedy="Note the attention of all layers.",
            )
        shares = self.shares_of(self._given(source), i)
        # from the last layer down, so that a vector and no matrix is carried along
        for block in reversed(self.blocks[: i + 1]):
            shares = 0.5 * shares + 0.5 * block.spread(shares).mean(dim=0)
        return self._placed(shares, i)

    def figures(self) -> list[HeadFigures]:
        """Return entropy and mean distance of every head of every layer."""
        return [figure for i in range(self.n_layers) for figure in self.figures_of(i)]

    def figures_of(self, layer: int) -> list[HeadFigures]:
        """Return entropy and mean distance of every head of a layer."""
        i = choose_block(layer, self.n_layers)
        return head_figures(self.blocks[i], self.places[i].cell_yx_px[0])

    def _given(self, source: Prefix | Point | Array | None) -> Prefix | Point | Array:
        return self.default_source if source is None else source

    def _range(self, source: str, n_places: int) -> tuple[int, int]:
        ranges = {
            "class": (0, self.n_class),
            "registers": (self.n_class, self.n_class + self.n_registers),
            "all": (self.n_class + self.n_registers, n_places),
        }
        first, last = ranges.get(source, (0, 0))
        if last <= first:
            there = [name for name, (a, b) in ranges.items() if b > a]
            raise SettingsError(
                expected=f"a source that the model has: {', '.join(there)}, or a point",
                got=f"{source!r}",
                remedy="Choose one of these.",
            )
        return first, last

    def _placed(self, values: torch.Tensor, i: int) -> Heatmap:
        block = self.blocks[i]
        patches = values[block.n_prefix :].reshape(block.grid_yx)
        return Heatmap(patches.numpy(), self.places[i], float(1 - patches.sum()))


@torch.inference_mode()
def attention_of(seen: SeenImage, tile: Tile, layers: Sequence[int] | None = None) -> TileAttention:
    """Compute the attention of a tile in all layers at once.

    Parameters
    ----------
    seen : the image and the model
    tile : of the image's plan
    layers : which; None takes all

    Raises
    ------
    NoAttentionError
        If the model's backbone is convolutional.
    SettingsError
        If there is no such layer.
    """
    model = seen.predictor.model
    with recording(model.backbone, layers) as recorded, seen.predictor.autocast():
        model.backbone_maps(seen.read(tile))
    return gather(seen, tile, recorded)


def gather(seen: SeenImage, tile: Tile, recorded: Recording) -> TileAttention:
    """Place what was noted while the network looked at a tile."""
    blocks = recorded.blocks()
    n_class, n_registers = prefix_tokens(seen.predictor.model.backbone)
    places = tuple(seen.place(tile, block.stride_px) for block in blocks)
    return TileAttention(blocks, n_class, n_registers, places)


def _cell_at(place: GridPlace, point_yx_px: Point, grid_yx: tuple[int, int]) -> int:
    row, column = place.cells_at(np.array([point_yx_px]))[0].tolist()
    height, width = grid_yx
    if not (0 <= row < height and 0 <= column < width):
        raise InputError(
            expected="a point within the tile that was computed",
            got=f"y {point_yx_px[0]:g}, x {point_yx_px[1]:g}",
            remedy="Choose a point in the tile, or compute the tile of this point.",
        )
    return int(row * width + column)
