"""The state behind the Explain panel's attention: plain, without Qt and without napari."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Literal

from dinomask.errors import InputError
from napari_dinomask.network import network

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from dinomask.config import SegmentConfig
    from dinomask.explain.attention import Heatmap, TileAttention
    from dinomask.explain.seen import SeenImage
    from dinomask.image.source import Image

    Array = npt.NDArray
    Point = tuple[float, float]

Whose = Literal["place", "cell", "class", "registers", "all"]
"""Whose attention: that of the clicked place or cell, or of the tile's tokens."""

_TILES = 4
"""Tiles whose attention is kept: some tens of megabytes each."""


@dataclasses.dataclass(frozen=True)
class AttentionIntent:
    """What the form asks for."""

    whose: Whose = "place"
    """Where attention comes from."""

    layer: int = -1
    """Which block; negative ones count from the last."""

    head: int | None = None
    """Which head; None for the mean of all."""

    rollout: bool = False
    """Whether to follow attention through all layers up to the chosen one."""


@dataclasses.dataclass(frozen=True)
class Clicked:
    """Where the user clicked."""

    point_yx_px: Point
    """In image pixels."""

    label: int = 0
    """The object there; 0 for none, or without labels."""

    mask_yx: Array | None = None
    """The object's pixels."""

    corner_yx_px: tuple[int, int] = (0, 0)
    """Where the mask begins in the image."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """What came of an intent."""

    heat: Heatmap
    """The map."""

    clicked: Clicked
    """From where."""

    intent: AttentionIntent
    """As asked for, with the layer's own number."""

    n_layers: int
    """Layers to choose from."""

    n_heads: int
    """Heads of this layer."""


class Looker:
    """Looks at one image for the panel; called in its thread.

    The network looks at a tile once; layers, heads and sources are then read from what
    was noted.

    Parameters
    ----------
    opener : opens the image
    config : model and settings, as the labels were made with
    diameter_px : of the objects in image pixels; None estimates it
    """

    def __init__(
        self, opener: Callable[[], Image], config: SegmentConfig, diameter_px: float | None
    ) -> None:
        self._opener = opener
        self._config = config
        self._diameter_px = diameter_px
        self._seen: SeenImage | None = None
        self._kept: collections.OrderedDict[int, TileAttention] = collections.OrderedDict()
        self.n_computed = 0
        """How often the network has looked at a tile for its attention."""

    @property
    def seen(self) -> SeenImage:
        """The image as the model sees it.

        Raises
        ------
        ModelError, InputError
            If the model can't be loaded, or the image not be read.
        """
        if self._seen is None:
            self._seen = network.seen(self._opener(), self._config, self._diameter_px)
        return self._seen

    def look(self, clicked: Clicked, intent: AttentionIntent) -> Shown:
        """Return what an intent asks for.

        Raises
        ------
        NoAttentionError
            If the model's backbone is convolutional.
        InputError
            If the click was outside the image, or on no cell though one is asked for.
        SettingsError
            If the model has no such tokens.
        """
        attention = self._attention(clicked.point_yx_px)
        n_layers = attention.n_layers
        layer = min(intent.layer, n_layers - 1)
        layer = layer % n_layers
        n_heads = attention.n_heads(layer)
        head = intent.head if intent.head is not None and intent.head < n_heads else None
        source = self._source(attention, clicked, intent.whose, layer)
        if intent.rollout:
            heat = attention.rollout(layer, source)
        else:
            heat = attention.look(layer, source, head)
        shown = dataclasses.replace(intent, layer=layer, head=head)
        return Shown(heat, clicked, shown, n_layers, n_heads)

    def _attention(self, point_yx_px: Point) -> TileAttention:
        seen = self.seen
        tile = seen.tile_at(point_yx_px)
        if tile.index not in self._kept:
            self._kept[tile.index] = network.attention(seen, tile)
            self.n_computed += 1
            while len(self._kept) > _TILES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(tile.index)
        return self._kept[tile.index]

    def _source(
        self, attention: TileAttention, clicked: Clicked, whose: Whose, layer: int
    ) -> Literal["class", "registers", "all"] | Point | Array:
        if whose == "place":
            return clicked.point_yx_px
        if whose != "cell":
            return whose
        if clicked.mask_yx is None:
            raise InputError(
                expected="a click on a labelled cell",
                got="no cell at the clicked place",
                remedy="Choose labels above and click on one of their cells, or look from "
                "“the place I click”.",
            )
        return attention.mask_shares(clicked.mask_yx, clicked.corner_yx_px, layer)
