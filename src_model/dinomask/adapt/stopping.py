"""When to stop correcting: what the last reviewed objects say about all the others."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from dinomask.adapt.geometry import clip_box
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.adapt.journal import Journal
    from dinomask.adapt.label_store import LabelStore
    from dinomask.adapt.reviewed import Reviewed

LAST = 30
"""So many reviewed objects are looked back at."""

MOST_WRONG = 0.15
"""Part of all objects that may still need a correction; 1 of 30 shows that there are fewer."""

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class StopAdvice:
    """Whether to go on.

    Attributes
    ----------
    can_stop : whether few enough objects can be wrong
    n_reviewed, n_corrected : the last objects that were reviewed, and how many needed it
    most_wrong : upper bound of the part of objects that needs a correction
    text : the same in words
    """

    can_stop: bool
    n_reviewed: int
    n_corrected: int
    most_wrong: float
    text: str


def stop_advice(
    needed: Sequence[bool],
    *,
    last: int = LAST,
    most_wrong: float = MOST_WRONG,
    confidence: float = CONFIDENCE,
) -> StopAdvice:
    """Tell whether so few objects need a correction that the user can stop.

    Of the last n objects that were reviewed, k needed a correction. If objects
    were drawn by chance, the part p of all that need one is below the one-sided
    bound of Clopper and Pearson (Biometrika 26, 1934, p. 404),

        p_upper = Beta⁻¹(confidence; k + 1, n − k),

    the largest p for which k or fewer of n would still be seen with a probability
    of 1 − confidence. For n = 30 and 95 %: 0.095 for k = 0, 0.149 for 1, 0.195
    for 2. One can stop once p_upper is at most `most_wrong`.

    What the bound can't know: reviewed objects are not drawn by chance. Suggested
    tiles are harder than others, which makes it too careful; tiles that look alike
    make it too bold. And it holds for one look: asked after every one of 100
    objects of which truly 15 % need a correction, it says stop at least once in 36 %
    of all cases (simulated; one look: 5 %), at 20 % in 12 % and at 25 % in 3 %.

    Parameters
    ----------
    needed : whether each reviewed object needed a correction, oldest first
    last : so many of them are looked back at; with fewer there is no advice to stop
    most_wrong : the part of objects that may be wrong
    confidence : of the bound

    Raises
    ------
    SettingsError
        If a setting is outside its range.
    """
    if last < 1 or not 0 < most_wrong < 1 or not 0 < confidence < 1:
        raise SettingsError(
            expected="at least one object, a part and a confidence between 0 and 1",
            got=f"{last}, {most_wrong:g} and {confidence:g}",
            remedy="Leave them out.",
        )
    looked_at = list(needed)[-last:]
    n, k = len(looked_at), sum(looked_at)
    upper = upper_rate(k, n, confidence)
    can_stop = n >= last and upper <= most_wrong
    seen = f"the last {n} reviewed objects needed {k} correction{'' if k == 1 else 's'}"
    if can_stop:
        text = f"you can stop: {seen}"
    elif n < last:
        text = f"go on: {n} object{'' if n == 1 else 's'} reviewed; {last} tell how good it is"
    else:
        text = f"go on: {seen}, so up to {upper:.0%} of all may need one"
    return StopAdvice(can_stop, n, k, upper, text)


def upper_rate(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """Return the upper bound of a part of which k in n were seen; see `stop_advice`."""
    if k >= n:
        return 1.0
    return float(stats.beta.ppf(confidence, k + 1, n - k))


def review_outcomes(journal: Journal, store: LabelStore) -> list[bool]:
    """Return of each object that was reviewed whether it needed a correction, oldest first.

    An object counts once, however often it was redrawn, and a split or a merge is
    one correction. Objects that were accepted, and those in reviewed regions that
    nobody touched, needed none.

    Parameters
    ----------
    journal : what was done
    store : the labels as they are now, in which the objects of regions are found
    """
    outcomes: list[tuple[str, bool]] = []
    corrected: set[tuple[tuple[int, ...], int]] = set()
    accepted: dict[tuple[tuple[int, ...], int], str] = {}
    for correction in journal.corrections():
        labels = {(correction.plane, label) for label in correction.labels}
        if correction.kind == "accept":
            accepted |= dict.fromkeys(labels, correction.time)
        else:
            if not labels <= corrected:
                outcomes.append((correction.time, True))
            corrected |= labels
    right = {label: when for label, when in accepted.items() if label not in corrected}
    for region in journal.reviewed():
        for label in _labels_in(store, region):
            key = (region.plane, label)
            if key not in corrected:
                right.setdefault(key, region.time)
    outcomes += [(when, False) for when in right.values()]
    return [wrong for _, wrong in sorted(outcomes, key=lambda outcome: outcome[0])]


def _labels_in(store: LabelStore, region: Reviewed) -> list[int]:
    """Return the objects that show at least half of themselves inside a region, of its box."""
    window = clip_box(region.box_yxyx_px, store.shape_yx)
    if window[2] <= window[0] or window[3] <= window[1]:
        return []
    labels_yx = store.read(window, region.plane)
    ids, counts = np.unique(labels_yx, return_counts=True)
    inside, shown = np.unique(labels_yx[region.mask(window)], return_counts=True)
    share = shown / counts[np.searchsorted(ids, inside)]
    return [int(label) for label in inside[share >= 0.5] if label > 0]
