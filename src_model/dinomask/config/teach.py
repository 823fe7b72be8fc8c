"""Settings of teaching: a short training on a user's corrections."""

from __future__ import annotations

import dataclasses
from typing import Literal

from dinomask.config.checks import require
from dinomask.config.fit import FitConfig
from dinomask.config.model import LoraSettings
from dinomask.config.segment import SegmentConfig
from dinomask.config.tasks import BalanceConfig
from dinomask.config.train import AugmentConfig, TrainConfig

FEW_OBJECTS = 200
"""With fewer objects than this the heads alone learn, unless told otherwise."""

RARE_POWER = 0.5
"""Classes weigh (their share of all objects) ** -this."""

TeachMode = Literal["auto", "heads", "late", "lora", "hybrid", "full"]
FittedMode = Literal["full", "late", "lora", "hybrid", "frozen"]


@dataclasses.dataclass(frozen=True)
class TeachConfig:
    """One teaching, from the base checkpoint on all corrections so far."""

    model: str = SegmentConfig.model
    """The checkpoint to teach; name or folder."""

    mode: TeachMode = "auto"
    """What learns: the heads; the last blocks too (late); LoRA matrices beside the late blocks and
    the heads (lora); LoRA in early and all of the late blocks (hybrid); everything (full). Auto
    takes heads for fewer than 200 objects, which take more steps in the same time, else lora."""

    classes: tuple[str, ...] = ()
    """Names of all object classes, those of the checkpoint first; further ones are learned as new
    classes. Empty takes the checkpoint's, and numbers for new ones."""

    minutes: float = 5.0
    """Time for everything: preparing, training and the comparison with the base."""

    steps: int | None = None
    """Largest number of training steps; None lets the time decide."""

    rank: int = LoraSettings.rank
    """Rank of the LoRA matrices."""

    late_blocks: int = FitConfig.late_blocks
    """Last blocks of the backbone that learn in the modes late and hybrid."""

    learning_rate: float = 1e-3
    """Peak learning rate of the heads."""

    lora_rate: float = 4e-3
    """Peak learning rate of the LoRA matrices."""

    backbone_rate: float = 2e-4
    """Peak learning rate of the backbone's own weights."""

    l2: float = 1e-5
    """Pulls the LoRA matrices towards no change."""

    batch: int = 4
    """Crops a step."""

    crop_px: int = 224
    """Side of a crop in model pixels, a multiple of 14."""

    replay: float = 0.2
    """Share of crops that show generated images of many kinds, so that little is forgotten."""

    confident_score: float = 0.6
    """Where nobody looked, what the base model itself finds with at least this score is learned
    too, so that it goes on finding it; 1 for nothing."""

    held_out: float = 0.2
    """Share of the corrected objects, grouped by place, that only judge the result."""

    checks: int = 4
    """Times that the held-out objects are looked at; the best state is kept."""

    max_forgetting: float = 0.01
    """AP at IoU 0.5 that may be lost on the reference images."""

    threads: int | None = None
    """CPU threads; None takes all cores but one (at least one)."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network learns."""

    seed: int = 0
    """Seed of crops and of the choice of held-out objects."""

    def __post_init__(self) -> None:
        # JSON has no tuples
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        require(
            len(set(self.classes)) == len(self.classes) and all(self.classes),
            "different names of classes",
            self.classes,
            "Name each class once.",
        )
        require(self.minutes > 0, "more than 0 minutes", self.minutes, "Use 5.")
        require(
            0 < self.held_out < 1,
            "a share of held-out objects between 0 and 1",
            self.held_out,
            "Use 0.2.",
        )
        require(0 <= self.replay < 1, "a share of replay from 0 up to 1", self.replay, "Use 0.2.")
        require(
            0 < self.confident_score <= 1,
            "a score above 0 and up to 1",
            self.confident_score,
            "Use 0.6, or 1 to learn from corrections alone.",
        )
        require(self.checks >= 1, "at least one check", self.checks, "Use 4.")
        require(self.steps is None or self.steps >= 1, "at least one step", self.steps, "Use 300.")
        self.fit("lora")

    def chosen_mode(self, n_objects: int) -> TeachMode:
        """Return the mode, auto resolved by the number of objects to learn from."""
        if self.mode != "auto":
            return self.mode
        return "heads" if n_objects < FEW_OBJECTS else "lora"

    def fit(self, mode: TeachMode) -> FitConfig:
        """Return the way to fit of a mode that isn't auto."""
        fitted: FittedMode = "frozen" if mode == "heads" or mode == "auto" else mode
        return FitConfig(
            mode=fitted,
            late_blocks=self.late_blocks,
            backbone_rate=self.backbone_rate,
            lora_rate=self.lora_rate,
            lora=LoraSettings(rank=self.rank, alpha=2.0 * self.rank, l2=self.l2),
        )

    def training(self, mode: TeachMode, minutes: float) -> TrainConfig:
        """Return the settings of the training within.

        Parameters
        ----------
        mode : not auto
        minutes : for the training alone
        """
        return TrainConfig(
            steps=self.steps,
            minutes=minutes,
            batch=self.batch,
            crop_px=self.crop_px,
            learning_rate=self.learning_rate,
            warmup=0.05,
            ema_decay=0.99,
            proposals_from=0.0,
            generated_share=self.replay,
            seed=self.seed,
            device=self.device,
            threads=self.threads,
            augment=TEACH_AUGMENT,
            fit=self.fit(mode),
            # a new class begins with few examples among many objects
            balance=BalanceConfig(class_power=RARE_POWER),
        )


TEACH_AUGMENT = AugmentConfig(
    scale_log_sigma=0.2,
    scale_log_max=0.45,
    wide_scale_probability=0.1,
    wide_scale_log_max=1.0,
    invert_probability=0.0,
    grey_probability=0.0,
    tint_probability=0.0,
    drop_channel_probability=0.0,
    stain_probability=0.3,
    gamma_log_max=0.3,
    contrast_max=0.2,
)
"""Changes that leave the user's kind of image what it is: no inversion, no other colours."""
