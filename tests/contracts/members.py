"""One small network of each family of backbones: published layers, reduced in width and depth."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from dinomask.nets.backbone import adapt_network
from dinomask.nets.centermask import CenterMask
from dinomask.nets.families import Family, create_network, find_family
from dinomask.nets.mixing import Mixing
from tests.nets.small import small_config

if TYPE_CHECKING:
    from torch import nn

    from dinomask.nets.features import Backbone

_VIT = {"embed_dim": 48, "depth": 4, "num_heads": 3}
_SWIN = {"embed_dim": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}


@dataclasses.dataclass(frozen=True)
class Member:
    """A network's name and what makes it small; options as `create_backbone` has them."""

    name: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    patch_px: int | None = None
    mixing: Mixing = dataclasses.field(default_factory=Mixing)

    @property
    def family(self) -> Family:
        family = find_family(self.name)
        assert family is not None
        return family

    @property
    def id(self) -> str:
        patch = "" if self.patch_px is None else f"-at-{self.patch_px}"
        windows = f"-windows-{self.mixing.window_tokens}" if self.mixing.window_tokens else ""
        merging = f"-merging-{self.mixing.merge_tokens}" if self.mixing.merge_tokens else ""
        return self.name + patch + windows + merging

    def network(self, seed: int = 0, **more: Any) -> nn.Module:
        torch.manual_seed(seed)
        patch = {} if self.patch_px is None else {"patch_size": self.patch_px}
        network = create_network(self.name, self.family, **self.settings, **patch, **more)
        raise_residuals(network)
        return network

    def backbone(self, seed: int = 0) -> Backbone:
        return adapt_network(
            self.network(seed),
            self.family,
            own_pixels=self.patch_px is not None,
            mixing=self.mixing,
        )

    def model(self, seed: int = 0) -> CenterMask:
        config = dataclasses.replace(
            small_config(),
            backbone=self.name,
            patch_px=self.patch_px,
            **dataclasses.asdict(self.mixing),
        )
        return CenterMask(config, self.backbone(seed))


@torch.no_grad()
def raise_residuals(network: nn.Module) -> None:
    """Let every residual branch count: many start at zero or at 1e-6, where tests prove nothing."""
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1 and parameter.abs().max() < 1e-2 and not name.endswith("bias"):
            parameter.fill_(0.5)
        elif parameter.ndim <= 1:
            parameter.add_(torch.rand_like(parameter), alpha=0.1)


MEMBERS = (
    Member("vit_small_patch14_reg4_dinov2", _VIT),
    Member("vit_small_patch14_dinov2", _VIT),
    Member("vit_giant_patch14_reg4_dinov2", _VIT),
    Member("vit_small_patch14_reg4_dinov2", _VIT, patch_px=8),
    Member("vit_small_patch14_dinov2", _VIT, patch_px=16),
    Member("vit_small_patch14_reg4_dinov2", _VIT, mixing=Mixing(3, global_blocks=(2,))),
    Member("vit_small_patch14_dinov2", _VIT, mixing=Mixing(merge_tokens=3)),
    Member("vit_tiny_patch16_224", _VIT),
    Member("vit_small_patch8_224", _VIT),
    Member("vit_base_patch16_224.mae", _VIT, mixing=Mixing(4, global_blocks=(1,))),
    Member("vit_base_patch16_clip_224", _VIT),
    Member("vit_base_patch32_clip_224.openai", _VIT),
    Member("vit_huge_patch14_clip_224", _VIT),
    Member("samvit_base_patch16", {**_VIT, "global_attn_indexes": (1, 3)}),
    Member("swin_tiny_patch4_window7_224", _SWIN),
    Member("swinv2_tiny_window8_256", _SWIN),
    Member("convnext_tiny", {"depths": (1, 1, 2, 1), "dims": (16, 32, 48, 64)}),
    Member("convnextv2_atto", {"depths": (1, 1, 2, 1)}),
    Member("resnet18", {"layers": (1, 1, 1, 1), "channels": (16, 32, 48, 64)}),
    Member("resnet50", {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}),
    Member("mobilenetv3_small_050"),
    Member("mobilenetv4_conv_small_050"),
    Member("efficientnet_b0"),
)
