"""Objects of very different sizes in one image, each looked for at a scale that suits it."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dinomask.config import AugmentConfig, SegmentConfig
    from dinomask.run.predictor import Predictor

MIXED_SCALES = (0.45, 2.2)
"""Scales at which objects of very different sizes are looked for beside the first: together they
show objects from a fifth to five times the median at sizes that the model knows well."""

MIXED_RATIO = 4.5
"""Objects are of very different sizes where the largest tenth is this many times larger than the
smallest. Of nuclei and cells in an image it is from 1.5 to 3.5 times, of powder about 8."""


def with_scales(config: SegmentConfig, predictor: Predictor) -> SegmentConfig:
    """Return settings with the scales at which a model's objects are to be looked for.

    Scales that the settings name already stay as they are.
    """
    if config.detect.tta_scales or not _are_mixed(config, predictor):
        return config
    detect = dataclasses.replace(config.detect, tta_scales=MIXED_SCALES)
    return dataclasses.replace(config, detect=detect)


def are_mixed(diameter_ratio: float | None) -> bool:
    """Tell whether objects are of very different sizes; see `AdapterManifest.diameter_ratio`."""
    return diameter_ratio is not None and diameter_ratio >= MIXED_RATIO


def views_cost(scales: tuple[float, ...]) -> float:
    """Return how many times the pixels of a tile are looked at, if at these scales too."""
    return 1 + sum(scale**2 for scale in scales)


def for_mixed_sizes(augment: AugmentConfig) -> AugmentConfig:
    """Return changes of crops that show objects at all scales at which they are looked for."""
    log_max = math.log(max(MIXED_SCALES))
    return dataclasses.replace(augment, scale_log_sigma=0.7 * log_max, scale_log_max=1.1 * log_max)


def _are_mixed(config: SegmentConfig, predictor: Predictor) -> bool:
    adapter = predictor.adapter
    taught = adapter is not None and are_mixed(adapter.diameter_ratio)
    return config.sizes == "mixed" or (config.sizes == "auto" and taught)
