"""The state behind the Explain panel's first tab: plain, without Qt and without napari."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Literal

from dinomask.errors import InputError
from napari_dinomask.network import network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from dinomask.config import SegmentConfig
    from dinomask.explain.attention import Heatmap, TileAttention
    from dinomask.explain.head_figures import HeadFigures
    from dinomask.explain.missed import Reason
    from dinomask.explain.seen import SeenImage
    from dinomask.image.source import Image
    from napari_dinomask.network import TileInside

    Array = npt.NDArray
    Point = tuple[float, float]

What = Literal["attention", "score", "class", "centerness", "mask"]
"""The backbone's attention, the detector's maps, or the mask head's attention."""

Whose = Literal["place", "cell", "class", "registers", "all"]
"""Whose attention: that of the clicked place or cell, or of the tile's tokens."""

_TILES = 4
"""Tiles that are kept: some tens of megabytes each."""


@dataclasses.dataclass(frozen=True)
class ExplainIntent:
    """What the form asks for."""

    what: What = "attention"
    """Which map."""

    whose: Whose = "place"
    """Where attention comes from."""

    layer: int = -1
    """Which block; negative ones count from the last."""

    head: int | None = None
    """Which head; None for the mean of all."""

    rollout: bool = False
    """Whether to follow attention through all layers up to the chosen one."""

    all_heads: bool = False
    """Whether every head is to be seen beside the others."""


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

    values_yx: Array
    """What to show of it: multiples of even attention, or 0 to 1."""

    clicked: Clicked
    """From where."""

    intent: ExplainIntent
    """As asked for, with the layer's own number."""

    reason: Reason
    """Why there is an object at the place, or none."""

    n_layers: int = 0
    """Layers to choose from; 0 without attention."""

    n_heads: int = 0
    """Heads of this layer."""

    head_maps: tuple[Array, ...] = ()
    """A map a head, where all are asked for."""

    head_figures: tuple[HeadFigures, ...] = ()
    """How local each head looks."""


class Looker:
    """Looks at one image for the panel; called in its thread.

    The network looks at a tile once; layers, heads, sources and maps are then read from
    what was noted.

    Parameters
    ----------
    opener : opens the image
    config : model and settings, as the labels were made with
    diameter_px : of the objects in image pixels; None estimates it

    Attributes
    ----------
    n_computed : how often the network has looked at a tile
    """

    def __init__(
        self, opener: Callable[[], Image], config: SegmentConfig, diameter_px: float | None
    ) -> None:
        self.n_computed = 0
        self._opener = opener
        self._config = config
        self._diameter_px = diameter_px
        self._seen: SeenImage | None = None
        self._kept: collections.OrderedDict[int, TileInside] = collections.OrderedDict()
        self._reasons: dict[Point, Reason] = {}
        self._figures: dict[tuple[int, int], tuple[HeadFigures, ...]] = {}

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

    def look(self, clicked: Clicked, intent: ExplainIntent) -> Shown:
        """Return what an intent asks for.

        Raises
        ------
        NoAttentionError
            If attention is asked of a convolutional backbone.
        InputError
            If the click was outside the image, or on no cell though one is asked for.
        SettingsError
            If the model has no such tokens.
        """
        index, inside = self._inside(clicked.point_yx_px)
        point = clicked.point_yx_px
        if point not in self._reasons:
            self._reasons = {point: network.reason(inside, point, self._config.detect)}
        reason = self._reasons[point]
        if intent.what != "attention":
            heat = self._of_heads(inside, intent.what, reason)
            return Shown(heat, heat.values_yx, clicked, intent, reason)
        if inside.attention is None:
            raise inside.why_none or InputError("attention", "none", "Choose another map.")
        return self._attention(index, inside.attention, clicked, intent, reason)

    def save(self, shown: Shown, said: str, path: Path) -> Path:
        """Write what is shown beside its tile, with scale bar and caption.

        Raises
        ------
        OutputError
            If it can't be written, or the ending is unknown.
        """
        from dinomask.explain.attention_picture import UNIT, draw_tile
        from dinomask.explain.picture import write_picture

        tile = self.seen.tile_at(shown.clicked.point_yx_px)
        heat = dataclasses.replace(shown.heat, values_yx=shown.values_yx)
        is_attention = shown.intent.what == "attention"
        unit, highest = (UNIT, None) if is_attention else (shown.intent.what, 1.0)
        point = shown.clicked.point_yx_px
        figure = draw_tile(self.seen, tile, heat, said, point, unit=unit, highest=highest)
        write_picture(figure, path)
        return path

    def _attention(
        self,
        index: int,
        attention: TileAttention,
        clicked: Clicked,
        intent: ExplainIntent,
        reason: Reason,
    ) -> Shown:
        n_layers = attention.n_layers
        layer = min(intent.layer, n_layers - 1) % n_layers
        n_heads = attention.n_heads(layer)
        head = intent.head if intent.head is not None and intent.head < n_heads else None
        source = _source(attention, clicked, intent.whose, layer)
        heat = (
            attention.rollout(layer, source)
            if intent.rollout
            else attention.look(layer, source, head)
        )
        shown = Shown(
            heat,
            heat.relative_yx,
            clicked,
            dataclasses.replace(intent, layer=layer, head=head),
            reason,
            n_layers,
            n_heads,
        )
        if not intent.all_heads:
            return shown
        if (index, layer) not in self._figures:
            self._figures[index, layer] = tuple(attention.figures_of(layer))
        maps = tuple(one.relative_yx for one in attention.heads(layer, source))
        figures = self._figures[index, layer]
        return dataclasses.replace(shown, head_maps=maps, head_figures=figures)

    @staticmethod
    def _of_heads(inside: TileInside, what: What, reason: Reason) -> Heatmap:
        if what != "mask":
            return inside.heads.merged(what)  # type: ignore[arg-type]
        if reason.box_yxyx_px is None:
            raise InputError(
                expected="a place where the detector sees something",
                got="a place where it sees nothing",
                remedy="Click on a cell: the mask head works in the box that the detector finds.",
            )
        return inside.heads.mask_attention(reason.box_yxyx_px)

    def _inside(self, point_yx_px: Point) -> tuple[int, TileInside]:
        seen = self.seen
        tile = seen.tile_at(point_yx_px)
        if tile.index not in self._kept:
            self._kept[tile.index] = network.inside(seen, tile)
            self.n_computed += 1
            while len(self._kept) > _TILES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(tile.index)
        return tile.index, self._kept[tile.index]


def _source(
    attention: TileAttention, clicked: Clicked, whose: Whose, layer: int
) -> Literal["class", "registers", "all"] | Point | Array:
    if whose == "place":
        return clicked.point_yx_px
    if whose != "cell":
        return whose
    if clicked.mask_yx is None:
        raise InputError(
            expected="a click on a labelled cell",
            got="no cell at the clicked place",
            remedy="Choose labels above and click on one of their cells, or look from “the "
            "place I click”.",
        )
    return attention.mask_shares(clicked.mask_yx, clicked.corner_yx_px, layer)
