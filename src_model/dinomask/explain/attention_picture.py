"""Pictures of attention: a tile, all its heads, or a whole image."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from dinomask.explain.attention import attention_of
from dinomask.explain.picture import (
    add_caption,
    add_scale_bar,
    mark_point,
    new_picture,
    show_heat,
    show_pixels,
)
from dinomask.explain.seen import GridPlace
from dinomask.image.resample import clip_window, read_scaled, scaled_length

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dinomask.explain.attention import Heatmap, Prefix
    from dinomask.explain.mosaic import Mosaic
    from dinomask.explain.seen import Point, SeenImage
    from dinomask.instances import Array
    from dinomask.tiles.plan import Box, Tile

MAX_SIDE_PX = 1024
"""Pictures show no more pixels a side than this."""

UNIT = "× even attention"
ELSEWHERE = 0.05
"""From this share on a caption says what class and register tokens get."""


def tile_window(seen: SeenImage, tile: Tile) -> Box:
    """Return the part of the image that a tile reads, in whole image pixels."""
    y0, x0, y1, x1 = seen.plan.read_image_yxyx(tile)
    outer = (int(np.floor(y0)), int(np.floor(x0)), int(np.ceil(y1)), int(np.ceil(x1)))
    return clip_window(outer, seen.image.shape_yx)


def read_pixels(seen: SeenImage, window_yxyx_px: Box) -> Array:
    """Read a window of the image to look at, reduced to at most `MAX_SIDE_PX`.

    Returns
    -------
    shape (h, w, 3), values around 0 to 1
    """
    y0, x0, y1, x1 = window_yxyx_px
    scale = min(1.0, MAX_SIDE_PX / max(y1 - y0, x1 - x0))
    first = (int(y0 * scale), int(x0 * scale))
    shape = (scaled_length(y1 - y0, scale), scaled_length(x1 - x0, scale))
    scaled = (*first, first[0] + shape[0], first[1] + shape[1])
    return np.moveaxis(read_scaled(seen.image, seen.normaliser, scale, scaled), 0, 2)


def draw_tile(
    seen: SeenImage,
    tile: Tile,
    heat: Heatmap,
    said: str,
    point_yx_px: Point | None = None,
    *,
    unit: str = UNIT,
    highest: float | None = None,
) -> Figure:
    """Draw a tile and a map of it side by side.

    Parameters
    ----------
    heat : its values are shown as they are
    said : what the map is, for the caption
    point_yx_px : what it is about, marked in both
    unit, highest : as for `show_heat`
    """
    window = tile_window(seen, tile)
    figure, (left, right) = new_picture(2)
    show_pixels(left, read_pixels(seen, window), window, "what the model saw")
    show_heat(right, heat.values_yx, heat.place, window, "its map", unit, highest=highest)
    add_scale_bar(left, seen.image.pixel_size_um)
    if point_yx_px is not None:
        mark_point(left, point_yx_px)
        mark_point(right, point_yx_px)
    lines = [line for text in title_lines(seen, said) for line in textwrap.wrap(text, 100)]
    add_caption(figure, [*lines, *_elsewhere(heat)])
    return figure


def draw_heads(
    seen: SeenImage, tile: Tile, layer: int, source: Prefix | Point | None = None
) -> Figure:
    """Draw every head of a layer beside the others, and their mean.

    Parameters
    ----------
    layer : negative counts from the last
    source : whose attention, as for `TileAttention.look`
    """
    attention = attention_of(seen, tile, [layer])
    maps = attention.heads(0, source)
    figures = attention.figures()
    window = tile_window(seen, tile)
    figure, panels = new_picture(len(maps) + 2, panel_in=2.6)
    show_pixels(panels[0], read_pixels(seen, window), window, "image")
    add_scale_bar(panels[0], seen.image.pixel_size_um)
    mean = attention.look(0, source)
    show_heat(panels[1], mean.relative_yx, mean.place, window, "mean of heads", bar=False)
    for panel, heat, head in zip(panels[2:], maps, figures, strict=True):
        title = f"head {head.head}: {head.entropy_bits:.1f} bits, {_length(seen, head.distance_px)}"
        show_heat(panel, heat.relative_yx, heat.place, window, title, bar=False)
    if isinstance(source, tuple):
        for panel in panels:
            mark_point(panel, source)
    number = attention.blocks[0].block
    said = f"attention of each head in layer {number}; entropy and mean distance over all places"
    add_caption(figure, [*title_lines(seen, said), "each map has a scale of its own"])
    return figure


def draw_mosaic(
    seen: SeenImage,
    mosaic: Mosaic,
    said: str,
    *,
    unit: str = UNIT,
    highest: float | None = None,
) -> Figure:
    """Draw an image and the maps of its tiles side by side.

    Parameters
    ----------
    said : what the maps are, for the caption
    unit, highest : as for `show_heat`
    """
    height, width = seen.image.shape_yx
    window = (0, 0, height, width)
    figure, (left, right) = new_picture(2, aspect=min(2.0, height / width))
    show_pixels(left, read_pixels(seen, window), window, "image")
    step = -(-max(height, width) // MAX_SIDE_PX)
    rows = [mosaic.draw((y, 0, y + 1, width))[0, :, ::step] for y in range(0, height, step)]
    place = GridPlace((0.0, 0.0), (float(step), float(step)))
    show_heat(right, np.concatenate(rows), place, window, "by tiles", unit, highest=highest)
    add_scale_bar(left, seen.image.pixel_size_um)
    add_caption(
        figure, [*title_lines(seen, said), "each tile by itself, so there are seams between"]
    )
    return figure


def title_lines(seen: SeenImage, said: str) -> list[str]:
    """Return the first lines of a caption: image, what is shown, and by which model."""
    sha256 = seen.predictor.manifest.weights_sha256
    return [f"{seen.image.name}: {said}", f"model {seen.name} ({sha256[:8]})"]


def _elsewhere(heat: Heatmap) -> list[str]:
    if heat.elsewhere < ELSEWHERE:
        return []
    return [f"class and register tokens get {heat.elsewhere:.0%} of it, not shown"]


def _length(seen: SeenImage, length_px: float) -> str:
    size = seen.image.pixel_size_um
    return f"{length_px:.0f} px" if size is None else f"{length_px * size[1]:.0f} µm"
