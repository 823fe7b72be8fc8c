"""What the Explain panel says."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dinomask.explain.head_figures import HeadFigures
    from napari_dinomask.explaining import Shown

CLICK = "Click a place or a cell in the image, to see where the model looks from there."
LOOKING = "The model is looking; the first time it is loaded too…"

_ELSEWHERE = 0.05

_MAPS = {
    "score": "The detector's score at each place: √(class · centerness), all levels.",
    "class": "How sure the detector is, at each place, that it is inside an object.",
    "centerness": "How central in an object the detector takes each place to be.",
    "mask": "Where the mask head looks in the box of the object here (SAG-Mask's attention).",
}


def say_shown(shown: Shown) -> str:
    """Say what a map shows, e.g. ``Layer 11, mean of 3 heads, from cell 7``."""
    intent = shown.intent
    if intent.what != "attention":
        return escape(_MAPS[intent.what])
    y, x = shown.clicked.point_yx_px
    whence = {
        "place": f"from y {y:.0f}, x {x:.0f}",
        "cell": f"from cell {shown.clicked.label}",
        "class": "of the class token",
        "registers": "of the register tokens",
        "all": "of all places",
    }[intent.whose]
    if intent.rollout:
        what = f"Rollout up to layer {intent.layer}"
    else:
        who = f"mean of {shown.n_heads} heads" if intent.head is None else f"head {intent.head}"
        what = f"Layer {intent.layer}, {who}"
    most = float(shown.values_yx.max())
    text = f"{what}, {whence}. Brightest place: {most:.1f} × even attention."
    if shown.heat.elsewhere >= _ELSEWHERE:
        text += f" {shown.heat.elsewhere:.0%} goes to class and register tokens."
    return escape(text)


def say_reason(shown: Shown) -> str:
    """Say why there is an object at the clicked place, or none."""
    return escape(shown.reason.sentence)


def say_head(figures: HeadFigures) -> str:
    """Say how local a head looks, in two short lines."""
    return f"head {figures.head}\n{figures.entropy_bits:.1f} bits\n{figures.distance_px:.0f} px"
