"""How far a training is, and how fast it learns there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dinomask.config import TrainConfig


def fraction_done(config: TrainConfig, step: int, elapsed_s: float) -> float:
    """Return how far a training is, 0 to 1, by its steps or its time."""
    parts = []
    if config.steps:
        parts.append(step / config.steps)
    if config.minutes:
        parts.append(elapsed_s / (config.minutes * 60))
    return min(1.0, max(parts))


def rate_factor(config: TrainConfig, fraction: float) -> float:
    """Return the learning rate relative to its peak.

    Linear warm-up, then a cosine down to a hundredth.
    """
    if fraction < config.warmup:
        return min(1.0, (fraction + 1e-4) / config.warmup)
    phase = (fraction - config.warmup) / (1 - config.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase))
