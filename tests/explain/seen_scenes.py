"""Images as small models see them, whose attention is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dinomask.config import SegmentConfig, TileConfig
from dinomask.explain.seen import SeenImage
from dinomask.image import open_image
from dinomask.nets.catalogue import Manifest
from dinomask.nets.centermask import CenterMask
from dinomask.nets.features import ViTBackbone
from dinomask.run.predictor import Predictor
from tests.nets.small import small_config, small_vit

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

TILES = TileConfig(tile_px=112, halo_px=28)


def predictor_of(model: CenterMask) -> Predictor:
    manifest = Manifest("small", model.config, weights_sha256="1" * 64, score_threshold=0.3)
    return Predictor(model.eval(), manifest, torch.device("cpu"))


def seen_of(model: CenterMask, image_yx: Array, diameter_px: float = 32.0) -> SeenImage:
    """An image at a diameter, cut into tiles of 112 px with a halo of 28."""
    config = SegmentConfig(diameter_px=diameter_px, device="cpu", threads=1, tiles=TILES)
    return SeenImage.of(open_image(image_yx), config, predictor_of(model))


def noise(height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0, 1, (height, width)).astype(np.float32)


@torch.no_grad()
def bright_seeker() -> CenterMask:
    """A ViT of which every token looks at the brightest patch.

    The patch embedding tells mean brightness in channel 0, its negative in channel 1;
    queries are constant, and keys are channel 0 after the norm.
    """
    torch.manual_seed(0)
    vit = small_vit(depth=2)
    vit.pos_embed.zero_()
    vit.reg_token.zero_()
    vit.cls_token.zero_()
    kernel = vit.patch_embed.proj
    kernel.weight.zero_()
    kernel.bias.zero_()
    kernel.weight[0], kernel.weight[1] = 1 / kernel.weight[0].numel(), -1 / kernel.weight[0].numel()
    # a constant channel, so that the norm keeps differences in brightness
    kernel.bias[2] = 4.0
    width = vit.embed_dim
    for block in vit.blocks:
        block.ls1.gamma.zero_()
        block.ls2.gamma.zero_()
        block.attn.qkv.weight.zero_()
        block.attn.qkv.bias.zero_()
        head = width // block.attn.num_heads
        for h in range(block.attn.num_heads):
            block.attn.qkv.bias[h * head] = 40.0
            block.attn.qkv.weight[width + h * head, 0] = 10.0
    return CenterMask(small_config(), ViTBackbone(vit))
