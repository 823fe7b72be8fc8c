"""Settings of a search for the best way to train."""

from __future__ import annotations

import dataclasses
from typing import Literal

from dinomask.config.checks import require

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """What a search may choose from. Ranges with equal ends are kept fixed."""

    fits: tuple[Literal["full", "late", "lora", "hybrid", "frozen"], ...] = ("lora",)
    """Ways to fit."""

    ranks: tuple[int, ...] = (4, 8, 16, 32)
    """Ranks of LoRA; the first block's and the last block's are chosen apart."""

    rate_range: Range = (1e-4, 3e-3)
    """Peak learning rate of the heads, by its logarithm."""

    backbone_share_range: Range = (0.01, 1.0)
    """Rates of the backbone and of LoRA relative to the heads', by its logarithm."""

    layer_decay_range: Range = (0.6, 1.0)
    """Decay of the rate from block to block."""

    weight_decay_range: Range = (1e-3, 0.2)
    """Weight decay, by its logarithm."""

    dropout_range: Range = (0.0, 0.3)
    """Dropout of LoRA's inputs."""

    penalty_range: Range = (1e-7, 1e-3)
    """Each of the penalties L1 and L2 on LoRA's matrices, by its logarithm."""

    def __post_init__(self) -> None:
        require(bool(self.fits), "at least one way to fit", self.fits, "Leave it out for LoRA.")
        require(
            bool(self.ranks) and min(self.ranks) >= 1,
            "ranks of at least 1",
            self.ranks,
            "Use 4 8 16 32.",
        )
        for field in dataclasses.fields(self):
            if not field.name.endswith("_range"):
                continue
            low, high = getattr(self, field.name)
            smallest = 0.0 if field.name == "dropout_range" else 1e-12
            require(
                smallest <= low <= high,
                f"{field.name} from above 0 up, the lower end first",
                (low, high),
                "Leave it out for the default.",
            )
        require(
            self.layer_decay_range[1] <= 1 and self.dropout_range[1] < 1,
            "a layer decay of at most 1 and a dropout below 1",
            (self.layer_decay_range[1], self.dropout_range[1]),
            "Leave them out for the defaults.",
        )


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    """One search: short trainings with settings that Optuna proposes."""

    trials: int = 20
    """Trials in all, those of earlier calls included."""

    rungs: int = 3
    """Times a trial is scored, evenly over its steps."""

    prune: bool = True
    """Whether a trial ends at a rung where it is worse than the median of the earlier ones."""

    startup_trials: int = 5
    """First trials: their settings are drawn at random and they are never ended early."""

    score_images: int = 24
    """Images held out that a trial is scored on at each rung, evenly over the modalities; 0
    takes all."""

    metric: Literal["ap50", "ap50_95"] = "ap50_95"
    """What is maximised over the images held out: AP at an IoU of 0.5, or its mean over
    0.5 to 0.95."""

    space: SearchSpace = SearchSpace()

    def __post_init__(self) -> None:
        for name in ("trials", "rungs", "startup_trials"):
            value = getattr(self, name)
            require(value >= 1, f"{name} of at least 1", value, "Use the default.")
        require(
            self.score_images >= 0,
            "score_images of at least 0",
            self.score_images,
            "Use the default, or 0 for all.",
        )
