"""How well a model does on what is known of images: quick, and the same for every model.

Windows around what is known are cut and scaled once; every model sees the same ones.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from dinomask.config import PATCH_PX, DetectConfig, NormaliseConfig
from dinomask.image.resample import PAD_VALUE, clip_window, resample_window, scaled_length
from dinomask.instances import REFUTED, UNSUPERVISED, draw
from dinomask.measure.matching import TAUS, match
from dinomask.train.evaluate import leave_out_unsupervised

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dinomask.adapt.geometry import Box
    from dinomask.adapt.taught import TaughtImage
    from dinomask.instances import Array, Instances
    from dinomask.run.predictor import Predictor

CORE_PX = 224
MARGIN_PX = 56
"""Windows are cores with a margin of context, in model pixels."""

FLOOR = 0.15
"""Objects with lower scores are never looked at."""

HALF = TAUS.index(0.5)

QUALITY_TAUS = slice(HALF, TAUS.index(0.75) + 1)
"""IoU 0.5 to 0.75. Outlines of objects that were accepted, or added by a click, are the base's own:
asked for more, it would be right by definition, and nothing could be learned from them."""

THRESHOLDS = tuple(round(0.2 + 0.05 * i, 2) for i in range(10))
"""Score thresholds that are compared."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """A window of an image at the model's scale.

    Attributes
    ----------
    tile_cyx : shape (3, H, W), float32, normalised
    labels_yx : shape (H, W); -1 unknown, and so is everything beyond the core
    classes : shape (max label + 1,); class of each label; None: all of class 0
    """

    tile_cyx: Array
    labels_yx: Array
    classes: Array | None = None


@dataclasses.dataclass(frozen=True)
class TrialScores:
    """A model's quality, over all scenes together.

    Attributes
    ----------
    ap : shape (T, 10); TP / (TP + FP + FN) at each score threshold and IoU of `TAUS`
    thresholds : T score thresholds
    n_objects : true ones
    """

    ap: Array
    thresholds: tuple[float, ...]
    n_objects: int

    def at(self, threshold: float) -> Array:
        """Return the APs, shape (10,), at the nearest score threshold."""
        row = int(np.abs(np.array(self.thresholds) - threshold).argmin())
        chosen: Array = self.ap[row]
        return chosen

    def quality(self, threshold: float) -> float:
        """Return the mean AP over IoU 0.5 to 0.75 at the nearest score threshold."""
        return float(self.at(threshold)[QUALITY_TAUS].mean())

    def best_threshold(self, usual: float) -> float:
        """Return the threshold nearest to the usual one that is about as good as the best.

        Good is a high AP at IoU 0.5, neighbours averaged in. About as good is within half a
        standard error, √(p (1 − p) / n), of the best: 25 objects can't tell 0.35 from 0.45,
        and a threshold that is too high loses objects for good.
        """
        padded = np.pad(self.ap[:, HALF], 1, mode="edge")
        smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        best = float(smooth.max())
        error = math.sqrt(max(best * (1 - best), 0.01) / max(self.n_objects, 1))
        good = np.flatnonzero(smooth >= best - error / 2)
        away = np.abs(np.array(self.thresholds) - usual)
        chosen = int(good[away[good].argmin()])
        return usual if away[chosen] < 0.026 else self.thresholds[chosen]


def cut_scenes(
    images: Sequence[TaughtImage],
    target_px: float,
    typical_px: float | None,
    most: int = 16,
    seed: int = 0,
) -> list[Scene]:
    """Cut windows around what is known, scaled so that objects have the target diameter.

    Parameters
    ----------
    images : what is known
    target_px : the model's target diameter
    typical_px : diameter of objects where an image has too few to tell
    most : scenes at most, drawn at random if there were more
    """
    scenes = []
    for image in images:
        annotated = image.annotated(typical_px)
        scale = target_px / (annotated.diameter_px or typical_px or target_px)
        config = NormaliseConfig()
        pixels = annotated.normaliser(config.low_pct, config.high_pct).apply(image.image_cyx)
        cut = [
            _cut(pixels, image.labels_yx, scale, core) for core in cores_of(image.labels_yx, scale)
        ]
        scenes += [dataclasses.replace(scene, classes=image.classes) for scene in cut]
    scenes = [scene for scene in scenes if (scene.labels_yx != UNSUPERVISED).any()]
    if len(scenes) > most:
        chosen = np.random.default_rng(seed).choice(len(scenes), most, replace=False)
        scenes = [scenes[i] for i in np.sort(chosen)]
    return scenes


def cores_of(labels_yx: Array, scale: float) -> list[Box]:
    """Cover what is known with cores, half-open, in scaled pixels."""
    rows, cols = (np.flatnonzero((labels_yx != UNSUPERVISED).any(axis=a)) for a in (1, 0))
    if not len(rows):
        return []
    spans = []
    for known, n in ((rows, labels_yx.shape[0]), (cols, labels_yx.shape[1])):
        low = math.floor(known[0] * scale)
        high = min(math.ceil((known[-1] + 1) * scale), scaled_length(n, scale))
        parts = max(1, math.ceil((high - low) / CORE_PX))
        edges = np.linspace(low, max(high, low + 1), parts + 1).round().astype(int)
        spans.append(list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)))
    return [(y0, x0, y1, x1) for y0, y1 in spans[0] for x0, x1 in spans[1]]


def cut_tile(
    pixels: Array, shape_yx: tuple[int, int], scale: float, core: Box
) -> tuple[Array, Box]:
    """Return what the model is shown of a core and the margin around it.

    Parameters
    ----------
    pixels : shape (C, Y, X), normalised
    shape_yx : Y and X
    scale : of model pixels to image pixels
    core : in scaled pixels

    Returns
    -------
    tile_cyx : shape (3, H, W), float32; padded beyond the image
    window : where it lies, in scaled pixels; may reach beyond the image
    """
    sides = [
        math.ceil((core[i + 2] - core[i] + 2 * MARGIN_PX) / PATCH_PX) * PATCH_PX for i in (0, 1)
    ]
    top, left = core[0] - MARGIN_PX, core[1] - MARGIN_PX
    window = (top, left, top + sides[0], left + sides[1])
    tile = np.full((3, *sides), PAD_VALUE, np.float32)
    inner = _inner(window, shape_yx, scale)
    here = _within(inner, window)
    tile[(slice(None), *here)] = resample_window(pixels, (0, 0), shape_yx, (scale, scale), inner)
    return tile, window


def _cut(pixels: Array, labels_yx: Array, scale: float, core: Box) -> Scene:
    shape = (labels_yx.shape[0], labels_yx.shape[1])
    tile, window = cut_tile(pixels, shape, scale, core)
    truth = np.full(tile.shape[1:], UNSUPERVISED, np.int32)
    inner = _inner(window, shape, scale)
    y, x = (
        np.clip(((np.arange(inner[i], inner[i + 2]) + 0.5) / scale).astype(int), 0, shape[i] - 1)
        for i in (0, 1)
    )
    shown = labels_yx[y[:, None], x[None, :]]
    truth[_within(inner, window)] = np.where(shown == REFUTED, 0, shown)
    top, left = window[:2]
    _forget_beyond(truth, (core[0] - top, core[1] - left, core[2] - top, core[3] - left))
    return Scene(tile, truth)


def _inner(window: Box, shape_yx: tuple[int, int], scale: float) -> Box:
    scaled = (scaled_length(shape_yx[0], scale), scaled_length(shape_yx[1], scale))
    y0, x0, y1, x1 = clip_window(window, scaled)
    return y0, x0, y1, x1


def _within(inner: Box, window: Box) -> tuple[slice, slice]:
    top, left = window[:2]
    return np.s_[inner[0] - top : inner[2] - top, inner[1] - left : inner[3] - left]


def _forget_beyond(truth: Array, core: Box) -> None:
    """Make everything unknown that another scene judges: ground and objects beyond the core."""
    inside = np.zeros(truth.shape, bool)
    inside[core[0] : core[2], core[1] : core[3]] = True
    areas = np.bincount(truth[truth > 0], minlength=1)
    own = np.bincount(truth[inside & (truth > 0)], minlength=len(areas))
    # an object belongs to the core that shows most of it; it is then known as a whole
    belongs = np.append(2 * own > areas, False)
    kept = np.where(truth > 0, belongs[np.maximum(truth, 0)], inside)
    truth[~kept] = UNSUPERVISED


def score_scenes(
    predictor: Predictor,
    scenes: Sequence[Scene],
    thresholds: Sequence[float] = THRESHOLDS,
    tick: Callable[[], object] | None = None,
    scales: tuple[float, ...] = (),
) -> TrialScores:
    """Measure a model.

    Parameters
    ----------
    predictor : the model
    scenes : from `cut_scenes`
    thresholds : score thresholds
    tick : called after each scene; may raise to cancel
    scales : at which scenes are looked at beside their own
    """
    counts = np.zeros((len(thresholds), len(TAUS), 3))
    config = DetectConfig(score_threshold=FLOOR, tta_scales=scales)
    n_objects = 0
    for scene in scenes:
        found = predictor.detect(scene.tile_cyx, config)
        n_objects += len(np.unique(scene.labels_yx[scene.labels_yx > 0]))
        for t, threshold in enumerate(thresholds):
            counts[t] += _count(scene, found.take(found.scores >= threshold))
        if tick:
            tick()
    total = counts.sum(axis=2)
    # nothing to find and nothing found is right
    ap = np.divide(counts[..., 0], total, out=np.ones_like(total), where=total > 0)
    return TrialScores(ap, tuple(thresholds), n_objects)


def _count(scene: Scene, found: Instances) -> Array:
    """Count hits, false and missed objects at each IoU, class by class; shape (10, 3)."""
    drawn = draw(found, scene.labels_yx.shape)
    counts = np.zeros((len(TAUS), 3))
    last = int(found.classes.max(initial=0))
    if scene.classes is not None:
        last = max(last, int(scene.classes.max(initial=0)))
    for number in range(last + 1):
        truth, shown = scene.labels_yx, drawn
        if last:
            truth = np.where((truth > 0) & (_class_at(truth, scene.classes) != number), 0, truth)
            of_found = np.concatenate([[0], found.classes])
            shown = np.where(of_found[drawn] == number, drawn, 0)
        matching = match(*leave_out_unsupervised(truth, shown))
        for i, tau in enumerate(TAUS):
            count = matching.counts(tau)
            counts[i] += count.tp, count.fp, count.fn
    return counts


def _class_at(labels_yx: Array, classes: Array | None) -> Array:
    if classes is None:
        return np.zeros_like(labels_yx)
    at: Array = classes[np.maximum(labels_yx, 0)]
    return at
