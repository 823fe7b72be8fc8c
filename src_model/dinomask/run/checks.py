"""What a run asks of its image beforehand, and says about its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dinomask.errors import SettingsError
from dinomask.image.doctor import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from dinomask.image.normalise import Normaliser

MIN_SIDE_PX = 4
"""Images narrower than this can't show an object."""

NO_SIZE_PX = 32.0
"""Diameter that tiles are planned for where no object was found."""


def can_show_objects(normaliser: Normaliser, shape_yx: tuple[int, int]) -> bool:
    """Whether an image has contrast, and is large enough for an object."""
    has_contrast = any(h > low for low, h in zip(normaliser.low, normaliser.high, strict=True))
    return has_contrast and min(shape_yx) >= MIN_SIDE_PX


def check_diameter(diameter_px: float | Literal["auto"], shape_yx: tuple[int, int]) -> None:
    """Refuse a diameter that no object of the image can have.

    Raises
    ------
    SettingsError
        If it is larger than the image.
    """
    if diameter_px != "auto" and diameter_px > max(shape_yx):
        raise SettingsError(
            expected=f"a diameter up to the image's size of {max(shape_yx)} px",
            got=f"{diameter_px:g} px",
            remedy="Measure one object in pixels, or use 'auto'.",
        )


def run_findings(
    diameter_px: float | None, table: pd.DataFrame, failed: Sequence[Any]
) -> list[Finding]:
    """Say what a user should know about a run's result.

    Parameters
    ----------
    diameter_px : that it was segmented at; None if no object was found to estimate it
    table : a row an instance
    failed : a record a tile that failed
    """
    found = []
    if failed:
        what = f"{len(failed)} tiles failed; objects there are missing"
        remedy = "Run it again with --overwrite: it tries these, and keeps the others."
        found.append(Finding("warning", what, remedy))
    if diameter_px is None:
        what = "no object was found while estimating the object size"
        remedy = "If there are objects, give their size (--diameter PX)."
        found.append(Finding("warning", what, remedy))
    elif not len(table):
        what = f"no object of about {diameter_px:g} px was found"
        remedy = "Try another object size or a lower score threshold."
        found.append(Finding("warning", what, remedy))
    return found
