"""A picture of why there is an object at a place, or none."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from dinomask.explain.attention_picture import read_pixels, tile_window, title_lines
from dinomask.explain.heads import KINDS, heads_of
from dinomask.explain.missed import why_missed
from dinomask.explain.picture import (
    add_caption,
    add_scale_bar,
    mark_box,
    mark_point,
    new_picture,
    show_heat,
    show_pixels,
)
from dinomask.image.resample import clip_window

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dinomask.config import DetectConfig
    from dinomask.explain.heads import TileHeads
    from dinomask.explain.missed import Box, Reason
    from dinomask.explain.seen import Point, SeenImage
    from dinomask.tiles.plan import Box as Window

_MARGIN = 4.0
"""The maps show this many boxes around the place."""


def draw_reason(seen: SeenImage, point_yx_px: Point, config: DetectConfig) -> tuple[Figure, Reason]:
    """Draw the detector's maps around a place and the mask head's attention in its box.

    Parameters
    ----------
    point_yx_px : in image pixels
    config : of the segmentation

    Raises
    ------
    InputError
        If the place lies outside the image.
    """
    heads = heads_of(seen, seen.tile_at(point_yx_px))
    reason = why_missed(heads, point_yx_px, config)
    window = _around(heads, point_yx_px, reason)
    n_panels = 2 + len(KINDS) if reason.box_yxyx_px else 1 + len(KINDS)
    figure, panels = new_picture(n_panels, columns=n_panels, panel_in=2.8)
    show_pixels(panels[0], read_pixels(seen, window), window, "image")
    add_scale_bar(panels[0], seen.image.pixel_size_um)
    for panel, kind in zip(panels[1:], KINDS, strict=False):
        heat = heads.merged(kind)
        show_heat(panel, heat.values_yx, heat.place, window, kind, highest=1.0, bar=False)
    for panel in panels[: 1 + len(KINDS)]:
        mark_point(panel, point_yx_px)
        if reason.box_yxyx_px:
            mark_box(panel, reason.box_yxyx_px)
    if reason.box_yxyx_px:
        _show_mask_attention(heads, panels[-1], reason.box_yxyx_px)
    said = textwrap.wrap(reason.sentence, 24 * n_panels)
    place = f"y {point_yx_px[0]:g}, x {point_yx_px[1]:g}"
    add_caption(figure, [*title_lines(seen, f"the place {place}"), *said])
    return figure, reason


def _show_mask_attention(heads: TileHeads, panel: object, box_yxyx_px: Box) -> None:
    heat = heads.mask_attention(box_yxyx_px)
    (top, left), (cell_y, cell_x) = heat.place.origin_yx_px, heat.place.cell_yx_px
    height, width = heat.values_yx.shape
    frame = (round(top), round(left), round(top + height * cell_y), round(left + width * cell_x))
    show_heat(
        panel,  # type: ignore[arg-type]
        heat.values_yx,
        heat.place,
        frame,
        "mask head's attention",
        highest=1.0,
        bar=False,
    )


def _around(heads: TileHeads, point_yx_px: Point, reason: Reason) -> Window:
    """Return a square window around a place, within the tile and the image."""
    seen = heads.seen
    side = seen.predictor.target_diameter_px / seen.plan.scale
    if reason.box_yxyx_px is not None:
        y0, x0, y1, x1 = reason.box_yxyx_px
        side = max(side, y1 - y0, x1 - x0)
    half = round(side * _MARGIN / 2)
    y, x = (round(v) for v in point_yx_px)
    top, left, bottom, right = tile_window(seen, heads.tile)
    inner = clip_window(
        (y - half - top, x - half - left, y + half - top, x + half - left),
        (bottom - top, right - left),
    )
    return inner[0] + top, inner[1] + left, inner[2] + top, inner[3] + left
