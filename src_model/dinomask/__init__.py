"""DINOmask: instances in any microscopy image, corrected by pointing and clicking."""

from __future__ import annotations

__version__ = "0.1.0"
