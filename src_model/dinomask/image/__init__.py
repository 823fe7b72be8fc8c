"""Pixels in: open any image lazily, examine it, normalise it. No torch here."""

from __future__ import annotations

from dinomask.image.doctor import Finding, describe, examine, require_usable
from dinomask.image.normalise import Normaliser, fit_normaliser
from dinomask.image.source import Image, open_image
from dinomask.image.stack import Stack, fit_stack_normaliser, open_stack

__all__ = [
    "Finding",
    "Image",
    "Normaliser",
    "Stack",
    "describe",
    "examine",
    "fit_normaliser",
    "fit_stack_normaliser",
    "open_image",
    "open_stack",
    "require_usable",
]
