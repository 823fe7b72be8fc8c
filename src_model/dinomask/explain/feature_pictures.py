"""Pictures of features: tokens as colours beside their image, and maps of objects."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.explain.attention_picture import MAX_SIDE_PX
from dinomask.explain.picture import add_caption, add_scale_bar, new_picture, show_pixels
from dinomask.image.normalise import fit_normaliser
from dinomask.image.resample import read_scaled, scaled_length

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dinomask.explain.pca import TokenColours
    from dinomask.explain.probe import ProbeReport
    from dinomask.image.source import Image
    from dinomask.instances import Array

MAX_NAMES = 12
"""With more kinds than this a legend says nothing, and a column is taken for numbers."""


def draw_colours(image: Image, found: Mapping[str, TokenColours]) -> Figure:
    """Draw an image and the colours of its tokens side by side.

    Parameters
    ----------
    image : what was looked at
    found : colours by the title of their panel, such as before and after an adapter
    """
    height, width = image.shape_yx
    window = (0, 0, height, width)
    figure, panels = new_picture(1 + len(found), aspect=min(2.0, height / width))
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    shape = tuple(scaled_length(n, scale) for n in image.shape_yx)
    pixels = read_scaled(image, fit_normaliser(image), scale, (0, 0, shape[0], shape[1]))
    show_pixels(panels[0], np.moveaxis(pixels, 0, 2), window, "image")
    for panel, (title, colours) in zip(panels[1:], found.items(), strict=True):
        (cell_y, cell_x), (rows, columns) = colours.place.cell_yx_px, colours.rgb_yxc.shape[:2]
        # the last cells overhang the image
        covered = (0, 0, rows * cell_y, columns * cell_x)
        show_pixels(panel, colours.rgb_yxc / 255, covered, title)
        panel.set_xlim(0, width)
        panel.set_ylim(height, 0)
    add_scale_bar(panels[0], image.pixel_size_um)
    first = next(iter(found.values()))
    shares = ", ".join(f"{s:.0%}" for s in first.components.shares)
    add_caption(
        figure,
        [
            f"{image.name}: tokens of layer {first.layer}; red, green and blue are their first",
            f"three principal components, which hold {shares} of the variance",
        ],
    )
    return figure


def draw_map(
    table: pd.DataFrame, positions: Array, column: str | None, title: str, caption: str
) -> Figure:
    """Draw a map of objects, a point an object.

    Parameters
    ----------
    table : of N objects
    positions : shape (N, 2)
    column : whose values are the colours; None draws all alike
    title, caption : what it shows
    """
    figure, (panel,) = new_picture(1, panel_in=6.0)
    dots: dict[str, Any] = {"s": np.clip(8000 / max(len(table), 1), 2, 24), "lw": 0}
    if column is None:
        panel.scatter(*positions.T, color="tab:blue", **dots)
    elif _is_measure(table[column]):
        values = table[column].to_numpy(float)
        drawn = panel.scatter(positions[:, 0], positions[:, 1], c=values, cmap="viridis", **dots)
        figure.colorbar(drawn, ax=panel, label=column, shrink=0.8)
    else:
        _draw_kinds(panel, positions, table[column].astype(str).to_numpy(), column, dots)
    panel.set_title(title)
    # positions have no unit: only who lies beside whom counts
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_aspect("equal", "datalim")
    add_caption(figure, textwrap.wrap(caption, 90))
    return figure


def draw_probe(report: ProbeReport) -> Figure:
    """Draw what a probe found out: accuracy layer by layer, and who was taken for whom."""
    from matplotlib.ticker import MaxNLocator

    figure, (left, right) = new_picture(2, panel_in=5.0, aspect=0.8)
    table = report.table()
    for kind, rows in table.groupby("probe"):
        left.plot(rows["layer"], rows["balanced accuracy"], "o-", label=str(kind))
    left.axhline(report.chance, color="0.5", ls="--", label="guessing")
    left.set_xlabel("layer")
    left.set_ylabel("balanced accuracy")
    left.set_ylim(0, 1.02)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(fontsize=8)
    confusion = report.best.confusion
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    right.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = range(len(report.classes))
    right.set_xticks(names, report.classes, rotation=30, ha="right", fontsize=8)
    right.set_yticks(names, report.classes, fontsize=8)
    right.set_xlabel("given by the probe")
    right.set_ylabel("known")
    for y, x in np.ndindex(confusion.shape):
        ink = "white" if shares[y, x] > 0.6 else "black"
        right.text(x, y, str(confusion[y, x]), ha="center", va="center", color=ink, fontsize=8)
    right.set_title(f"layer {report.best.layer}, {report.best.kind}")
    add_caption(figure, textwrap.wrap(report.sentence, 110))
    return figure


def _is_measure(values: pd.Series[Any]) -> bool:
    return values.dtype.kind in "iuf" and values.nunique() > MAX_NAMES


def _draw_kinds(
    panel: Axes, positions: Array, kinds: Array, column: str, dots: Mapping[str, Any]
) -> None:
    names, sizes = np.unique(kinds, return_counts=True)
    for name in names[np.argsort(-sizes, kind="stable")][:MAX_NAMES]:
        rows = kinds == name
        panel.scatter(*positions[rows].T, label=f"{name} ({rows.sum()})", **dots)
    rest = ~np.isin(kinds, names[np.argsort(-sizes, kind="stable")][:MAX_NAMES])
    if rest.any():
        panel.scatter(*positions[rest].T, label=f"others ({rest.sum()})", color="0.7", **dots)
    panel.legend(title=column, markerscale=2, fontsize=8)
