"""Settings of a model's architecture and of the adapters on it."""

from __future__ import annotations

import dataclasses

from dinomask.config.checks import require
from dinomask.config.shape import NetworkShape

PATCH_PX = 14
"""Side of a DINOv2 patch in model pixels; tiles are multiples of it."""

SIDE_STEP_PX = 2 * PATCH_PX
"""Sides of tiles are multiples of the coarsest stride, so that its map covers the tile."""

LORA_TARGETS = ("qkv", "proj", "fc1", "fc2")
"""Linear layers of a block that LoRA can adapt."""

QKV_PARTS = ("q", "k", "v")
"""Parts of the layer qkv that LoRA can adapt apart, each with matrices of its own."""


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

    window_tokens: int | None = None
    """Side of the windows of tokens within which most blocks of a plain transformer attend,
    for large tiles; None lets each patch see the whole tile in every block."""

    global_blocks: tuple[int, ...] | None = None
    """With windows: blocks that still see the whole tile, counted from 0; None takes four,
    evenly spaced."""

    merge_tokens: int = 0
    """Similar tokens merged in each block of a plain transformer, which makes it faster and
    its features coarser; 0 merges none."""

    n_classes: int = 1
    """Object classes C >= 1."""

    class_names: tuple[str, ...] = ()
    """Names of the object classes; empty if they have none."""

    semantic_classes: int = 0
    """Classes of the pixels, background included: 2 tells objects from background, C + 1
    tells the objects' classes apart; 0 leaves the head out."""

    image_classes: int = 0
    """Classes of whole images; 0 leaves the head out."""

    image_class_names: tuple[str, ...] = ()
    """Names of the image classes; empty if they have none."""

    target_diameter_px: float = 32.0
    """Objects are resampled to this median diameter."""

    pyramid_width: int = 96
    """Channels at strides 7, 14 and 28."""

    detail_width: int = 64
    """Channels of the detail stem's finest stage and of the stride 3.5 level."""

    stem_blocks: tuple[int, int, int] = (1, 1, 1)
    """Residual blocks of the detail stem at strides 3.5, 7 and 14, each at least 1. Those after
    the first begin as the identity, so that a trained model can be given more of them."""

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

    shape: NetworkShape | None = None
    """What compression removed, split or shared; None leaves all as the other settings say."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", NetworkShape.parse(self.shape))
        # JSON has no tuples
        object.__setattr__(self, "stem_blocks", tuple(self.stem_blocks))
        if self.feature_blocks is not None:
            object.__setattr__(self, "feature_blocks", tuple(self.feature_blocks))
        if self.global_blocks is not None:
            object.__setattr__(self, "global_blocks", tuple(self.global_blocks))
        self._check_mixing()
        require(
            len(self.stem_blocks) == 3 and min(self.stem_blocks) >= 1,
            "three numbers of stem blocks, each at least 1",
            self.stem_blocks,
            "Use 1 1 1.",
        )
        require(self.feature_blocks != (), "at least one feature block", (), "Use None for four.")
        require(
            self.patch_px is None or 8 <= self.patch_px <= 16,
            "patches of 8 to 16 px",
            self.patch_px,
            "Use None for the backbone's own.",
        )
        require(self.n_classes >= 1, "at least one class", self.n_classes, "Use 1.")
        self._check_tasks()
        require(self.mask_px % 4 == 0, "a mask side divisible by 4", self.mask_px, "Use 28.")

    def _check_tasks(self) -> None:
        for name, n in (("class_names", self.n_classes), ("image_class_names", self.image_classes)):
            names = tuple(getattr(self, name))
            object.__setattr__(self, name, names)
            require(
                not names or (len(names) == n and len(set(names)) == n),
                f"{n} different {name}, as many as classes",
                names,
                "Name each class once, or none.",
            )
        require(
            self.semantic_classes in (0, 2, self.n_classes + 1),
            f"0, 2 or {self.n_classes + 1} semantic classes",
            self.semantic_classes,
            "Use 2 for objects and background, 0 to leave the head out.",
        )
        require(
            self.image_classes == 0 or self.image_classes >= 2,
            "at least two image classes, or none",
            self.image_classes,
            "Use 0 to leave the head out.",
        )

    def _check_mixing(self) -> None:
        require(
            self.window_tokens is None or self.window_tokens >= 2,
            "windows of at least 2 tokens",
            self.window_tokens,
            "Use 16, or None for none.",
        )
        require(
            self.global_blocks is None or self.window_tokens is not None,
            "windows beside global blocks",
            self.global_blocks,
            "Give the windows' side too, or leave the global blocks out.",
        )
        require(
            self.merge_tokens >= 0, "no fewer than 0 merged tokens", self.merge_tokens, "Use 0."
        )
        require(
            not (self.merge_tokens and self.window_tokens),
            "windows or merged tokens",
            (self.window_tokens, self.merge_tokens),
            "Use one of them: merged tokens lie in no window.",
        )


@dataclasses.dataclass(frozen=True)
class LoraSettings:
    """Which weights an adapter may change, and by how much."""

    rank: int = 8
    """Rank r of each update B·A; of the first block where `rank_last` is given."""

    rank_last: int | None = None
    """Rank in the last block: from the first adapted block to the last, ranks change evenly."""

    alpha: float = 16.0
    """Updates are scaled by alpha / rank, the same in all blocks whatever their ranks."""

    dropout: float = 0.0
    """Share of a layer's inputs that LoRA doesn't see in a training step."""

    blocks: tuple[int, ...] | None = None
    """Blocks of the backbone, counted from 0; None takes the late half."""

    targets: tuple[str, ...] = LORA_TARGETS
    """Linear layers of those blocks: qkv, proj, fc1, fc2; or any of q, k, v instead of qkv."""

    block_ranks: tuple[tuple[int, int], ...] = ()
    """Pairs of block and rank where it differs."""

    heads: bool = True
    """Whether pyramid, detector and mask heads learn too."""

    l1: float = 0.0
    """Weight of the sum of the magnitudes in A and B, added to the loss."""

    l2: float = 0.0
    """Weight of the sum of the squares in A and B, added to the loss."""

    def __post_init__(self) -> None:
        last = self.rank if self.rank_last is None else self.rank_last
        ranks = (self.rank, last, *(rank for _, rank in self.block_ranks))
        require(min(ranks) >= 1, "ranks of at least 1", ranks, "Use 8.")
        require(self.alpha > 0, "an alpha above 0", self.alpha, "Use twice the rank.")
        require(0 <= self.dropout < 1, "a dropout from 0 up to 1", self.dropout, "Use 0.")
        require(min(self.l1, self.l2) >= 0, "penalties of at least 0", (self.l1, self.l2), "Use 0.")
        self._check_targets()
        require(self.blocks != (), "at least one block", self.blocks, "Use None for the late half.")
        chosen = dict(self.block_ranks)
        require(
            len(chosen) == len(self.block_ranks)
            and (self.blocks is None or chosen.keys() <= set(self.blocks)),
            "one rank a block, for blocks that are adapted",
            self.block_ranks,
            "Add the block to `blocks` or leave out its rank.",
        )

    def _check_targets(self) -> None:
        require(
            bool(self.targets) and set(self.targets) <= {*LORA_TARGETS, *QKV_PARTS},
            f"targets among {', '.join(LORA_TARGETS + QKV_PARTS)}",
            self.targets,
            "Leave them out for all.",
        )
        require(
            "qkv" not in self.targets or not self.parts,
            "either qkv, one update for all three, or its parts q, k, v",
            self.targets,
            "Name qkv or its parts.",
        )

    @property
    def parts(self) -> tuple[int, ...]:
        """Thirds of the layer qkv that are adapted apart: 0 for q, 1 for k, 2 for v."""
        return tuple(i for i, part in enumerate(QKV_PARTS) if part in self.targets)

    def ranks(self) -> dict[int, int]:
        """Return the rank of each adapted block; `blocks` must be filled in."""
        blocks = sorted(self.blocks or ())
        last = self.rank if self.rank_last is None else self.rank_last
        steps = max(len(blocks) - 1, 1)
        even = {b: round(self.rank + (last - self.rank) * i / steps) for i, b in enumerate(blocks)}
        return even | dict(self.block_ranks)
