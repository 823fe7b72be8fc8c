"""How large the objects are: looked up by the model itself, at several scales."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dinomask.config import DetectConfig
from dinomask.image.resample import read_scaled, scaled_length
from dinomask.run.progress import Progress

if TYPE_CHECKING:
    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image
    from dinomask.instances import Instances
    from dinomask.run.predictor import Predictor
    from dinomask.run.progress import OnProgress

Array = npt.NDArray[Any]

CROP_PX = 224
"""Side of the crops, in model pixels."""

FIRST_GUESSES_PX = (14.0, 42.0, 130.0)
"""Diameters in image pixels that the first look takes in turn. The model sees
objects from a quarter to four times its target diameter, so the guesses overlap."""

CROPS_A_GUESS = 2
REFINING_CROPS = 3

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

    A first look at several scales finds roughly how large objects are, each
    one trusted by its score and by how close it is to the size the model knows
    best; a second look at that scale measures them.

    Parameters
    ----------
    image, normaliser : what to look at; a few crops are read
    predictor : the model
    on_progress : told after each crop; may raise to cancel
    """
    started = time.monotonic()
    points = busy_points(image, normaliser)
    total = len(FIRST_GUESSES_PX) * CROPS_A_GUESS + REFINING_CROPS
    done = 0
    found: list[tuple[Array, Array]] = []

    def look(diameter_px: float, n_crops: int) -> list[tuple[Array, Array]]:
        nonlocal done
        views = []
        for window in crop_windows(image.shape_yx, points, _scale(predictor, diameter_px), n_crops):
            views.append(_measure(image, normaliser, predictor, diameter_px, window))
            done += 1
            if on_progress:
                on_progress(Progress("size", min(done, total), total, time.monotonic() - started))
        return views

    for guess in FIRST_GUESSES_PX:
        # nothing is larger than the image
        if guess <= max(*image.shape_yx, FIRST_GUESSES_PX[0]):
            found += look(guess, CROPS_A_GUESS)
    rough = _weighted_median(found)
    if rough is None:
        return SizeEstimate(None, 0)
    refined = look(rough, REFINING_CROPS)
    diameters = np.concatenate([d for d, _ in refined])
    diameter = float(np.median(diameters)) if len(diameters) else rough
    return SizeEstimate(round(diameter, 2), len(diameters))


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
    normalised intensities.

    Returns
    -------
    shape (N, 2), y and x of block centres in image pixels, busiest first
    """
    height, width = image.shape_yx
    tops = np.unique(np.linspace(0, max(height - block_px, 0), n_grid).astype(int))
    lefts = np.unique(np.linspace(0, max(width - block_px, 0), n_grid).astype(int))
    points, activity = [], []
    for y in tops:
        for x in lefts:
            window = (int(y), int(x), int(min(y + block_px, height)), int(min(x + block_px, width)))
            activity.append(float(normaliser.apply(image.read(window)).std()))
            points.append(((window[0] + window[2]) / 2, (window[1] + window[3]) / 2))
    order = np.argsort(-np.array(activity), kind="stable")
    return np.array(points)[order]


def crop_windows(
    shape_yx: tuple[int, int], points_yx_px: Array, scale: float, n: int
) -> list[tuple[int, int, int, int]]:
    """Place up to n crops on the busiest points, without repeating a place.

    Returns
    -------
    half-open windows in scaled pixels, `CROP_PX` square; one centred window if
    the scaled image is smaller than that
    """
    size = [scaled_length(length, scale) for length in shape_yx]
    windows: list[tuple[int, int, int, int]] = []
    for point in points_yx_px:
        start = []
        for axis in range(2):
            first = round(float(point[axis]) * scale - CROP_PX / 2)
            spare = size[axis] - CROP_PX
            start.append(min(max(first, 0), spare) if spare > 0 else 0)
        window = (start[0], start[1], start[0] + CROP_PX, start[1] + CROP_PX)
        far = all(abs(window[0] - w[0]) + abs(window[1] - w[1]) >= CROP_PX // 2 for w in windows)
        if far:
            windows.append(window)
        if len(windows) == n:
            break
    return windows
