"""What the base model finds for sure where nobody looked, learned along with what is known.

Corrections are few and show what was wrong. Without more, a model taught on them alone drifts
away from what it did right around them: so it also learns its own confident findings there
(self-training with a confidence threshold, as in Sohn et al., "FixMatch", arXiv 2001.07685).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt.trial import MARGIN_PX, cores_of, cut_tile
from dinomask.config import DetectConfig, NormaliseConfig
from dinomask.instances import UNSUPERVISED, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dinomask.instances import Array, Instances
    from dinomask.run.predictor import Predictor
    from dinomask.train.annotated import AnnotatedImage

MOST_WINDOWS = 48
"""Windows that are looked at, at most; the first ones of each image."""

FREE_SHARE = 0.9
"""Part of an object that must lie where nothing is known."""


def add_confident(
    images: Sequence[AnnotatedImage],
    predictor: Predictor,
    score: float,
    tick: Callable[[], object] | None = None,
) -> int:
    """Label what a model is sure of where nothing is known, around what is known.

    Where crops are put doesn't change: they stay on what the user looked at.

    Parameters
    ----------
    images : with their diameters; their labels are replaced
    predictor : the base model
    score : lowest score of what is added
    tick : called after each window; may raise to cancel

    Returns
    -------
    how many objects were added
    """
    n_added = 0
    most = max(1, MOST_WINDOWS // max(1, len(images)))
    for image in images:
        if not (image.labels_yx == UNSUPERVISED).any():
            continue
        found = _look(image, predictor, score, most, tick)
        n_added += _add(image, found)
    return n_added


def _look(
    image: AnnotatedImage,
    predictor: Predictor,
    score: float,
    most: int,
    tick: Callable[[], object] | None,
) -> list[Instances]:
    """Return what is found in each window, in image pixels."""
    target_px = predictor.target_diameter_px
    scale = target_px / (image.diameter_px or target_px)
    shape = (image.labels_yx.shape[0], image.labels_yx.shape[1])
    config = NormaliseConfig()
    pixels = image.normaliser(config.low_pct, config.high_pct).apply(image.image_cyx)
    parts = []
    for core in cores_of(image.labels_yx, scale)[:most]:
        tile, window = cut_tile(pixels, shape, scale, core)
        found = predictor.detect(tile, DetectConfig(score_threshold=score))
        height, width = tile.shape[1:]
        # what the margin's end cuts may be larger than it looks
        centres = (found.boxes_yxyx_px[:, :2] + found.boxes_yxyx_px[:, 2:]) / 2
        reach = MARGIN_PX / 2
        inside = (centres >= reach).all(1) & (centres < (height - reach, width - reach)).all(1)
        whole = (found.boxes_yxyx_px >= 1).all(1) & (
            found.boxes_yxyx_px[:, 2:] <= (height - 1, width - 1)
        ).all(1)
        found = found.take(np.flatnonzero(inside & whole))
        boxes = (found.boxes_yxyx_px + np.array([window[0], window[1]] * 2)) / scale
        parts.append(dataclasses.replace(found, boxes_yxyx_px=boxes.astype(np.float32)))
        if tick:
            tick()
    return parts


def _add(image: AnnotatedImage, parts: Sequence[Instances]) -> int:
    """Draw objects where nothing is known; what lies elsewhere, or double, is left out."""
    labels: Array = image.labels_yx.copy()
    classes = [] if image.classes is None else image.classes.tolist()
    first = max(int(labels.max(initial=0)) + 1, len(classes))
    number, last = first, np.iinfo(labels.dtype).max
    for found in parts:
        drawn = draw(found, (labels.shape[0], labels.shape[1]))
        for i in np.unique(drawn[drawn > 0]).tolist():
            mask = drawn == i
            free = mask & (labels == UNSUPERVISED)
            if number > last or free.sum() < FREE_SHARE * mask.sum():
                continue
            labels[free] = number
            number += 1
            if image.classes is not None:
                classes.append(int(found.classes[i - 1]))
    image.labels_yx = labels
    if image.classes is not None:
        image.classes = np.array(classes, np.int64)
    return number - first
