"""Norms and scales that are a fixed factor of each channel, computed into the layer before them.

The function is the same; only rounding differs. Batch norms go into convolutions (Jacob et
al., arXiv 1712.05877, section 3.2), layer scales into the linear layers before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from timm.layers import BatchNormAct2d
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dinomask.nets.low_rank import LowRankLinear

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


def fuse(model: nn.Module) -> int:
    """Fuse what can be fused, in place; return the number of layers that are gone.

    The model must be in evaluation mode.
    """
    n = 0
    for parent, conv, norm in list(_pairs(model)):
        fused = fuse_conv_bn_eval(
            cast("nn.Conv2d", getattr(parent, conv)), cast("_BatchNorm", getattr(parent, norm))
        )
        setattr(parent, conv, fused)
        old = getattr(parent, norm)
        act = old.act if isinstance(old, BatchNormAct2d) else nn.Identity()
        setattr(parent, norm, act)
        n += 1
    for block in model.modules():
        if isinstance(block, Block):
            n += _fold_scale(block, "ls1", "attn.proj") + _fold_scale(block, "ls2", "mlp.fc2")
    return n


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield the convolutions that a batch norm follows at once, as parent and two names.

    timm defines them side by side, in the order in which they are called.
    """
    for parent in model.modules():
        before = ""
        for name, child in parent.named_children():
            if (
                before
                and isinstance(child, _BatchNorm)
                and isinstance(conv := getattr(parent, before), nn.Conv2d)
                and conv.out_channels == child.num_features
            ):
                yield parent, before, name
            before = name


@torch.no_grad()
def _fold_scale(block: Block, scale: str, path: str) -> int:
    layer_scale = getattr(block, scale)
    layer = block.get_submodule(path)
    layer = layer.up if isinstance(layer, LowRankLinear) else layer
    gamma = getattr(layer_scale, "gamma", None)
    if gamma is None or not isinstance(layer, nn.Linear):
        return 0
    factor = cast("Tensor", gamma)
    layer.weight.mul_(factor[:, None])
    if layer.bias is not None:
        layer.bias.mul_(factor)
    setattr(block, scale, nn.Identity())
    return 1
