"""Backbones by name: our own arrangement, and timm's networks of every family.

Layers and weight conversion are timm's; the papers stand in `dinomask.nets.families`.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import timm
from torch import nn

from dinomask.config import PATCH_PX, ModelConfig
from dinomask.errors import ModelError
from dinomask.nets.backbone_files import load_backbone_weights, message_lines
from dinomask.nets.families import FAMILIES, Family, create_network, find_family
from dinomask.nets.features import Backbone, ViTBackbone
from dinomask.nets.mixing import Mixing
from dinomask.nets.resampled import ResampledBackbone
from dinomask.nets.reshape import reshape_network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from timm.models.vision_transformer import VisionTransformer

    from dinomask.config import NetworkShape

TINY = "dinomask_tiny_patch14_reg4"
"""Our own arrangement: ViT of width 192, depth 12, patch 14, 4 registers."""

DINOV2 = FAMILIES[0]


def dinov2_names() -> list[str]:
    """Return the names in the DINOv2 arrangement: ours and timm's."""
    return [TINY, *timm.list_models("vit_*_dinov2")]


def backbone_of(config: ModelConfig, weights: str | Path | None = None) -> Backbone:
    """Build the backbone of an architecture; see `create_backbone`."""
    return create_backbone(
        config.backbone,
        weights,
        patch_px=config.patch_px,
        feature_blocks=config.feature_blocks,
        mixing=Mixing.of(config),
        shape=config.shape,
    )


def create_backbone(
    name: str,
    weights: str | Path | None = None,
    *,
    patch_px: int | None = None,
    feature_blocks: Sequence[int] | None = None,
    mixing: Mixing | None = None,
    shape: NetworkShape | None = None,
) -> Backbone:
    """Build a backbone and optionally load pretrained weights.

    Parameters
    ----------
    name : `TINY` or timm's name of a network of one of the `FAMILIES`, with or
        without a tag of its weights, e.g. ``vit_base_patch16_224.mae``
    weights : None for random weights; ``"hub"`` to download the published ones;
        or a file: ``.pth`` or safetensors, in the authors' or timm's naming
    patch_px : side of the patches in model pixels, to which the patch embedding
        is resampled; None keeps the network's own
    feature_blocks : blocks that give feature maps; None takes four
    mixing : attention within windows, or token merging
    shape : what compression left of it

    Raises
    ------
    ModelError
        If the name is unknown, the weights are missing or do not fit, or an
        option is not one of the family's.
    """
    family = DINOV2 if name == TINY else _family_of(name)
    if patch_px is not None and not family.any_patch:
        raise ModelError(
            expected="a transformer of one resolution for patches of a chosen size",
            got=f"{name!r} with patches of {patch_px} px",
            remedy="Leave the patch size out, or choose a DINOv2, ViT, MAE or CLIP model.",
        )
    settings: dict[str, Any] = {} if patch_px is None else {"patch_size": patch_px}
    network = _create(name, family, weights == "hub", settings)
    if weights is not None and weights != "hub":
        load_backbone_weights(network, Path(weights))
    reshape_network(network, shape)
    return adapt_network(
        network,
        family,
        own_pixels=patch_px is not None,
        feature_blocks=feature_blocks,
        mixing=mixing,
    )


def adapt_network(
    network: nn.Module,
    family: Family,
    *,
    own_pixels: bool = False,
    feature_blocks: Sequence[int] | None = None,
    mixing: Mixing | None = None,
) -> Backbone:
    """Wrap a network of timm in the adapter that brings its maps onto the pyramid's grid.

    DINOv2 at its own patch of 14 px is on that grid already.

    Raises
    ------
    ModelError
        If blocks were chosen that the network doesn't have, or a mixing of
        tokens that it can't do.
    """
    if family is DINOV2:
        vit = cast("VisionTransformer", network)
        # pooled-output parameters that a dense feature extractor never uses
        vit.head = nn.Identity()
        if vit.patch_embed.patch_size == (PATCH_PX, PATCH_PX):
            return ViTBackbone(vit, feature_blocks, mixing)
    return ResampledBackbone(
        network, feature_blocks, own_pixels=own_pixels, centred=family.centred, mixing=mixing
    )


def _family_of(name: str) -> Family:
    family = find_family(name)
    if family is None:
        known = [TINY, *(n for n in timm.list_models() if find_family(n))]
        close = difflib.get_close_matches(name, known, n=3)
        examples = [TINY, *dict.fromkeys([*close, *(f.example for f in FAMILIES)])]
        raise ModelError(
            expected="the name of a backbone",
            got=f"{name!r}",
            remedy=f"Choose one of: {', '.join(examples)}, or another size of these in timm.",
        )
    return family


def _create(name: str, family: Family, from_hub: bool, settings: dict[str, Any]) -> nn.Module:
    if name == TINY:
        if from_hub:
            raise ModelError(
                expected="a backbone with published weights",
                got=f"{name!r}",
                remedy="Its weights come with the bundled checkpoint: use --init tiny.",
            )
        # LayerScale starts at 0.3 and not at DINOv2's 1e-5, with which a
        # network trained from scratch hardly uses its blocks at first
        ours: dict[str, Any] = {"embed_dim": 192, "num_heads": 3, "init_values": 0.3}
        return create_network("vit_small_patch14_reg4_dinov2", family, **ours, **settings)
    if from_hub and not timm.is_model_pretrained(name):
        raise ModelError(
            expected="a backbone with published weights",
            got=f"{name!r}",
            remedy=f"Choose another, e.g. {family.example}, or leave out the weights.",
        )
    try:
        return create_network(name, family, pretrained=from_hub, **settings)
    except OSError as error:
        raise ModelError(
            expected=f"to download the weights of {name}",
            got=message_lines(error)[0],
            remedy="Check the connection, or download the file and give its path.",
        ) from error
