"""Published networks: their names are real, and the big ones have the same grid."""

from __future__ import annotations

import pytest
import timm
import torch

from dinomask.nets.backbone import create_backbone
from dinomask.nets.families import FAMILIES, Family, find_family
from tests.contracts.members import MEMBERS

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.title.split(" (")[0])

DINOV2 = tuple(
    f"vit_{size}_patch14_{registers}dinov2"
    for size in ("small", "base", "large", "giant")
    for registers in ("", "reg4_")
)


@every_family
def test_the_example_belongs_to_its_family(family: Family) -> None:
    assert find_family(family.example) is family


HUB_NAMES = (
    *(f.example for f in FAMILIES),
    *(m.name for m in MEMBERS),
    *(f"{name}.lvd142m" for name in DINOV2),
    *(f"vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large")),
    *(f"vit_{size}_224.mae" for size in ("base_patch16", "large_patch16", "huge_patch14")),
    *(f"vit_{size}_clip_224.openai" for size in ("base_patch16", "large_patch14")),
    *(f"samvit_{size}_patch16.sa1b" for size in ("base", "large", "huge")),
    *(f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large")),
    *(f"swinv2_{size}_window8_256" for size in ("tiny", "small", "base")),
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large", "xlarge")),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    *(f"mobilenetv4_conv_{size}" for size in ("small", "medium", "large")),
    *(f"efficientnet_b{i}" for i in range(6)),
)


@pytest.mark.parametrize("name", dict.fromkeys(HUB_NAMES))
def test_hub_names_are_real(name: str) -> None:
    assert find_family(name) is not None
    published = timm.list_pretrained(name if "." in name else f"{name}.*")
    assert published
    for tagged in published:
        config = timm.get_pretrained_cfg(tagged)
        assert config is not None
        assert config.has_weights


BIG = (
    "vit_large_patch14_dinov2",
    "vit_giant_patch14_reg4_dinov2",
    "vit_huge_patch14_224.mae",
    "vit_gigantic_patch14_clip_224",
    "samvit_huge_patch16",
    "swin_large_patch4_window12_384",
    "swinv2_base_window12to16_192to256",
    "convnext_xlarge",
    "resnet152",
    "mobilenetv4_hybrid_large",
    "efficientnet_b8",
)


@pytest.mark.parametrize("name", BIG)
def test_the_big_ones_have_the_same_grid(name: str) -> None:
    # shapes alone, without memory or time for their weights
    with torch.device("meta"):
        backbone = create_backbone(name)
        maps = backbone(torch.empty(1, 3, 448, 238))
    for features, width, stride in zip(maps, backbone.widths, backbone.strides_px, strict=True):
        assert features.shape == (1, width, round(448 / stride), round(238 / stride))
