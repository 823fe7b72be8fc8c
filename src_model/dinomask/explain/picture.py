"""Pictures with a scale bar and a caption, as PNG or SVG.

Pixels stay pixels in an SVG, and lines and text stay lines and text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import OutputError
from dinomask.tiles.outputs import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dinomask.explain.seen import GridPlace
    from dinomask.instances import Array
    from dinomask.tiles.plan import Box

PICTURE_SUFFIXES = (".png", ".svg")

PANEL_IN = 4.0
"""Side of one panel, in inches."""

DPI = 150

HEAT = "magma"
"""matplotlib's colours of heat maps: even steps of lightness, legible in grey."""

_BAR_SHARE = 0.25
"""Longest scale bar, as a share of the picture's width."""


def new_picture(
    n_panels: int = 1, columns: int | None = None, panel_in: float = PANEL_IN, aspect: float = 1.0
) -> tuple[Figure, list[Axes]]:
    """Begin a picture of several panels; unused ones are left blank.

    Parameters
    ----------
    n_panels : at least 1
    columns : panels a row; None puts up to 4 side by side
    panel_in : width of a panel, in inches
    aspect : height of a panel over its width
    """
    from matplotlib.figure import Figure

    columns = columns or min(n_panels, 4)
    rows = math.ceil(n_panels / columns)
    size = (columns * panel_in, rows * (panel_in * aspect + 0.3) + 0.5)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = [figure.add_subplot(rows, columns, i + 1) for i in range(n_panels)]
    return figure, panels


def show_pixels(panel: Axes, image: Array, window_yxyx_px: Box, title: str = "") -> None:
    """Show a window of an image.

    Parameters
    ----------
    image : shape (h, w) in grey or (h, w, 3), values 0 to 1; any resolution
    window_yxyx_px : what it covers, in image pixels
    """
    y0, x0, y1, x1 = window_yxyx_px
    colours: dict[str, Any] = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0} if image.ndim == 2 else {}
    panel.imshow(np.clip(image, 0, 1), extent=(x0, x1, y1, y0), interpolation="nearest", **colours)
    _frame(panel, title)


def show_heat(
    panel: Axes,
    map_yx: Array,
    place: GridPlace,
    window_yxyx_px: Box,
    title: str = "",
    unit: str = "",
    *,
    highest: float | None = None,
    bar: bool = True,
) -> None:
    """Show a map in colours, cell by cell where it lies in the image.

    Parameters
    ----------
    map_yx : shape (h, w), at least 0
    place : where its cells lie
    window_yxyx_px : what to show of it, in image pixels
    unit : what the colour bar says
    highest : value of the brightest colour; None takes the 99.5th percentile, so that
        single tokens that draw all attention don't darken the rest
    bar : whether to draw a colour bar
    """
    (top, left), (cell_y, cell_x) = place.origin_yx_px, place.cell_yx_px
    height, width = map_yx.shape
    extent = (left, left + width * cell_x, top + height * cell_y, top)
    top_value = float(np.percentile(map_yx, 99.5)) if highest is None else highest
    drawn = panel.imshow(
        map_yx,
        extent=extent,
        interpolation="nearest",
        cmap=HEAT,
        vmin=0.0,
        vmax=top_value or float(map_yx.max()) or 1.0,
    )
    y0, x0, y1, x1 = window_yxyx_px
    panel.set_xlim(x0, x1)
    panel.set_ylim(y1, y0)
    _frame(panel, title)
    if bar:
        panel.figure.colorbar(
            drawn, ax=panel, label=unit, shrink=0.8, extend="max" if highest is None else "neither"
        )


def mark_point(panel: Axes, point_yx_px: tuple[float, float]) -> None:
    """Mark a point of the image with a cross that shows on dark and light."""
    for colour, width in (("black", 3.5), ("cyan", 1.5)):
        panel.plot([point_yx_px[1]], [point_yx_px[0]], "+", color=colour, markersize=12, mew=width)


def mark_box(panel: Axes, box_yxyx_px: tuple[float, float, float, float]) -> None:
    """Draw a box in image pixels, that shows on dark and light."""
    y0, x0, y1, x1 = box_yxyx_px
    for colour, width in (("black", 2.5), ("cyan", 1.0)):
        panel.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=colour, lw=width)


def add_scale_bar(panel: Axes, pixel_size_um: tuple[float, float] | None) -> None:
    """Draw a bar of a round length below on the left, in µm or, unknown, in pixels."""
    left, right = panel.get_xlim()
    bottom, top = panel.get_ylim()
    width_px, height_px = abs(right - left), abs(bottom - top)
    unit_px = 1.0 if pixel_size_um is None else 1 / pixel_size_um[1]
    length = round_length(width_px / unit_px * _BAR_SHARE)
    x, y = left + 0.04 * width_px, bottom - math.copysign(0.05 * height_px, bottom - top)
    unit = "px" if pixel_size_um is None else "µm"
    for colour, line in (("black", 5.0), ("white", 2.5)):
        panel.plot([x, x + length * unit_px], [y, y], color=colour, lw=line, solid_capstyle="butt")
    text = panel.text(
        x, y - math.copysign(0.02 * height_px, bottom - top), f"{length:g} {unit}", color="white"
    )
    text.set_path_effects(_outline())


def round_length(longest: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))


def add_caption(figure: Figure, lines: str | Sequence[str]) -> None:
    """Write a caption below everything."""
    text = lines if isinstance(lines, str) else "\n".join(lines)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=9)


def write_picture(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all; its ending says as what.

    Raises
    ------
    OutputError
        If the ending is another, or it can't be written.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise OutputError(
            expected=f"a picture ending {' or '.join(PICTURE_SUFFIXES)}",
            got=path.name,
            remedy="Name it picture.png, or picture.svg to edit it later.",
        )
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower())


def _frame(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize=10)
    panel.set_xticks([])
    panel.set_yticks([])


def _outline() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="black")]
