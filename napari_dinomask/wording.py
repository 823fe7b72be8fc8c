"""What the panels say: progress, results, errors and findings in words."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from dinomask.errors import DinomaskError
    from dinomask.image.doctor import Finding
    from dinomask.nets.catalogue import Manifest
    from dinomask.run.progress import Progress
    from napari_dinomask.session import LayerFacts

_STAGES = {
    "wait": "Waiting for the previous run to stop",
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

_BACKBONE_SIZES = ("tiny", "small", "base", "large", "giant")


def say_progress(progress: Progress) -> str:
    """Say where a run stands, e.g. ``Finding objects · tile 3 of 12 · 8 s left``."""
    parts = [_STAGES.get(progress.stage, progress.stage)]
    if progress.stage == "detect":
        parts.append(f"tile {progress.done} of {progress.total}")
    if progress.eta_s is not None and progress.eta_s >= 0.5:
        parts.append(f"{say_duration(progress.eta_s)} left")
    return " · ".join(parts) + ("…" if len(parts) == 1 else "")


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


def say_result(table: pd.DataFrame, facts: LayerFacts, elapsed_s: float) -> str:
    """Say what a run found, e.g. ``143 cells, median 18.2 px (9.1 µm), 3.4 s``."""
    count = len(table)
    if not count:
        return f"No cells found, {say_duration(elapsed_s)}"
    diameter_px = float(np.median(np.sqrt(4 / np.pi * table["area_px"])))
    cells = f"1{_SPACE}cell" if count == 1 else f"{count:,}{_SPACE}cells"
    return f"{cells}, median {say_length(diameter_px, facts)}, {say_duration(elapsed_s)}"


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
    if facts.plane:
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
    return escape(_OPTIONS.sub("", remedy))
