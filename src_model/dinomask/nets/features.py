"""What the model needs from a backbone, and the DINOv2 backbone at its own patch of 14 px."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from dinomask.config import PATCH_PX
from dinomask.errors import ModelError
from dinomask.nets.mixing import Mixing, check_mixing, spread, token_maps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from timm.models.vision_transformer import VisionTransformer

N_FEATURES = 4
"""Feature maps taken from evenly spaced blocks of a plain transformer."""


class Backbone(nn.Module, abc.ABC):
    """A network seen as a dense feature extractor: the seam between families and pyramid.

    A map at stride s has exactly one cell for each s × s model pixels, and cell
    (i, j) describes the square around ((i + ½)·s, (j + ½)·s), whatever grid the
    network itself works on.

    Attributes
    ----------
    widths : channels of each feature map
    strides_px : stride of each feature map in model pixels: 3.5, 7 or 14, with
        at least one map at 14
    mean, std : shape (3,); how the weights expect their input normalised
    block_paths : module paths of the transformer-like blocks, first to last,
        whose linear layers LoRA can adapt; empty for plain convolutional networks
    """

    widths: tuple[int, ...]
    strides_px: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    block_paths: tuple[str, ...]

    @abc.abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Return feature maps, first to last.

        Parameters
        ----------
        images : shape (B, 3, H, W), normalised by `mean` and `std`; H and W
            multiples of 14

        Returns
        -------
        tensors of shape (B, D, H / s, W / s), D of `widths`, s of `strides_px`
        """

    @property
    def n_layers(self) -> int:
        """How many layers `layer_maps` can give: transformer blocks, else feature maps."""
        return len(self.widths)

    def layer_stride_px(self, layer: int) -> float:
        """Return the stride of a layer's map, in model pixels."""
        return self.strides_px[layer]

    def layer_maps(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the maps of any layers, first to last, whether or not the pyramid uses them.

        Parameters
        ----------
        images : as for `forward`
        layers : from 0 up to `n_layers`, ascending

        Returns
        -------
        tensors of shape (B, D, H / s, W / s), s of `layer_stride_px`
        """
        maps = self(images)
        return [maps[layer] for layer in layers]


class ViTBackbone(Backbone):
    """A timm ViT with a patch of 14 px, whose tokens are the pyramid's grid at stride 14.

    Parameters
    ----------
    vit : the network
    feature_blocks : blocks whose outputs are the feature maps; None takes up to
        4, evenly spaced. Blocks after the last one are dropped.
    mixing : how tokens see each other; None means each every other one

    Attributes
    ----------
    width : channels D of a feature map
    indices : blocks whose outputs are the feature maps
    """

    def __init__(
        self,
        vit: VisionTransformer,
        feature_blocks: Sequence[int] | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__()
        self.vit = vit
        self.mixing = mixing or Mixing()
        check_mixing(vit, self.mixing)
        self.width: int = vit.embed_dim
        self.indices = choose_blocks(len(vit.blocks), feature_blocks)
        if self.indices[-1] + 1 < len(vit.blocks):
            vit.blocks = vit.blocks[: self.indices[-1] + 1]
        self.widths = (self.width,) * len(self.indices)
        self.strides_px = (float(PATCH_PX),) * len(self.indices)
        self.mean, self.std = normalisation(vit)
        self.block_paths = tuple(f"vit.blocks.{i}" for i in range(len(vit.blocks)))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return feature maps of the chosen blocks; see `Backbone.forward`."""
        return token_maps(self.vit, images, self.indices, self.mixing)

    @property
    def n_layers(self) -> int:
        """Transformer blocks; see `Backbone.n_layers`."""
        return len(self.vit.blocks)

    def layer_stride_px(self, layer: int) -> float:
        """Return the side of a patch; see `Backbone.layer_stride_px`."""
        return float(PATCH_PX)

    def layer_maps(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the normalised maps of any blocks; see `Backbone.layer_maps`."""
        return token_maps(self.vit, images, layers, self.mixing)


def choose_blocks(depth: int, chosen: Sequence[int] | None = None) -> list[int]:
    """Return the blocks that give feature maps, ascending.

    Raises
    ------
    ModelError
        If one was chosen that doesn't exist.
    """
    if chosen is None:
        return spread(depth, N_FEATURES)
    if not all(0 <= block < depth for block in chosen):
        raise ModelError(
            expected=f"feature blocks from 0 to {depth - 1}",
            got=", ".join(str(block) for block in chosen),
            remedy="Choose blocks that the backbone has, or leave them out.",
        )
    return sorted(chosen)


def normalisation(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of a timm network's own configuration, ImageNet's if it has none."""
    config = cast("Mapping[str, Any]", getattr(network, "pretrained_cfg", None) or {})
    mean = tuple(config.get("mean", (0.485, 0.456, 0.406)))
    return mean, tuple(config.get("std", (0.229, 0.224, 0.225)))
