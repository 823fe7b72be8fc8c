"""Settings of a training and of its crops."""

from __future__ import annotations

import dataclasses
from typing import Literal

from dinomask.config.checks import require
from dinomask.config.fit import FitConfig
from dinomask.config.model import PATCH_PX
from dinomask.config.tasks import BalanceConfig


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training crop."""

    scale_log_sigma: float = 0.3
    """Spread (normal) of the log of the object size around the target."""

    scale_log_max: float = 0.7
    """The log of the object size stays within this of the target."""

    wide_scale_probability: float = 0.15
    """Chance of a size far from the target, which teaches to see what size objects have."""

    wide_scale_log_max: float = 1.4
    """Largest log of the object size relative to the target in that case (uniform)."""

    stretch_log_max: float = 0.12
    """Largest log of the ratio between the scales along y and x."""

    rotate_probability: float = 0.3
    """Chance of a rotation by any angle (90° turns and flips are always drawn)."""

    invert_probability: float = 0.2
    """Chance of inverted contrast."""

    grey_probability: float = 0.3
    """Chance that a colour image is shown in grey."""

    tint_probability: float = 0.1
    """Chance that a grey image is shown in one or two colour channels."""

    gamma_log_max: float = 0.5
    """Largest log of the gamma exponent."""

    contrast_max: float = 0.3
    """Largest relative change of contrast, and shift of brightness."""

    stain_probability: float = 0.5
    """Chance that the stains of a colour image are varied, as if light had passed through it."""

    drop_channel_probability: float = 0.05
    """Chance that a channel of a colour image is replaced by the mean of the others."""

    blur_probability: float = 0.2
    """Chance of a Gaussian blur."""

    blur_sigma_max_px: float = 1.5
    """Largest sigma of that blur."""

    noise_probability: float = 0.3
    """Chance of added Gaussian noise."""

    noise_sigma_max: float = 0.1
    """Largest sigma of that noise, in normalised units."""

    shading_probability: float = 0.2
    """Chance of uneven illumination."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training from start to end."""

    steps: int | None = None
    """Optimiser steps in all; this or `minutes` ends the training."""

    minutes: float | None = None
    """Time in all, resumed parts included."""

    batch: int = 6
    """Crops a step, in each of the processes that train together."""

    crop_px: int = 224
    """Side of a crop in model pixels, a multiple of 14."""

    learning_rate: float = 8e-4
    """Peak learning rate of AdamW."""

    weight_decay: float = 0.05
    """Weight decay on matrices and kernels."""

    warmup: float = 0.02
    """Part of the training in which the rate rises."""

    ema_decay: float = 0.998
    """Decay a step of the averaged weights that are saved."""

    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    rois_per_image: int = 32
    """Objects a crop that train the mask head."""

    proposals_per_image: int = 12
    """The model's own detections a crop that train MaskIoU."""

    proposals_from: float = 0.15
    """Part of the training after which those are used."""

    modality_power: float = 0.5
    """Modalities are drawn in proportion to (number of images) ** this."""

    modality_weights: tuple[tuple[str, float], ...] = ()
    """Pairs of a modality's name and a factor by which it is drawn more often."""

    generated_share: float = 0.0
    """Share of crops drawn from generated images of many kinds of microscopy, 0 to 1."""

    stem_drop_probability: float = 0.0
    """Chance that a crop's objects must be found without the detail stem, by the backbone's maps
    alone; without it a backbone trained from random weights is never needed, and learns little."""

    save_every_s: float = 300.0
    """Time between saved states."""

    workers: int = 0
    """Processes that prepare crops; 0 prepares them in between."""

    seed: int = 0
    """Seed of weights and crops."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network trains."""

    threads: int | None = None
    """CPU threads of the network; None takes all cores."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network; auto takes bf16 on CUDA and on CPUs with matrix units (AMX)."""

    checkpoint_gradients: bool = False
    """Whether the backbone's activations are computed a second time instead of being kept:
    less memory, a third more time."""

    augment: AugmentConfig = AugmentConfig()
    fit: FitConfig = FitConfig()
    balance: BalanceConfig = BalanceConfig()

    def __post_init__(self) -> None:
        require(
            self.crop_px % PATCH_PX == 0 and self.crop_px >= 2 * PATCH_PX,
            f"a crop side that is a multiple of {PATCH_PX}, at least {2 * PATCH_PX}",
            self.crop_px,
            "Use 224.",
        )
        require(
            0 <= self.generated_share <= 1,
            "a share of generated crops from 0 to 1",
            self.generated_share,
            "Use 0.3.",
        )
        require(
            0 <= self.stem_drop_probability <= 1,
            "a chance of leaving the detail stem out from 0 to 1",
            self.stem_drop_probability,
            "Use 0.5, or 0 to keep it always.",
        )

    def require_budget(self) -> None:
        """Raise `SettingsError` if neither steps nor minutes say when to end."""
        require(
            (self.steps or 0) > 0 or (self.minutes or 0) > 0,
            "a number of steps or minutes",
            "neither",
            "Add --minutes 60, for example.",
        )
