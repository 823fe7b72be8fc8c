"""Settings of a model's architecture and of the adapters on it."""

from __future__ import annotations

import dataclasses

from dinomask.config.checks import require

PATCH_PX = 14
"""Side of a DINOv2 patch in model pixels; tiles are multiples of it."""

LORA_TARGETS = ("qkv", "proj", "fc1", "fc2")
"""Linear layers of a block that LoRA can adapt."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The architecture of one model; stored in every checkpoint's manifest."""

    backbone: str = "dinomask_tiny_patch14_reg4"
    """Ours, or timm's name of a DINOv2, ViT, MAE, CLIP, SAM, Swin, ConvNeXt, ResNet,
    MobileNet or EfficientNet model."""

    patch_px: int | None = None
    """Side of a transformer's patches in model pixels, 8 to 16 (smaller for small objects);
    None keeps the backbone's own."""

    feature_blocks: tuple[int, ...] | None = None
    """Transformer blocks that feed the pyramid, counted from 0; None takes four, evenly
    spaced. Blocks after the last one are left out."""

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
        if self.feature_blocks is not None:
            # JSON has no tuples
            object.__setattr__(self, "feature_blocks", tuple(self.feature_blocks))
        require(self.feature_blocks != (), "at least one feature block", (), "Use None for four.")
        require(
            self.patch_px is None or 8 <= self.patch_px <= 16,
            "patches of 8 to 16 px",
            self.patch_px,
            "Use None for the backbone's own.",
        )
        require(self.n_classes >= 1, "at least one class", self.n_classes, "Use 1.")
        require(self.mask_px % 4 == 0, "a mask side divisible by 4", self.mask_px, "Use 28.")


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
        require(min(ranks) >= 1, "ranks of at least 1", ranks, "Use 8.")
        require(self.alpha > 0, "an alpha above 0", self.alpha, "Use twice the rank.")
        require(0 <= self.dropout < 1, "a dropout from 0 up to 1", self.dropout, "Use 0.")
        require(
            bool(self.targets) and set(self.targets) <= set(LORA_TARGETS),
            f"targets among {', '.join(LORA_TARGETS)}",
            self.targets,
            "Leave them out for all four.",
        )
        require(self.blocks != (), "at least one block", self.blocks, "Use None for the late half.")
        chosen = dict(self.block_ranks)
        require(
            len(chosen) == len(self.block_ranks)
            and (self.blocks is None or chosen.keys() <= set(self.blocks)),
            "one rank a block, for blocks that are adapted",
            self.block_ranks,
            "Add the block to `blocks` or leave out its rank.",
        )
