"""Settings of the compression methods, a class for each method that has any."""

from __future__ import annotations

import dataclasses
from typing import Literal

from dinomask.config.checks import require


def _require_ratio(name: str, ratio: float) -> None:
    require(0 < ratio < 1, f"a {name} between 0 and 1", ratio, "Use 0.5 for half of them.")


@dataclasses.dataclass(frozen=True)
class CoarseSettings:
    """Fewer pixels for each object."""

    ratio: float = 0.75
    """Diameter at which objects are shown to the network, relative to the diameter until now."""

    def __post_init__(self) -> None:
        _require_ratio("ratio of diameters", self.ratio)


@dataclasses.dataclass(frozen=True)
class HeadPruneSettings:
    """Removal of attention heads."""

    ratio: float = 0.5
    """Share of all heads that are removed, the least important ones first; each block keeps one."""

    refit: bool = True
    """Whether what follows the heads is fitted anew, by least squares on the user's images."""

    def __post_init__(self) -> None:
        _require_ratio("share of heads", self.ratio)


@dataclasses.dataclass(frozen=True)
class MlpPruneSettings:
    """Removal of hidden units of the MLPs."""

    ratio: float = 0.5
    """Share of all hidden units that are removed, the least important ones first."""

    refit: bool = True
    """Whether what follows the units is fitted anew, by least squares on the user's images."""

    def __post_init__(self) -> None:
        _require_ratio("share of hidden units", self.ratio)


@dataclasses.dataclass(frozen=True)
class BlockPruneSettings:
    """Removal of whole blocks."""

    ratio: float = 0.25
    """Share of the blocks that are removed, the least important ones first; at least one, and one
    stays before each feature map."""

    def __post_init__(self) -> None:
        _require_ratio("share of blocks", self.ratio)


@dataclasses.dataclass(frozen=True)
class ChannelPruneSettings:
    """Removal of channels of pyramid, detector and mask heads."""

    ratio: float = 0.25
    """Share of the channels of each level and head that are removed."""

    refit: bool = True
    """Whether the layers that read them take over what the channels left can tell of them."""

    def __post_init__(self) -> None:
        _require_ratio("share of channels", self.ratio)


@dataclasses.dataclass(frozen=True)
class SvdSettings:
    """Splitting of linear layers in two of low rank."""

    energy: float = 0.999
    """Share of a layer's energy that its new rank keeps at least. Layers that this rank would not
    make smaller stay whole."""

    least_agreement: float = 0.97
    """AP@0.5 that the objects found must reach against those found before, on tiles of the
    user's images; below it, a tenth of the energy is lost, and again."""

    whitened: bool = True
    """Whether energy is that of the layer's outputs on the user's images, rather than that of its
    weights."""

    def __post_init__(self) -> None:
        _require_ratio("share of energy", self.energy)
        _require_ratio("agreement", self.least_agreement)


@dataclasses.dataclass(frozen=True)
class ShareSettings:
    """Sharing of weights between neighbouring blocks."""

    group: int = 2
    """Neighbouring blocks that share attention and MLP."""

    def __post_init__(self) -> None:
        require(self.group >= 2, "groups of at least 2 blocks", self.group, "Use 2.")


@dataclasses.dataclass(frozen=True)
class TokenMergeSettings:
    """Merging of similar tokens."""

    tokens: int = 32
    """Tokens merged in each block."""

    def __post_init__(self) -> None:
        require(self.tokens >= 1, "at least 1 token", self.tokens, "Use 32.")


@dataclasses.dataclass(frozen=True)
class WindowSettings:
    """Attention within windows."""

    tokens: int = 16
    """Side of a window, in tokens."""

    def __post_init__(self) -> None:
        require(self.tokens >= 2, "windows of at least 2 tokens", self.tokens, "Use 16.")


@dataclasses.dataclass(frozen=True)
class SparsifySettings:
    """Small weights set to zero."""

    ratio: float = 0.5
    """Share of the weights of each matrix and kernel that become zero."""

    def __post_init__(self) -> None:
        _require_ratio("share of zeros", self.ratio)


@dataclasses.dataclass(frozen=True)
class LoraSparsifySettings:
    """Small entries of an adapter's matrices set to zero."""

    ratio: float = 0.5
    """Share of the entries of A and B that become zero."""

    def __post_init__(self) -> None:
        _require_ratio("share of zeros", self.ratio)


@dataclasses.dataclass(frozen=True)
class DistilSettings:
    """Training to answer as the uncompressed model does."""

    student: str | None = None
    """Backbone of another, smaller model to train, such as mobilenetv4_conv_small,
    efficientnet_b0 or vit_tiny_patch16_224; None trains the compressed model itself."""

    student_width: float = 0.5
    """Width of the student's pyramid and heads, relative to the teacher's."""

    student_weights: str | None = None
    """Pretrained weights of the student's backbone: hub, or a .pth or .safetensors file; None
    starts from random ones, which takes hours to become of use. Pyramid and heads start as the
    teacher's in any case."""

    minutes: float | None = 10.0
    """Time for the training; None leaves the end to the steps."""

    steps: int | None = None
    """Largest number of training steps; None lets the time decide."""

    learning_rate: float = 3e-4
    """Peak learning rate; a student's backbone that starts anew takes three times as much."""

    batch: int = 4
    """Crops a step."""

    crop_px: int = 224
    """Side of a crop in model pixels, a multiple of 14."""

    rois_per_image: int = 24
    """Objects a crop whose masks are compared."""

    features: float = 1.0
    """Weight of the difference between feature maps."""

    boxes: float = 1.0
    """Weight of the difference between classes, boxes and centerness."""

    masks: float = 1.0
    """Weight of the difference between masks and their predicted quality."""

    labels: float = 0.5
    """Weight of the ordinary losses against labels, where the images have any."""

    generated_share: float = 0.1
    """Share of crops that show generated images of many kinds, so that little is forgotten."""

    def __post_init__(self) -> None:
        require(
            (self.minutes or 0) > 0 or (self.steps or 0) > 0,
            "minutes or steps above 0",
            (self.minutes, self.steps),
            "Use 10 minutes.",
        )
        weights = (self.features, self.boxes, self.masks, self.labels)
        require(min(weights) >= 0, "weights of at least 0", weights, "Use 1.")
        require(self.learning_rate > 0, "a rate above 0", self.learning_rate, "Use 0.0003.")
        require(
            0 < self.student_width <= 2, "a width of up to 2", self.student_width, "Use 0.5 or 1."
        )
        require(
            0 <= self.generated_share <= 1,
            "a share of generated crops from 0 to 1",
            self.generated_share,
            "Use 0.1.",
        )


@dataclasses.dataclass(frozen=True)
class QatSettings:
    """Training under the rounding of eight bits."""

    minutes: float | None = 5.0
    """Time for the training; None leaves the end to the steps."""

    steps: int | None = None
    """Largest number of training steps; None lets the time decide."""

    learning_rate: float = 1e-4
    """Peak learning rate."""

    batch: int = 4
    """Crops a step."""

    crop_px: int = 224
    """Side of a crop in model pixels, a multiple of 14."""

    def __post_init__(self) -> None:
        require(
            (self.minutes or 0) > 0 or (self.steps or 0) > 0,
            "minutes or steps above 0",
            (self.minutes, self.steps),
            "Use 5 minutes.",
        )
        require(self.learning_rate > 0, "a rate above 0", self.learning_rate, "Use 0.0001.")


@dataclasses.dataclass(frozen=True)
class Int8Settings:
    """Quantisation to 8 bits that is calibrated on tiles."""

    least_agreement: float = 0.97
    """AP@0.5 that the quantised model's objects must reach against the float model's on tiles of
    the user's images; below it, sensitive layers stay in floating point."""

    def __post_init__(self) -> None:
        _require_ratio("agreement", self.least_agreement)


@dataclasses.dataclass(frozen=True)
class CompressConfig:
    """One compression from start to end; the methods' own settings are nested by their names."""

    seed: int = 0
    """Seed of crops and of everything else that is drawn."""

    images: int = 64
    """Images read at most, evenly spread over those given."""

    tiles: int = 24
    """Tiles of them on which importance, energy and ranges are measured."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network computes."""

    threads: int | None = None
    """CPU threads; None takes all cores but one (at least one)."""

    coarse: CoarseSettings = CoarseSettings()
    head_prune: HeadPruneSettings = HeadPruneSettings()
    mlp_prune: MlpPruneSettings = MlpPruneSettings()
    block_prune: BlockPruneSettings = BlockPruneSettings()
    channel_prune: ChannelPruneSettings = ChannelPruneSettings()
    svd: SvdSettings = SvdSettings()
    share: ShareSettings = ShareSettings()
    token_merge: TokenMergeSettings = TokenMergeSettings()
    window: WindowSettings = WindowSettings()
    distil: DistilSettings = DistilSettings()
    qat: QatSettings = QatSettings()
    sparsify: SparsifySettings = SparsifySettings()
    lora_sparsify: LoraSparsifySettings = LoraSparsifySettings()
    int8_openvino: Int8Settings = Int8Settings()
    int8_onnx: Int8Settings = Int8Settings()

    def __post_init__(self) -> None:
        require(self.images >= 1, "at least 1 image", self.images, "Use 64.")
        require(self.tiles >= 1, "at least 1 tile", self.tiles, "Use 24.")
