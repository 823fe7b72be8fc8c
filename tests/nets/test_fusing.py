"""Fused networks compute what they did, in every family that has something to fuse."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import LayerScale
from torch.nn.modules.batchnorm import _BatchNorm

from dinomask.nets.fusing import fuse
from tests.contracts.members import Member

FUSABLE = (
    Member("vit_small_patch14_reg4_dinov2", {"embed_dim": 48, "depth": 4, "num_heads": 3}),
    Member("resnet18", {"layers": (1, 1, 1, 1), "channels": (16, 32, 48, 64)}),
    Member("resnet50", {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}),
    Member("mobilenetv3_small_050"),
    Member("mobilenetv4_conv_small_050"),
    Member("efficientnet_b0"),
)


@pytest.mark.parametrize("member", FUSABLE, ids=lambda member: member.id)
@torch.no_grad()
def test_nothing_is_left_of_norms_and_scales_but_their_effect(member):
    backbone = member.backbone().eval()
    chance = torch.Generator().manual_seed(0)
    for norm in backbone.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.normal_(0, 0.3, generator=chance)
            norm.running_var.uniform_(0.5, 2, generator=chance)
    image = torch.randn(1, 3, 112, 112, generator=chance)
    before = backbone(image)
    n = fuse(backbone)
    after = backbone(image)
    left = [m for m in backbone.modules() if isinstance(m, _BatchNorm | LayerScale)]
    assert n > 0 and not left
    for own, other in zip(after, before, strict=True):
        torch.testing.assert_close(own, other, atol=1e-3, rtol=1e-3)
    assert fuse(backbone) == 0
