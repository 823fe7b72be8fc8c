"""What a look at one scale shows, and which of several looks to believe."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SURE_WITHIN = 1.5
"""The first look is believed if what it shows is within this factor of the guess …"""

SURE_EVIDENCE = 4.0
"""… and is as much as this many perfect objects; see `Seen.evidence`."""

NESTED_APART = 3.0
"""Objects so many times smaller than those with the most evidence may lie inside them: nuclei in
cells, cells in clumps. They are preferred …"""

NESTED_WITHIN = 1.55
"""… if two finer looks show the same ones, within this factor …"""

NESTED_EVIDENCE = 0.25
"""… each with evidence for so many perfect ones a crop. What only looks like objects, such as
grain, has another size at every scale."""

WHOLE_EVIDENCE = 6.5
"""A look with evidence for more perfect ones a crop is believed: what lies inside of so many sure
objects is their texture. Stained cells, in which nuclei are meant, show six at most; the grain of
powder particles, which was taken for objects, lies in more."""

SCORE_POWER = 2.0
"""How much more a sure object counts than a doubtful one."""

SPREAD = 0.9
"""Spread, in log size, of the trust in objects away from the target diameter."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What crops show at one guess.

    Attributes
    ----------
    guess_px : diameter in image pixels that objects were taken to have
    diameters_px, scores : shape (N,), of objects; in image pixels
    n_crops : looked at
    """

    guess_px: float
    diameters_px: Array
    scores: Array
    n_crops: int

    @property
    def evidence(self) -> float:
        """How much a crop shows: Σ score² exp(-½ (ln(diameter / guess) / SPREAD)²)."""
        distance = np.log(np.maximum(self.diameters_px, 1e-3) / self.guess_px) / SPREAD
        trust = self.scores**SCORE_POWER * np.exp(-0.5 * distance**2)
        return float(trust.sum()) / max(self.n_crops, 1)

    @property
    def median_px(self) -> float | None:
        """Median diameter; None if nothing was seen."""
        return float(np.median(self.diameters_px)) if len(self.diameters_px) else None

    @property
    def largest_inside_px(self) -> float:
        """How large objects may be that lie inside of those seen; 0 if none can."""
        if self.evidence > WHOLE_EVIDENCE:
            return 0.0
        return (self.median_px or 0.0) / NESTED_APART

    def shows_below(self, most_px: float) -> bool:
        """Tell whether objects were seen that are smaller than this."""
        return self.median_px is not None and self.median_px < most_px

    @property
    def is_sure(self) -> bool:
        """Whether other guesses need no look."""
        median = self.median_px
        if median is None or self.evidence < SURE_EVIDENCE:
            return False
        return abs(math.log(median / self.guess_px)) < math.log(SURE_WITHIN)


def choose(seen: list[Seen]) -> Seen:
    """Return the look with the most evidence, or the one that shows best what is inside of it.

    Something is inside where two finer looks agree on objects that are far smaller.
    """
    best = max(seen, key=lambda look: look.evidence)
    inner = [
        look
        for look in seen
        if look.evidence >= NESTED_EVIDENCE and look.shows_below(best.largest_inside_px)
    ]
    for one, other in itertools.combinations(inner, 2):
        apart = abs(math.log((one.median_px or 1.0) / (other.median_px or 1.0)))
        if apart < math.log(NESTED_WITHIN):
            return max(one, other, key=lambda look: look.evidence)
    return best
