"""The one home of every default.

Frozen dataclasses, a docstring a field, units in the names. The command line
and the napari forms are derived from these classes.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from dinomask.errors import SettingsError

PATCH_PX = 14
"""Side of a DINOv2 patch in model pixels; tiles are multiples of it."""


MIN_DIAMETER_PX = 1.0
"""Smallest object size that can be asked for."""


def _require(ok: bool, expected: str, got: object, remedy: str) -> None:
    if not ok:
        raise SettingsError(expected=expected, got=f"{got!r}", remedy=remedy)


@dataclasses.dataclass(frozen=True)
class NormaliseConfig:
    """How intensities become the model's input, once an image."""

    low_pct: float = 1.0
    """Percentile mapped to 0."""

    high_pct: float = 99.8
    """Percentile mapped to 1."""

    max_samples: int = 2_000_000
    """Pixels a channel read to find the percentiles."""

    def __post_init__(self) -> None:
        _require(
            0 <= self.low_pct < self.high_pct <= 100,
            "percentiles with 0 <= low < high <= 100",
            (self.low_pct, self.high_pct),
            "Give the percentiles in percent, the lower one first.",
        )


@dataclasses.dataclass(frozen=True)
class TileConfig:
    """How an image is cut, in model pixels (after resampling)."""

    tile_px: int = 448
    """Side of the read region, a multiple of 14."""

    halo_px: int = 64
    """Margin around a tile's core; at least the radius of the largest object + 28."""

    seam_px: int = 8
    """How far outside its core a tile keeps candidates for seam matching."""

    def __post_init__(self) -> None:
        _require(
            self.tile_px >= 8 * PATCH_PX and self.tile_px % PATCH_PX == 0,
            f"a tile side that is a multiple of {PATCH_PX} and at least {8 * PATCH_PX}",
            self.tile_px,
            "Use 448, or 224 where memory is short.",
        )
        _require(
            0 <= self.halo_px <= self.tile_px // 2 - PATCH_PX,
            f"a halo from 0 to {self.tile_px // 2 - PATCH_PX} pixels for this tile",
            self.halo_px,
            "Make the halo smaller or the tile larger.",
        )
        _require(
            0 <= self.seam_px <= self.halo_px,
            "a seam margin from 0 to the halo",
            self.seam_px,
            "Use 8.",
        )


@dataclasses.dataclass(frozen=True)
class DetectConfig:
    """From dense predictions to instances of one tile."""

    score_threshold: float | None = None
    """Lowest score of an instance, 0 to 1; None takes the model's own."""

    pre_nms: int = 2000
    """Locations a pyramid level that go into non-maximum suppression."""

    nms_iou: float = 0.6
    """Boxes that overlap more than this are one object."""

    max_instances: int = 1000
    """Instances a tile at most."""

    duplicate_iou: float = 0.5
    """Masks with a higher IoU are one object."""

    duplicate_iomin: float = 0.7
    """Masks of which one lies inside the other by more than this are one object."""

    candidate_score: float = 0.05
    """Detections below this never reach the mask head."""

    def __post_init__(self) -> None:
        for name in ("nms_iou", "duplicate_iou", "duplicate_iomin", "candidate_score"):
            value = getattr(self, name)
            _require(0 < value < 1, f"{name} between 0 and 1", value, "Use the default.")
        if self.score_threshold is not None:
            _require(
                0 <= self.score_threshold < 1,
                "a score threshold from 0 up to 1",
                self.score_threshold,
                "Lower finds more objects, higher fewer; leave it out for the model's own.",
            )


@dataclasses.dataclass(frozen=True)
class SegmentConfig:
    """One segmentation of one image."""

    model: str = "tiny"
    """Name of a model (see `dinomask models list`) or a checkpoint folder."""

    diameter_px: float | Literal["auto"] = "auto"
    """Median diameter of the objects in image pixels; auto estimates it."""

    channels: tuple[int, ...] = ()
    """Channels to use, counted from 0; empty takes grey or RGB as they come."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs."""

    threads: int | None = None
    """CPU threads of the network; None takes all cores but one (at least one)."""

    normalise: NormaliseConfig = NormaliseConfig()
    tiles: TileConfig = TileConfig()
    detect: DetectConfig = DetectConfig()

    def __post_init__(self) -> None:
        if self.diameter_px != "auto":
            _require(
                math.isfinite(self.diameter_px) and self.diameter_px >= MIN_DIAMETER_PX,
                f"a diameter of at least {MIN_DIAMETER_PX:g} pixels",
                self.diameter_px,
                "Measure one object in pixels, or use 'auto'.",
            )
        _require(
            all(c >= 0 for c in self.channels),
            "channels counted from 0",
            self.channels,
            "The first channel is 0.",
        )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The architecture of one model; stored in every checkpoint's manifest."""

    backbone: str = "dinomask_tiny_patch14_reg4"
    """Ours, or the name of a DINOv2 model in timm."""

    n_classes: int = 1
    """Object classes C >= 1."""

    target_diameter_px: float = 32.0
    """Objects are resampled to this median diameter."""

    pyramid_width: int = 96
    """Channels at strides 7, 14 and 28."""

    detail_width: int = 64
    """Channels of the detail stem's finest stage and of the stride 3.5 level."""

    head_convs: int = 2
    """Convolutions in each FCOS tower."""

    mask_width: int = 64
    """Channels of the mask head."""

    mask_convs: int = 2
    """Convolutions before the mask head's spatial attention."""

    mask_px: int = 28
    """Side of a predicted mask."""

    iou_width: int = 256
    """Units of MaskIoU's hidden layers."""

    def __post_init__(self) -> None:
        _require(self.n_classes >= 1, "at least one class", self.n_classes, "Use 1.")
        _require(self.mask_px % 4 == 0, "a mask side divisible by 4", self.mask_px, "Use 28.")


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
    """Crops a step."""

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

    augment: AugmentConfig = AugmentConfig()

    def __post_init__(self) -> None:
        _require(
            self.crop_px % PATCH_PX == 0 and self.crop_px >= 2 * PATCH_PX,
            f"a crop side that is a multiple of {PATCH_PX}, at least {2 * PATCH_PX}",
            self.crop_px,
            "Use 224.",
        )

    def require_budget(self) -> None:
        """Raise `SettingsError` if neither steps nor minutes say when to end."""
        _require(
            (self.steps or 0) > 0 or (self.minutes or 0) > 0,
            "a number of steps or minutes",
            "neither",
            "Add --minutes 60, for example.",
        )


LORA_TARGETS = ("qkv", "proj", "fc1", "fc2")
"""Linear layers of a block that LoRA can adapt."""


@dataclasses.dataclass(frozen=True)
class LoraSettings:
    """Which weights an adapter may change, and by how much."""

    rank: int = 8
    """Rank r of each update B·A."""

    alpha: float = 16.0
    """Updates are scaled by alpha / rank."""

    dropout: float = 0.0
    """Share of a layer's inputs that LoRA doesn't see in a training step."""

    blocks: tuple[int, ...] | None = None
    """Blocks of the backbone, counted from 0; None takes the late half."""

    targets: tuple[str, ...] = LORA_TARGETS
    """Linear layers of those blocks: qkv, proj, fc1, fc2."""

    block_ranks: tuple[tuple[int, int], ...] = ()
    """Pairs of block and rank where it differs; alpha changes with it, so that
    alpha / rank is the same in all blocks."""

    heads: bool = True
    """Whether pyramid, detector and mask heads learn too."""

    def __post_init__(self) -> None:
        ranks = (self.rank, *(rank for _, rank in self.block_ranks))
        _require(min(ranks) >= 1, "ranks of at least 1", ranks, "Use 8.")
        _require(self.alpha > 0, "an alpha above 0", self.alpha, "Use twice the rank.")
        _require(0 <= self.dropout < 1, "a dropout from 0 up to 1", self.dropout, "Use 0.")
        _require(
            bool(self.targets) and set(self.targets) <= set(LORA_TARGETS),
            f"targets among {', '.join(LORA_TARGETS)}",
            self.targets,
            "Leave them out for all four.",
        )
        _require(
            self.blocks != (), "at least one block", self.blocks, "Use None for the late half."
        )
        chosen = dict(self.block_ranks)
        _require(
            len(chosen) == len(self.block_ranks)
            and (self.blocks is None or chosen.keys() <= set(self.blocks)),
            "one rank a block, for blocks that are adapted",
            self.block_ranks,
            "Add the block to `blocks` or leave out its rank.",
        )


def as_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dictionaries, for json and hashing."""
    return dataclasses.asdict(config)
