"""The families of backbones: which of timm's networks belong to them and how to build each.

A family is added here, with a row in `FAMILIES`, and to `tests/contracts/members.py`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import timm
from timm.models import swin_transformer_v2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks that are built and adapted alike."""

    title: str
    """Name of the family, with its paper."""

    pattern: str
    """Regular expression that the whole of a timm name matches."""

    example: str
    """A small member with published weights."""

    any_patch: bool = False
    """Whether the side of the patches can be chosen."""

    centred: bool = True
    """See `dinomask.nets.resampled.ResampledBackbone`."""

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What `timm.create_model` needs for tiles of any size."""


ANY_SIZE = {"dynamic_img_size": True}

FAMILIES = (
    Family(
        "DINOv2 (arXiv 2304.07193, registers 2309.16588)",
        r"vit_(?:small|base|large|giant)_patch14_(?:reg4_)?dinov2",
        "vit_small_patch14_reg4_dinov2",
        any_patch=True,
        settings={"img_size": 448, **ANY_SIZE},
    ),
    Family(
        # before ViT, of whose names these are: the tag tells how they were trained
        "MAE (arXiv 2111.06377)",
        r"vit_(?:base|large|huge)_patch1[46]_224\.mae",
        "vit_base_patch16_224.mae",
        any_patch=True,
        settings=ANY_SIZE,
    ),
    Family(
        "ViT (arXiv 2010.11929)",
        r"vit_(?:tiny|small|base|large|huge|giant|gigantic)_patch\d+_\d+",
        "vit_tiny_patch16_224",
        any_patch=True,
        settings=ANY_SIZE,
    ),
    Family(
        "CLIP's image encoder (arXiv 2103.00020)",
        r"vit_\w+_clip_(?:quickgelu_)?\d+",
        "vit_base_patch16_clip_224",
        any_patch=True,
        settings=ANY_SIZE,
    ),
    # its position embeddings are always resampled to the input
    Family("SAM's image encoder (arXiv 2304.02643)", r"samvit_\w+", "samvit_base_patch16"),
    Family(
        "Swin (arXiv 2103.14030)",
        r"swin_(?:tiny|small|base|large)_patch4_window\d+_\d+",
        "swin_tiny_patch4_window7_224",
        settings=ANY_SIZE,
    ),
    Family(
        "Swin V2 (arXiv 2111.09883)",
        r"swinv2_(?:tiny|small|base|large)_window\w+",
        "swinv2_tiny_window8_256",
        settings=ANY_SIZE,
    ),
    Family(
        # the overlapping stems (ols) lie off the middle of their pixels, and only they do
        "ConvNeXt (arXiv 2201.03545, V2 2301.00808)",
        r"convnext(?:v2)?_(?!\w*ols)\w+",
        "convnext_atto",
    ),
    Family("ResNet (arXiv 1512.03385)", r"resnet\d+", "resnet18", centred=False),
    Family(
        "MobileNetV3 (arXiv 1905.02244)",
        r"mobilenetv3_\w+",
        "mobilenetv3_small_050",
        centred=False,
    ),
    Family(
        # those with anti-aliasing (aa, blur) sample at other places
        "MobileNetV4 (arXiv 2404.10518)",
        r"mobilenetv4_(?:conv|hybrid)_(?:small|medium|large)(?:_\d+)?",
        "mobilenetv4_conv_small",
        centred=False,
    ),
    Family(
        "EfficientNet (arXiv 1905.11946)",
        r"efficientnet_b\d",
        "efficientnet_b0",
        centred=False,
    ),
)


def find_family(name: str) -> Family | None:
    """Return the family of a timm name, with or without a tag of its weights, or None.

    Names and tags that timm doesn't have belong to no family.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        return None
    if tag and name not in timm.list_pretrained(f"{architecture}.*"):
        return None
    for family in FAMILIES:
        if any(re.fullmatch(family.pattern, n) for n in (name, architecture)):
            return family
    return None


def create_network(
    name: str, family: Family, *, pretrained: bool = False, **settings: Any
) -> nn.Module:
    """Build a network of a family without classifier, for tiles of any size.

    Parameters
    ----------
    name : a name of timm, with or without a tag of its weights
    pretrained : whether to download the published weights
    settings : passed to `timm.create_model`; they go before the family's own
    """
    settings = {"num_classes": 0, **family.settings, **settings}
    network: nn.Module = timm.create_model(name, pretrained=pretrained, **settings)
    for module in network.modules():
        if isinstance(module, swin_transformer_v2.WindowAttention):
            # otherwise it reads the weights of its layer qkv without calling it, past LoRA
            module.qkv_bias_separate = True
    return network
