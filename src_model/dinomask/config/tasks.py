"""Settings of how losses, and the classes within them, are balanced."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from dinomask.config.checks import require


@dataclasses.dataclass(frozen=True)
class BalanceConfig:
    """How the losses of a training are added up, and how much each class counts."""

    method: Literal["fixed", "uncertainty", "gradnorm", "pareto"] = "fixed"
    """Fixed weights, or weights found while training: by learned uncertainties (Kendall),
    by gradients of equal size (GradNorm), or by a step that harms no loss (Pareto)."""

    weights: tuple[tuple[str, float], ...] = ()
    """Pairs of a loss and its weight where that is not 1; 0 leaves a loss out. The other
    methods start from these."""

    rate: float = 30.0
    """Uncertainties and GradNorm's weights learn this many times faster than the network."""

    log_weight_max: float = 7.0
    """The log of a weight that is found stays within this of 0."""

    gradnorm_alpha: float = 1.5
    """How strongly GradNorm favours losses that fall slower than the others; 0 is not at all."""

    pareto_normalise: bool = True
    """Whether Pareto compares the directions of gradients; without it small losses dominate."""

    class_weights: tuple[float, ...] = ()
    """Weight of each object class in classification, for the detector and the semantic head;
    empty derives them from `class_power`."""

    image_class_weights: tuple[float, ...] = ()
    """Weight of each image class; empty derives them from `class_power`."""

    class_power: float = 0.0
    """Classes weigh (share of all objects or images) ** -this: 0 alike, 1 rare ones as much
    in all as common ones."""

    def __post_init__(self) -> None:
        # JSON has no tuples
        object.__setattr__(self, "weights", tuple((str(n), float(w)) for n, w in self.weights))
        for name in ("class_weights", "image_class_weights"):
            values = tuple(float(v) for v in getattr(self, name))
            object.__setattr__(self, name, values)
            require(
                all(math.isfinite(v) and v > 0 for v in values),
                f"{name} above 0",
                values,
                "Use 1 for a class that counts as usual.",
            )
        require(
            len(dict(self.weights)) == len(self.weights)
            and all(math.isfinite(w) and w >= 0 for _, w in self.weights),
            "one weight of at least 0 a loss",
            self.weights,
            "Use 1 for a loss that counts as usual.",
        )
        ranges = {"rate": math.inf, "log_weight_max": 20.0}
        for name, largest in ranges.items():
            value = getattr(self, name)
            require(0 < value <= largest, f"{name} above 0", value, "Use the default.")
        for name in ("gradnorm_alpha", "class_power"):
            value = getattr(self, name)
            require(0 <= value <= 10, f"{name} from 0 to 10", value, "Use the default.")
