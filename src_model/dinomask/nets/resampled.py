"""Any timm network as a backbone: its maps brought onto the pyramid's grid, pixel for pixel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dinomask.config import PATCH_PX
from dinomask.errors import ModelError
from dinomask.nets.features import Backbone, choose_blocks, normalisation
from dinomask.nets.mixing import Mixing, check_mixing, token_maps

if TYPE_CHECKING:
    from collections.abc import Sequence

GRID_STRIDES_PX = (3.5, 7.0, 14.0)
"""Strides at which the pyramid takes maps in."""

ENLARGED_PX = 16
"""Pixels that a patch of model pixels becomes."""

ENLARGEMENT = ENLARGED_PX / PATCH_PX
"""Images are enlarged by this for networks whose strides are powers of two.

Then strides of 4, 8, 16 and 32 px of the network are 3.5, 7, 14 and 28 model
pixels: the pyramid's own grid, so that nothing but stride 28 needs resampling.
"""

_BLOCK = re.compile(r"(?:blocks|(?:layers|stages)\.\d+\.blocks)\.\d+")


class ResampledBackbone(Backbone):
    """A timm network of any family, with its maps on the pyramid's grid.

    Transformers of one resolution give evenly spaced blocks, the others their
    stages from stride 4 on. Maps are normalised over channels at one location,
    since the stages of a network differ in scale by orders of magnitude.

    Squeeze-and-excitation and global attention see the whole tile, so in those
    families a place's features depend a little on the rest of the tile.

    Parameters
    ----------
    network : from timm, without classifier; pruned here to what the maps need
    feature_blocks : blocks or stages that give maps; None chooses
    own_pixels : whether the network sees the image unenlarged, which a ViT does
        whose patch was chosen in model pixels
    centred : whether the network's cells lie over the middle of their pixels.
        Patches do; a stride of 2 in an odd, evenly padded kernel looks at the
        first of each two pixels, which displaces a cell by nearly half a stride
    mixing : how the tokens of a ViT see each other; None means each every other one
    """

    def __init__(
        self,
        network: nn.Module,
        feature_blocks: Sequence[int] | None = None,
        *,
        own_pixels: bool = False,
        centred: bool = True,
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__()
        self.mixing = mixing or Mixing()
        check_mixing(network, self.mixing)
        self.mean, self.std = normalisation(network)
        info = cast("list[dict[str, int]]", list(network.feature_info))  # type: ignore[arg-type]
        strides = [int(entry["reduction"]) for entry in info]
        if len(set(strides)) == 1:
            self.indices = choose_blocks(len(strides), feature_blocks)
        elif feature_blocks is not None:
            raise ModelError(
                expected="a transformer of one resolution for feature blocks of one's choice",
                got=f"a network of stages at strides {strides}",
                remedy="Leave the feature blocks out.",
            )
        else:
            self.indices = [i for i, stride in enumerate(strides) if stride >= 4]
        self.network_strides_px = tuple(strides[i] for i in self.indices)
        self.enlargement = 1.0 if own_pixels or PATCH_PX in strides else ENLARGEMENT
        self.centred = centred
        self.network = network
        self.network.prune_intermediate_layers(  # type: ignore[operator]
            self.indices, prune_norm=not isinstance(network, VisionTransformer), prune_head=True
        )
        self._count_in_floats()
        self.widths = tuple(int(info[i]["num_chs"]) for i in self.indices)
        self.strides_px = tuple(self._grid_stride_px(s) for s in self.network_strides_px)
        self.needs_context = max(self.strides_px) < PATCH_PX
        if self.needs_context:
            self.widths += self.widths[-1:]
            self.strides_px += (float(PATCH_PX),)
        self.block_paths = tuple(_adaptable_blocks(network))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps on the pyramid's grid; see `Backbone.forward`."""
        self._follow_frozen_weights()
        shape_yx = (images.shape[-2], images.shape[-1])
        maps = self._network_maps(self._prepare(images))
        resampled = [
            self._onto_grid(m, native, stride, shape_yx)
            for m, native, stride in zip(
                maps, self.network_strides_px, self.strides_px, strict=False
            )
        ]
        if self.needs_context:
            # the finest grid alone would leave the coarse levels without the backbone
            resampled.append(F.avg_pool2d(resampled[-1], round(PATCH_PX / self.strides_px[-2])))
        return resampled

    @property
    def n_layers(self) -> int:
        """Transformer blocks or stages; see `Backbone.n_layers`."""
        return len(self.network.blocks) if self._is_plain else len(self.widths)  # type: ignore[arg-type]

    def layer_stride_px(self, layer: int) -> float:
        """Return the stride of a layer's map; see `Backbone.layer_stride_px`."""
        # the blocks of a transformer of one resolution are all alike
        return self.strides_px[0 if self._is_plain else layer]

    def layer_maps(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the maps of any blocks or stages; see `Backbone.layer_maps`."""
        if not self._is_plain:
            return super().layer_maps(images, layers)
        vit = cast("VisionTransformer", self.network)
        shape_yx = (images.shape[-2], images.shape[-1])
        return [
            self._onto_grid(m, self.network_strides_px[0], self.strides_px[0], shape_yx)
            for m in token_maps(vit, self._prepare(images), layers, self.mixing)
        ]

    @property
    def _is_plain(self) -> bool:
        return isinstance(self.network, VisionTransformer)

    def _network_maps(self, images: Tensor) -> list[Tensor]:
        if isinstance(self.network, VisionTransformer):
            return token_maps(self.network, images, self.indices, self.mixing)
        maps = self.network.forward_intermediates(  # type: ignore[operator]
            images, indices=self.indices, norm=False, intermediates_only=True
        )
        return [_normalise_channels(m) for m in maps]

    def _grid_stride_px(self, network_stride_px: int) -> float:
        reach = network_stride_px / self.enlargement + 1e-6
        return max(stride for stride in GRID_STRIDES_PX if stride <= reach)

    def _prepare(self, images: Tensor) -> Tensor:
        """Enlarge images, and pad them below and at the right to whole cells.

        Padding on these two sides moves no pixel, and the added cells are never
        read: the grid's last cell ends where the image does.
        """
        if self.enlargement != 1:
            # whole numbers, since sides are multiples of the patch, and a size left open in an
            # export can't be rounded
            size = [side // PATCH_PX * ENLARGED_PX for side in images.shape[-2:]]
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        cell = max(self.network_strides_px)
        # without the remainder of a negative number, which exports differently
        below, right = ((side + cell - 1) // cell * cell - side for side in images.shape[-2:])
        if torch.compiler.is_exporting():
            # sizes are left open there, so the padding must stay even where it is empty now
            return F.pad(images, (0, right, 0, below), mode="replicate")
        return F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images

    def _onto_grid(
        self, features: Tensor, native_px: int, stride_px: float, shape_yx: tuple[int, int]
    ) -> Tensor:
        step = stride_px * self.enlargement / native_px
        # of grid cell 0, in cells of the network
        first = step / 2 - (0.5 if self.centred else 0.5 / native_px)
        for axis, side_px in zip((-2, -1), shape_yx, strict=True):
            features = resample_axis(
                features, axis, first, step, 2 * side_px // round(2 * stride_px)
            )
        return features

    def _batch_norms(self) -> list[_BatchNorm]:
        return [m for m in self.network.modules() if isinstance(m, _BatchNorm)]

    def _follow_frozen_weights(self) -> None:
        """Let batch statistics move only where the layer's own weights learn.

        Otherwise teaching the heads alone would change what a frozen backbone computes.
        """
        for norm in self._batch_norms():
            norm.training = self.training and norm.weight.requires_grad

    def _count_in_floats(self) -> None:
        # batch norm counts batches in integers, which can't be averaged as weights
        # are; the count has no influence, since the momentum is fixed
        for norm in self._batch_norms():
            norm.num_batches_tracked = torch.zeros_like(norm.running_mean[0])  # type: ignore[index]


def resample_axis(features: Tensor, axis: int, first: float, step: float, n: int) -> Tensor:
    """Read a map linearly at the positions first + i·step, in cells, along one axis.

    Positions beyond the outermost cells get the outermost cell. Where the
    positions are the cells themselves, the values are untouched.

    Parameters
    ----------
    features : shape (B, D, H, W)
    axis : -2 or -1
    n : cells of the result

    Returns
    -------
    the same shape, but n along `axis`
    """
    if abs(first) < 1e-6 and abs(step - 1) < 1e-6:
        return features.narrow(axis, 0, n)
    size = features.shape[axis]
    positions = torch.arange(n, device=features.device, dtype=torch.float32) * step + first
    positions = positions.clamp(0, size - 1)
    low = positions.floor().long()
    high = (low + 1).clamp(max=size - 1)
    weight = (positions - low).to(features.dtype)
    if axis == -2:
        weight = weight[:, None]
    return torch.lerp(features.index_select(axis, low), features.index_select(axis, high), weight)


def _normalise_channels(features: Tensor) -> Tensor:
    channels_last = features.permute(0, 2, 3, 1)
    return F.layer_norm(channels_last, channels_last.shape[-1:]).permute(0, 3, 1, 2)


def _adaptable_blocks(network: nn.Module) -> list[str]:
    """Return the paths of blocks with attention or an MLP in timm's naming."""
    return [
        f"network.{path}"
        for path, module in network.named_modules()
        if _BLOCK.fullmatch(path) and hasattr(module, "mlp")
    ]
