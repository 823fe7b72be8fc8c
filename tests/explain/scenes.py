"""Features with a known structure, and a model whose tokens see their own patch alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from dinomask.config import SegmentConfig, TileConfig
from dinomask.explain.objects import ObjectFeatures
from dinomask.nets.catalogue import Manifest
from dinomask.nets.centermask import CenterMask
from dinomask.nets.features import ViTBackbone
from dinomask.run.predictor import Predictor
from tests.nets.small import small_config, small_vit

# small tiles, so that small images have several
SMALL_TILES = SegmentConfig(
    diameter_px=32.0, device="cpu", threads=1, tiles=TileConfig(tile_px=112, halo_px=28)
)

MODEL = {"name": "m", "sha256": "0" * 64, "adapter_sha256": None}


def planted(
    n_kinds: int = 3, n_each: int = 40, width: int = 24, seed: int = 0, image: str = "a"
) -> tuple[ObjectFeatures, np.ndarray]:
    """Objects of clearly different kinds, in a random order, and the kind of each."""
    rng = np.random.default_rng(seed)
    # the kinds are always the same ones
    centres = np.random.default_rng(1).normal(size=(n_kinds, width)) * 4
    kind = rng.permutation(np.repeat(np.arange(n_kinds), n_each))
    vectors = (centres[kind] + rng.normal(size=(len(kind), width))).astype(np.float32)
    return features_of(vectors, image), kind


def features_of(vectors: np.ndarray, image: str = "a") -> ObjectFeatures:
    """Features of one layer; ids are not 1 to N, so that no row passes for an id."""
    n = len(vectors)
    rng = np.random.default_rng(n)
    table = pd.DataFrame(
        {
            "image": image,
            "id": rng.permutation(np.arange(n) * 3 + 7),
            "centroid_y": rng.uniform(0, 500, n),
            "centroid_x": rng.uniform(0, 500, n),
            "area_px": rng.integers(50, 900, n),
        }
    )
    return ObjectFeatures(table, {3: np.asarray(vectors, np.float32)}, MODEL)


def local_predictor(depth: int = 4) -> Predictor:
    """A real ViT of which attention adds nothing and positions are alike.

    So a token depends on its own patch alone, and tiles can be compared exactly.
    """
    torch.manual_seed(0)
    vit = small_vit(depth=depth)
    with torch.no_grad():
        vit.pos_embed.zero_()
        for block in vit.blocks:
            block.ls1.gamma.zero_()
    model = CenterMask(small_config(), ViTBackbone(vit)).eval()
    manifest = Manifest("local", model.config, weights_sha256="1" * 64)
    return Predictor(model, manifest, torch.device("cpu"))
