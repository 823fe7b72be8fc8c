"""Pixels in: open any image lazily, examine it, normalise it. No torch here."""

from __future__ import annotations

from dinomask.image.doctor import Finding, describe, examine, require_usable
from dinomask.image.normalise import Normaliser, fit_normaliser
from dinomask.image.source import Image, open_image

__all__ = [
    "Finding",
    "Image",
    "Normaliser",
    "describe",
    "examine",
    "fit_normaliser",
    "open_image",
    "require_usable",
]
