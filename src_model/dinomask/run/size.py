"""How large the objects are: looked up by the model itself, at several scales."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dinomask.config import DetectConfig
from dinomask.config.model import PATCH_PX
from dinomask.errors import ChunkError
from dinomask.image.resample import read_scaled, scaled_length
from dinomask.run.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image
    from dinomask.instances import Instances
    from dinomask.run.predictor import Predictor
    from dinomask.run.progress import OnProgress

Array = npt.NDArray[Any]

CROP_PX = 168
"""Side of the crops, in model pixels, where the image is that large."""

MIN_CROP_PX = 112
"""Side of the smallest crops."""

FIRST_GUESS_PX = 30.0
"""Diameter in image pixels at which the first look is taken, unless an adapter was taught
on objects of another. The model sees objects from a quarter to four times its target
diameter."""

SURE_WITHIN = 2.0
"""What a look shows is believed if it is within this factor of the guess."""

OTHER_GUESSES_PX = (14.0, 130.0)
"""Guesses of further looks, if the first one isn't believed."""

ENOUGH_OBJECTS = 12
REFINING_CROPS = 3
"""The second look takes so many crops at most, until it has seen enough objects."""

SCORE_THRESHOLD = 0.35
"""Objects with a lower score don't count."""

SCORE_POWER = 4.0
"""How much more a sure object counts than a doubtful one."""

SPREAD = 0.7
"""Spread, in log size, of the trust in objects away from the target diameter."""

FINENESS_POWER = 0.75
"""How much more an object found at a fine scale counts. Structures within
structures (nuclei in cells, cells in clumps) answer at several scales; the finer
ones are more in number, and so the median."""


ESTIMATE_SPREAD = 0.3
"""Standard deviation of the log of an estimate, seen on images far from the training's."""

LEAST_SPREAD = 0.15
"""That of the objects between images, where an adapter was taught on images all alike."""


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

    A first look finds roughly how large objects are, each one trusted by its
    score and by how close it is to the size the model knows best; if that is far
    from the guess, other scales are looked at too. A second look at the scale
    found measures them.

    Parameters
    ----------
    image, normaliser : what to look at; a few crops are read
    predictor : the model
    on_progress : told after each crop; may raise to cancel
    """
    points = busy_points(image, normaliser)
    looks = _Looks(image, normaliser, predictor, points, on_progress)
    first, *others = _guesses_px(predictor)
    found = looks.at(first)
    rough = _weighted_median(found)
    if rough is None or not 1 / SURE_WITHIN < rough / first < SURE_WITHIN:
        for guess in others:
            # nothing is larger than the image
            if guess <= max(*image.shape_yx, OTHER_GUESSES_PX[0]):
                found += looks.at(guess)
        rough = _weighted_median(found)
    if rough is None:
        return SizeEstimate(None, 0)
    refined = looks.at(rough, REFINING_CROPS, ENOUGH_OBJECTS)
    diameters = np.concatenate([d for d, _ in refined])
    diameter = float(np.median(diameters)) if len(diameters) else rough
    return SizeEstimate(round(_towards_taught(diameter, predictor), 2), len(diameters))


def _towards_taught(diameter_px: float, predictor: Predictor) -> float:
    """Move an estimate towards the size of the objects that an adapter was taught on.

    Both are taken for normally distributed in their logs: the mean weighted by 1 / variance
    is the likeliest. An estimate that is off by more than `SURE_WITHIN` speaks of another
    magnification and is left as it is.
    """
    adapter = predictor.adapter
    if adapter is None or adapter.diameter_px is None:
        return diameter_px
    apart = math.log(adapter.diameter_px / diameter_px)
    if abs(apart) > math.log(SURE_WITHIN):
        return diameter_px
    taught = max(adapter.diameter_spread or 0.0, LEAST_SPREAD) ** 2
    return diameter_px * math.exp(apart * ESTIMATE_SPREAD**2 / (ESTIMATE_SPREAD**2 + taught))


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

    def at(
        self, diameter_px: float, max_crops: int = 1, enough: int = 1
    ) -> list[tuple[Array, Array]]:
        """Measure busy crops, taking objects for `diameter_px` large, until enough are seen."""
        seen: list[tuple[Array, Array]] = []
        scale = _scale(self.predictor, diameter_px)
        for window in crop_windows(self.image.shape_yx, self.points_yx_px, scale, max_crops):
            seen.append(_measure(self.image, self.normaliser, self.predictor, diameter_px, window))
            self.done += 1
            if self.on_progress:
                total = len(_guesses_px(self.predictor)) + REFINING_CROPS
                elapsed = time.monotonic() - self.started
                self.on_progress(Progress("size", self.done, total, elapsed))
            if sum(len(d) for d, _ in seen) >= enough:
                break
        return seen


def _scale(predictor: Predictor, diameter_px: float) -> float:
    return predictor.target_diameter_px / diameter_px


def _measure(
    image: Image,
    normaliser: Normaliser,
    predictor: Predictor,
    diameter_px: float,
    window: tuple[int, int, int, int],
) -> tuple[Array, Array]:
    """Return diameters in image pixels, and weights, of the objects in one crop."""
    scale = _scale(predictor, diameter_px)
    tile = read_scaled(image, normaliser, scale, window)
    instances = predictor.detect(tile, DetectConfig(score_threshold=SCORE_THRESHOLD))
    diameters = model_diameters_px(instances)
    distance = np.log(np.maximum(diameters, 1e-3) / predictor.target_diameter_px) / SPREAD
    # a crop at a fine scale shows few objects, one at a coarse scale many:
    # the square root keeps the many from deciding alone
    share = diameter_px**-FINENESS_POWER / math.sqrt(max(len(diameters), 1))
    trust = instances.scores**SCORE_POWER * np.exp(-0.5 * distance**2)
    return diameters / scale, trust * share


def model_diameters_px(instances: Instances) -> Array:
    """Return the diameter of the circle of each mask's area, in the boxes' unit, shape (N,)."""
    boxes = instances.boxes_yxyx_px
    cell = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / np.prod(instances.masks.shape[1:])
    areas = (instances.masks >= 128).sum(axis=(1, 2)) * cell
    diameters: Array = np.sqrt(4 / np.pi * areas)
    return diameters


def _weighted_median(found: list[tuple[Array, Array]]) -> float | None:
    """Weighted median of diameters; None if there is no object."""
    diameters = np.concatenate([d for d, _ in found]) if found else np.zeros(0)
    weights = np.concatenate([w for _, w in found]) if found else np.zeros(0)
    if not weights.any():
        return None
    order = np.argsort(diameters)
    cumulative = np.cumsum(weights[order])
    middle = np.searchsorted(cumulative, cumulative[-1] / 2)
    return float(diameters[order][middle])


def busy_points(image: Image, normaliser: Normaliser, n_grid: int = 8, block_px: int = 64) -> Array:
    """Rank places of an image by how much there is to see.

    Blocks on an even grid are compared by the standard deviation of their
    normalised intensities; those that can't be read are passed over.

    Returns
    -------
    shape (N, 2), y and x of block centres in image pixels, busiest first
    """
    found = list(_blocks(image, normaliser, n_grid, block_px))
    points = np.array([point for point, _ in found]).reshape(-1, 2)
    return points[np.argsort([-contrast for _, contrast in found], kind="stable")]


def activity(image: Image, normaliser: Normaliser) -> float:
    """Return how much there is to see: the highest contrast of a block, as in `busy_points`."""
    blocks = _blocks(image, normaliser, n_grid=4, block_px=64)
    return max((contrast for _, contrast in blocks), default=0.0)


def _blocks(
    image: Image, normaliser: Normaliser, n_grid: int, block_px: int
) -> Iterator[tuple[tuple[float, float], float]]:
    """Yield centre and standard deviation of blocks on an even grid."""
    height, width = image.shape_yx
    tops = np.unique(np.linspace(0, max(height - block_px, 0), n_grid).astype(int))
    lefts = np.unique(np.linspace(0, max(width - block_px, 0), n_grid).astype(int))
    for y, x in itertools.product(tops.tolist(), lefts.tolist()):
        window = (y, x, min(y + block_px, height), min(x + block_px, width))
        with contextlib.suppress(ChunkError):
            contrast = float(normaliser.apply(image.read(window)).std())
            yield ((window[0] + window[2]) / 2, (window[1] + window[3]) / 2), contrast


def crop_windows(
    shape_yx: tuple[int, int], points_yx_px: Array, scale: float, n: int
) -> list[tuple[int, int, int, int]]:
    """Place up to n crops on the busiest points, without repeating a place.

    Returns
    -------
    half-open square windows in scaled pixels, of side `CROP_PX` or, where the
    image is smaller, the least multiple of 14 from `MIN_CROP_PX` that shows all of it
    """
    size = [scaled_length(length, scale) for length in shape_yx]
    side = min(CROP_PX, max(MIN_CROP_PX, math.ceil(max(size) / PATCH_PX) * PATCH_PX))
    windows: list[tuple[int, int, int, int]] = []
    for point in points_yx_px:
        start = []
        for axis in range(2):
            first = round(float(point[axis]) * scale - side / 2)
            spare = size[axis] - side
            start.append(min(max(first, 0), spare) if spare > 0 else 0)
        window = (start[0], start[1], start[0] + side, start[1] + side)
        far = all(abs(window[0] - w[0]) + abs(window[1] - w[1]) >= side // 2 for w in windows)
        if far:
            windows.append(window)
        if len(windows) == n:
            break
    return windows
