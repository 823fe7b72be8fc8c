"""The method `coarse`: objects are shown to the network at fewer pixels.

The cheapest pixel is one that isn't looked at: the work grows with the square of the diameter
at which objects are shown. Networks are scaled so, and not in width and depth alone, by Tan and
Le, "EfficientNet", arXiv 1905.11946.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from dinomask.compress.mixing import rebuilt

if TYPE_CHECKING:
    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import CoarseSettings

LEAST_PX = 10.0
"""Objects of fewer pixels are smaller than the cells of the finest level that finds them."""


class Coarse:
    """Lower the diameter to which objects are resampled."""

    def reason_against(self, subject: Subject, settings: CoarseSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        target_px = subject.model.config.target_diameter_px * settings.ratio
        if target_px < LEAST_PX:
            return f"objects of {target_px:.1f} px are too small for it to find"
        return None

    def apply(self, subject: Subject, settings: CoarseSettings, work: Work) -> Subject:
        """Return the same network for smaller objects; methods after it see them so."""
        before_px = subject.model.config.target_diameter_px
        target_px = round(before_px * settings.ratio, 2)
        model = rebuilt(subject.model, target_diameter_px=target_px)
        work.show_objects_at(target_px)
        work.note(f"objects are shown {target_px:g} px large instead of {before_px:g}")
        return dataclasses.replace(subject, model=model)


COARSE = Coarse()
