"""What the panels say: progress, results, errors and findings in words."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from dinomask.errors import DinomaskError
    from dinomask.image.doctor import Finding
    from dinomask.nets.catalogue import Manifest
    from dinomask.run.detect import FailedTile
    from dinomask.run.progress import Progress
    from napari_dinomask.session import LayerFacts

_STAGES = {
    "wait": "Waiting for another run",
    "pause": "Paused",
    "open": "Looking at the image",
    "load": "Loading the model (slow only the first time)",
    "size": "Estimating the object size",
    "detect": "Finding objects",
    "stitch": "Joining tiles",
    "render": "Drawing labels",
}

_SPACE = "\u00a0"
"""Keeps a number and its unit on one line."""

_OPTIONS = re.compile(r" \(--[^)]*\)")
"""Hints for the command line, which mean nothing here."""

_HERE = {
    "Add --overwrite to replace it": "Replace it",
    "Run it again with --overwrite": "Run it again",
    "add --restart to begin anew": "start over",
    "run the same command again": "press Segment again",
    "Run the same command again": "Press Segment again",
    "give the same command again": "press Segment again",
}
"""What a terminal's user is told to do, and what a panel's user does."""

_REASONS = 3

_BACKBONE_SIZES = ("tiny", "small", "base", "large", "giant")


def say_progress(progress: Progress, n_px: int = 0) -> str:
    """Say where a run stands, e.g. ``Finding objects · tile 3 of 12 · 8 s left · 1.2 Mpx/s``.

    Parameters
    ----------
    progress : as a run tells it
    n_px : pixels of the image; 0 where unknown
    """
    parts = [_STAGES.get(progress.stage, progress.stage)]
    if progress.stage in ("detect", "pause") and progress.total:
        parts.append(f"tile {progress.done:,} of {progress.total:,}")
    if progress.stage != "pause":
        if progress.eta_s is not None and progress.eta_s >= 0.5:
            parts.append(f"{say_duration(progress.eta_s)} left")
        parts += _say_speed(progress, n_px)
    return " · ".join(parts) + ("…" if len(parts) == 1 else "")


def _say_speed(progress: Progress, n_px: int) -> list[str]:
    done_now = progress.done - progress.resumed
    if progress.stage != "detect" or done_now <= 0 or not n_px or not progress.elapsed_s:
        return []
    px_per_s = n_px * done_now / progress.total / progress.elapsed_s
    if px_per_s < 1e6:
        return [f"{px_per_s / 1e3:,.0f}{_SPACE}kpx/s"]
    return [f"{px_per_s / 1e6:,.1f}{_SPACE}Mpx/s"]


def say_resumed(progress: Progress) -> str:
    """Say what an earlier run had done."""
    return f"{progress.resumed:,} of {progress.total:,} tiles are done already."


def say_cancelled(progress: Progress | None, out: Path | None) -> str:
    """Say what is left of a run that was given up."""
    if out is None or progress is None or progress.stage not in ("detect", "pause", "render"):
        return "Cancelled; nothing was changed."
    if progress.stage == "render":
        return "Cancelled; all tiles are kept. Press Segment to go on."
    done = f"{progress.done:,} of {progress.total:,}"
    return f"Cancelled; {done} tiles are kept. Press Segment to go on."


def say_exists(out: Path) -> str:
    """Ask what to do with an earlier result."""
    return f"<b>{escape(out.name)} is there already.</b><br>Show it, or replace it by a new run?"


def say_tile(tile: FailedTile, plane: Mapping[str, int]) -> str:
    """Name a failed tile, e.g. ``Tile 3`` or ``z 5, tile 3``, counted as elsewhere."""
    parts = [*(f"{axis} {index}" for axis, index in plane.items()), f"tile {tile.index + 1:,}"]
    text = ", ".join(parts)
    return text if plane else text.capitalize()


def say_failed_tiles(tiles: Sequence[FailedTile]) -> str:
    """Say that objects are missing, and why."""
    reasons = sorted({tile.reason for tile in tiles})
    text = "; ".join(reasons[:_REASONS]) + ("; …" if len(reasons) > _REASONS else "")
    count = "1 tile" if len(tiles) == 1 else f"{len(tiles):,} tiles"
    return (
        f"<b>{count} failed; objects there are missing.</b><br>{escape(text)}<br>"
        "<i>Another run of the same output tries them again.</i>"
    )


def say_edit_hint(name: str) -> str:
    """Say what can be done with a label image on disk."""
    return f"Zoom to the cells of “{name}” to correct, then edit what you see."


def say_editing(window_yxyx_px: tuple[int, int, int, int], is_whole_view: bool) -> str:
    """Say what of a label image is being edited."""
    y0, x0, y1, x1 = window_yxyx_px
    part = "this view" if is_whole_view else "the middle of this view, which is too large"
    return (
        f"Editing {part}: {x1 - x0:,} × {y1 - y0:,} px. Paint, fill and erase as usual, undo with "
        "Ctrl+Z; everything is saved at once."
    )


def say_duration(seconds: float) -> str:
    """Say a duration the way people do: 3.4 s, 47 s, 5 min, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f}{_SPACE}s"
    if seconds < 90:
        return f"{seconds:.0f}{_SPACE}s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes}{_SPACE}min"
    return f"{minutes // 60}{_SPACE}h {minutes % 60}{_SPACE}min"


def say_result(
    table: pd.DataFrame, facts: LayerFacts, elapsed_s: float, n_objects: int | None = None
) -> str:
    """Say what a run found, e.g. ``143 cells, median 18.2 px (9.1 µm), 3.4 s``.

    Parameters
    ----------
    table : a row a cell, in each of its planes
    facts : about the image
    elapsed_s : how long it took
    n_objects : that cells of several planes were linked into; None where they were not
    """
    where = f" in {facts.n_planes:,}{_SPACE}planes" if facts.whole else ""
    if not len(table):
        return f"No cells found{where}, {say_duration(elapsed_s)}"
    diameter_px = float(np.median(np.sqrt(4 / np.pi * table["area_px"])))
    cells = _say_count(len(table), "cell") + where
    if n_objects is not None:
        cells += f", linked into {_say_count(n_objects, 'object')}"
    return f"{cells}, median {say_length(diameter_px, facts)}, {say_duration(elapsed_s)}"


def _say_count(count: int, noun: str) -> str:
    return f"{count:,}{_SPACE}{noun}" + ("" if count == 1 else "s")


def say_length(length_px: float, facts: LayerFacts | None) -> str:
    """Say a length in pixels, and in µm where the pixel size is known."""
    length_um = facts.to_um(length_px) if facts else None
    text = f"{length_px:.1f}{_SPACE}px"
    return text if length_um is None else f"{text} ({say_um(length_um)})"


def say_um(length_um: float) -> str:
    """Say a length in µm with three digits."""
    return f"{length_um:.3g}{_SPACE}µm"


def say_layer(facts: LayerFacts) -> str:
    """Say what of a layer will be segmented."""
    height, width = facts.shape_yx
    parts = [f"{width:,} × {height:,} px" + (", RGB" if facts.is_rgb else "")]
    if facts.whole:
        sizes = ", ".join(f"{name} = 0 to {size - 1:,}" for name, _, size in facts.plane)
        parts.append(f"all {facts.n_planes:,} planes: {sizes}")
    elif facts.plane:
        # counted from 0, as on napari's sliders
        where = ", ".join(f"{name} = {index}" for name, index, _ in facts.plane)
        parts.append(f"the plane on display: {where}")
    return " · ".join(parts)


def say_model(manifest: Manifest) -> str:
    """Describe a model in one line."""
    parts = [_say_backbone(manifest.architecture.backbone)]
    names = [entry.get("name", "") for entry in manifest.trained_on]
    if any(names):
        parts.append("trained on " + ", ".join(name for name in names if name))
    if manifest.architecture.n_classes > 1:
        parts.append(f"{manifest.architecture.n_classes} classes")
    return " · ".join(parts)


def _say_backbone(name: str) -> str:
    words = name.split("_")
    size = next((w for w in words if w in _BACKBONE_SIZES), None)
    if size is None or words[0] not in ("dinomask", "vit"):
        return name
    family = "DINOv2 vision transformer" if "dinov2" in name else "vision transformer"
    return f"{size.capitalize()} {family}"


def say_error(error: DinomaskError) -> str:
    """Lay out an error as rich text: what is wrong, what was expected, what to do."""
    return (
        f"<b>{escape(error.got[:1].upper() + error.got[1:])}</b><br>"
        f"Expected {escape(error.expected)}.<br>"
        f"<i>{_say_remedy(error.remedy)}</i>"
    )


def say_crash(error: BaseException) -> str:
    """Lay out an error of the program itself."""
    return (
        f"<b>DINOmask failed: {escape(type(error).__name__)}</b><br>{escape(str(error))}<br>"
        "<i>The details are in napari's notification; please report them.</i>"
    )


def say_finding(finding: Finding) -> str:
    """Lay out a finding as rich text."""
    return f"{escape(finding.what)} <i>{_say_remedy(finding.remedy)}</i>"


def _say_remedy(remedy: str) -> str:
    for command, here in _HERE.items():
        remedy = remedy.replace(command, here)
    return escape(_OPTIONS.sub("", remedy))
