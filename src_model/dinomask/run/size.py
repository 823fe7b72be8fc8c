"""How large the objects are: looked up by the model itself, at several scales."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dinomask.config import DetectConfig
from dinomask.image.resample import read_scaled
from dinomask.run.aside import Aside
from dinomask.run.places import busy_points, crop_windows
from dinomask.run.progress import Progress
from dinomask.run.seen import NESTED_WITHIN, Seen, choose

if TYPE_CHECKING:
    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image
    from dinomask.nets.adapter_manifest import AdapterManifest
    from dinomask.run.predictor import Predictor
    from dinomask.run.progress import OnProgress

Array = npt.NDArray[Any]

FIRST_GUESS_PX = 30.0
"""Diameter in image pixels at which the first look is taken, unless an adapter was taught
on objects of another. The model sees objects from a quarter to four times its target
diameter."""

OTHER_GUESSES_PX = (14.0, 64.0, 130.0)
"""Guesses of further looks, if the first one isn't believed."""

SAME_WITHIN = 1.2
"""Objects that are within this factor of the guess are measured in that look."""

NESTED_CROPS = 4
"""A crop of a finer look shows few of them: so many are looked at before that is decided."""

ENOUGH_OBJECTS = 12
REFINING_CROPS = 3
"""Objects are measured in so many crops at most, until it has seen enough of them."""

SCORE_THRESHOLD = 0.35
"""Objects with a lower score don't count."""

ESTIMATE_SPREAD = 0.3
"""Standard deviation of the log of an estimate, seen on images far from the training's."""

LEAST_SPREAD = 0.15
"""That of the objects between images, where an adapter was taught on images all alike."""

CHOSEN_BY_SIZE = 0.5
"""A crop may show mostly the small or the large ones of its image's objects: so many standard
deviations of their log sizes come on top of `ESTIMATE_SPREAD`."""

TAUGHT_WITHIN = 2.0
"""An estimate that is more standard deviations from what an adapter was taught on speaks of
another magnification."""

TENTH = 1.2816
"""Standard deviations between the median and the tenth of a normal distribution's values."""


@dataclasses.dataclass(frozen=True)
class SizeEstimate:
    """The estimated size of an image's objects.

    Attributes
    ----------
    diameter_px : median diameter in image pixels; None if nothing was found
    n_objects : objects that it rests on
    """

    diameter_px: float | None
    n_objects: int


def estimate_diameter(
    image: Image,
    normaliser: Normaliser,
    predictor: Predictor,
    on_progress: OnProgress | None = None,
) -> SizeEstimate:
    """Estimate the median diameter of an image's objects.

    The model looks at a busy crop at a few scales. Crops are equally large for the model, so
    they show as many objects as fit, whatever the scale; at a wrong one the model sees few or
    doubtful ones. The scale with the most evidence (`Seen.evidence`) wins, unless finer ones
    agree on something inside; its objects are measured, at their own scale if that is another.

    Parameters
    ----------
    image, normaliser : what to look at; a few crops are read
    predictor : the model
    on_progress : told after each crop, and again and again meanwhile; may raise to cancel
    """
    points = busy_points(image, normaliser)
    looks = _Looks(image, normaliser, predictor, points, on_progress)
    with looks.aside:
        return _estimate(looks)


def _estimate(looks: _Looks) -> SizeEstimate:
    predictor = looks.predictor
    first, *others = _guesses_px(predictor)
    seen = [looks.at(first)]
    if not seen[0].is_sure:
        # nothing is larger than the image
        most = max(*looks.image.shape_yx, min(OTHER_GUESSES_PX))
        seen += [looks.at(guess) for guess in others if guess <= most]
        seen = _inside(looks, seen)
    best = choose(seen)
    rough = best.median_px
    if rough is None:
        return SizeEstimate(None, 0)
    is_near = abs(math.log(rough / best.guess_px)) < math.log(SAME_WITHIN)
    measured = looks.at(best.guess_px if is_near else rough, REFINING_CROPS, ENOUGH_OBJECTS)
    if measured.evidence < best.evidence / 2:
        # fewer objects at their own scale: parts of them, or none
        measured = best
    diameter = measured.median_px or rough
    n_objects = len(measured.diameters_px)
    return SizeEstimate(round(towards_taught(diameter, predictor.adapter), 2), n_objects)


def _inside(looks: _Looks, seen: list[Seen]) -> list[Seen]:
    """Look at more crops, if what was seen may have something inside."""
    most = max(seen, key=lambda look: look.evidence).largest_inside_px
    finer = [look.guess_px for look in seen if look.guess_px < NESTED_WITHIN * most]
    if len(finer) < 2 or not any(look.shows_below(most) for look in seen):
        return seen
    return [
        looks.at(look.guess_px, NESTED_CROPS, ENOUGH_OBJECTS) if look.guess_px in finer else look
        for look in seen
    ]


def towards_taught(diameter_px: float, adapter: AdapterManifest | None) -> float:
    """Move an estimate towards the size of the objects that an adapter was taught on.

    Both are taken for normally distributed in their logs: the mean weighted by 1 / variance
    is the likeliest. An estimate that is off by more than `TAUGHT_WITHIN` is left as it is.
    """
    if adapter is None or adapter.diameter_px is None:
        return diameter_px
    of_objects = math.log(adapter.diameter_ratio or 1.0) / (2 * TENTH)
    estimated = ESTIMATE_SPREAD**2 + (CHOSEN_BY_SIZE * of_objects) ** 2
    taught = max(adapter.diameter_spread or 0.0, LEAST_SPREAD) ** 2
    apart = math.log(adapter.diameter_px / diameter_px)
    if abs(apart) > TAUGHT_WITHIN * math.sqrt(estimated + taught):
        return diameter_px
    return diameter_px * math.exp(apart * estimated / (estimated + taught))


def _guesses_px(predictor: Predictor) -> tuple[float, ...]:
    """Return the diameters at which to look, the likeliest first."""
    usual = (FIRST_GUESS_PX, *OTHER_GUESSES_PX)
    taught = predictor.adapter and predictor.adapter.diameter_px
    return (taught, *usual) if taught else usual


@dataclasses.dataclass
class _Looks:
    """Crops of one image, seen at guessed object sizes."""

    image: Image
    normaliser: Normaliser
    predictor: Predictor
    points_yx_px: Array
    on_progress: OnProgress | None
    started: float = dataclasses.field(default_factory=time.monotonic)
    done: int = 0
    known: dict[float, Seen] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.aside = Aside(self.tell)

    def at(self, guess_px: float, max_crops: int = 1, enough: int = 1) -> Seen:
        """Look at busy crops, taking objects for `guess_px` large, until enough are seen.

        Crops that were seen at this guess before are not looked at again.
        """
        nothing = np.zeros(0)
        seen = self.known.get(guess_px, Seen(guess_px, nothing, nothing, 0))
        scale = _scale(self.predictor, guess_px)
        windows = crop_windows(self.image.shape_yx, self.points_yx_px, scale, max_crops)
        for window in windows[seen.n_crops :]:
            if seen.n_crops and len(seen.diameters_px) >= enough:
                break
            diameters, scores = self.aside.run(functools.partial(self._measure, scale, window))
            seen = Seen(
                guess_px,
                np.concatenate([seen.diameters_px, diameters]),
                np.concatenate([seen.scores, scores]),
                seen.n_crops + 1,
            )
            self.done += 1
            self.tell()
        self.known[guess_px] = seen
        return seen

    def tell(self) -> None:
        """Tell how many crops have been looked at; may raise to cancel."""
        if self.on_progress:
            usual = len(_guesses_px(self.predictor)) + REFINING_CROPS
            total = max(usual, self.done + 1)
            elapsed = time.monotonic() - self.started
            self.on_progress(Progress("size", self.done, total, elapsed))

    def _measure(self, scale: float, window: tuple[int, int, int, int]) -> tuple[Array, Array]:
        """Return diameters in image pixels, and scores, of the objects in one crop."""
        tile = read_scaled(self.image, self.normaliser, scale, window)
        instances = self.predictor.detect(tile, DetectConfig(score_threshold=SCORE_THRESHOLD))
        return instances.diameters_px() / scale, instances.scores


def _scale(predictor: Predictor, diameter_px: float) -> float:
    return predictor.target_diameter_px / diameter_px
