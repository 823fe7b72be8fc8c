"""What the Explain panel says."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_dinomask.explaining import Shown

CLICK = "Click a place or a cell in the image, to see where the model looks from there."
LOOKING = "The model is looking; the first time it is loaded too…"

_ELSEWHERE = 0.05


def say_shown(shown: Shown) -> str:
    """Say what a map shows, e.g. ``Layer 11, mean of 3 heads, from cell 7``."""
    intent = shown.intent
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
    most = float(shown.heat.relative_yx.max())
    text = f"{what}, {whence}. Brightest place: {most:.1f} × even attention."
    if shown.heat.elsewhere >= _ELSEWHERE:
        text += f" {shown.heat.elsewhere:.0%} goes to class and register tokens."
    return escape(text)
