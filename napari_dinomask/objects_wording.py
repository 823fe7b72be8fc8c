"""What the Objects tab of the Explain panel says."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from napari_dinomask.wording import say_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.run.progress import Progress
    from napari_dinomask.colouring import Colouring, Rgb

NO_LABELS = "Choose the labels whose cells you want to look at, or segment the image first."
BEGIN = "Map the cells: those that look alike to the model will lie together."
NO_PLOTS = "To see the map, install pyqtgraph: pip install 'napari-dinomask[app]'"
WRITING = "The correction before is still being written."
NOTHING_CHOSEN = "Choose cells first: drag a lasso on the map, or click cells in the image."
CANCELLED = "Cancelled; nothing was changed."

NO_IMAGE_YET = "Open an image first."
COLOUR_BEGIN = (
    "Colour the image by what the model sees: places it takes for the same look the same."
)

_SPACE = "\u00a0"
_STAGES = {
    "wait": "Waiting for another run",
    "open": "Looking at the image",
    "load": "Loading the model (slow only the first time)",
    "measure": "Measuring the cells",
    "features": "Looking at the cells",
    "umap": "Laying out by UMAP",
    "tsne": "Laying out by t-SNE",
    "kmeans": "Finding groups",
    "hdbscan": "Finding groups",
    "probe": "Trying the probes",
    "size": "Estimating the object size",
    "pca": "Looking at the image",
}


def say_stage(progress: Progress) -> str:
    """Say where the work stands, e.g. ``Looking at the cells · 3 of 12 · 8 s left``."""
    parts = [_STAGES.get(progress.stage, progress.stage)]
    if progress.total:
        is_counted = progress.stage in ("features", "pca")
        share = 100 * progress.done / progress.total
        count = f"{progress.done:,} of {progress.total:,} tiles" if is_counted else f"{share:.0f} %"
        parts.append(count)
        if progress.eta_s is not None and progress.eta_s >= 0.5:
            parts.append(f"{say_duration(progress.eta_s)} left")
    return " · ".join(parts) + ("…" if len(parts) == 1 else "")


def say_cells(n: int) -> str:
    """Say a number of cells."""
    return f"1{_SPACE}cell" if n == 1 else f"{n:,}{_SPACE}cells"


def say_mapped(n: int, notes: Sequence[str], n_others: int) -> str:
    """Say what is on the map."""
    parts = [f"{say_cells(n)} on the map.", *notes]
    if n_others:
        parts.append(f"{say_cells(n_others)} were drawn or redrawn since; map again to see them.")
    return escape(" ".join(parts))


def say_coloured(n_tokens: int, layer: int, is_alone: bool) -> str:
    """Say what was coloured."""
    what = f"{n_tokens:,} tokens of layer {layer}"
    return f"{what}." if is_alone else f"{what}, before and after the adapter in the same colours."


def say_chosen(n_chosen: int, n: int) -> str:
    """Say how many cells are chosen."""
    return f"{n_chosen:,} of {n:,} chosen" if n_chosen else f"none of {n:,} chosen"


def say_legend(colouring: Colouring, ink: str) -> str:
    """Lay a legend out as rich text in a colour; each class is a link to its code."""
    if colouring.limits is not None:
        return ""
    parts = [
        f'<span style="color:{say_colour(colouring.colours[c.code])}">■</span>{_SPACE}'
        f'<a href="{c.code}" style="color:{ink}; text-decoration:none">{escape(c.name)}'
        f"{_SPACE}({c.count:,})</a>"
        for c in colouring.categories
    ]
    return "&ensp; ".join(parts)


def say_colour(rgb: Rgb) -> str:
    """Return a colour as CSS has it."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def say_number(value: float) -> str:
    """Say a number with three digits, large ones whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
