"""What a run asks of its image beforehand, and says about its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinomask.errors import SettingsError
from dinomask.image.doctor import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from dinomask.config import SegmentConfig
    from dinomask.image.normalise import Normaliser

MIN_SIDE_PX = 4
"""Images narrower than this can't show an object."""

ENOUGH_OBJECTS = 20
TELLING_RATIO = 4.0
"""Where the largest tenth of so many objects is this many times larger than the smallest, there
may be others beyond the sizes that one scale shows."""

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
    config: SegmentConfig,
    diameter_px: float | None,
    table: pd.DataFrame,
    failed: Sequence[Any],
) -> list[Finding]:
    """Say what a user should know about a run's result.

    Parameters
    ----------
    config : settings of the run
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
    elif not config.detect.tta_scales:
        found += _size_findings(table)
    return found


def _size_findings(table: pd.DataFrame) -> list[Finding]:
    areas = table["area_px"].to_numpy()
    areas = areas[areas > 0]
    if len(areas) < ENOUGH_OBJECTS:
        return []
    low, high = np.percentile(np.sqrt(4 / np.pi * areas), [10, 90])
    if high < TELLING_RATIO * low:
        return []
    what = f"the objects found are from {low:.0f} to {high:.0f} px large"
    remedy = (
        "If smaller or larger ones are missing, have them looked for too: --sizes mixed, "
        "or Advanced › Object sizes in napari."
    )
    return [Finding("info", what, remedy)]
