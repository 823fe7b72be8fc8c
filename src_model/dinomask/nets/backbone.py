"""Backbones: a Vision Transformer in the DINOv2 arrangement, through timm.

Architecture: Oquab et al., "DINOv2", arXiv 2304.07193; registers: Darcet et
al., arXiv 2309.16588. Layers and weight conversion are timm's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import timm
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from dinomask.config import PATCH_PX
from dinomask.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

TINY = "dinomask_tiny_patch14_reg4"
"""Our own arrangement: ViT of width 192, depth 12, patch 14, 4 registers."""

N_FEATURES = 4
"""Feature maps taken from evenly spaced blocks."""


def dinov2_names() -> list[str]:
    """Return the names `create_backbone` accepts: ours and timm's DINOv2 models."""
    return [TINY, *timm.list_models("vit_*_dinov2")]


class ViTBackbone(nn.Module):
    """A timm ViT seen as a dense feature extractor.

    Attributes
    ----------
    width : channels D of a feature map
    stride_px : 14
    mean, std : shape (3,); how the weights expect their input normalised
    """

    stride_px = PATCH_PX

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit
        self.width: int = vit.embed_dim
        depth = len(vit.blocks)
        n = min(N_FEATURES, depth)
        self.indices = [round((i + 1) * depth / n) - 1 for i in range(n)]
        config = cast("Mapping[str, Any]", getattr(vit, "pretrained_cfg", None) or {})
        self.mean: tuple[float, ...] = tuple(config.get("mean", (0.485, 0.456, 0.406)))
        self.std: tuple[float, ...] = tuple(config.get("std", (0.229, 0.224, 0.225)))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return feature maps of evenly spaced blocks, first to last.

        Parameters
        ----------
        images : shape (B, 3, H, W), normalised by `mean` and `std`; H and W
            multiples of 14

        Returns
        -------
        up to 4 tensors of shape (B, D, H / 14, W / 14)
        """
        maps = self.vit.forward_intermediates(
            images, indices=self.indices, norm=True, intermediates_only=True
        )
        return cast("list[Tensor]", maps)


def create_backbone(name: str, weights: str | Path | None = None) -> ViTBackbone:
    """Build a backbone and optionally load pretrained weights.

    Parameters
    ----------
    name : `TINY` or a DINOv2 name of timm, e.g. ``vit_small_patch14_reg4_dinov2``
    weights : None for random weights; ``"hub"`` to download the published ones;
        or a file: Meta's ``.pth`` or safetensors, in Meta's or timm's naming

    Raises
    ------
    ModelError
        If the name is unknown, or the weights are missing or do not fit.
    """
    if name not in dinov2_names():
        raise ModelError(
            expected="the name of a backbone",
            got=f"{name!r}",
            remedy=f"Choose one of: {', '.join(dinov2_names())}.",
        )
    from_hub = weights == "hub"
    if name == TINY:
        if from_hub:
            raise ModelError(
                expected="a backbone with published weights",
                got=f"{name!r}",
                remedy="Its weights come with the bundled checkpoint: use --init tiny.",
            )
        # LayerScale starts at 0.3 and not at DINOv2's 1e-5, with which a
        # network trained from scratch hardly uses its blocks at first
        vit = _create_vit(
            "vit_small_patch14_reg4_dinov2",
            embed_dim=192,
            num_heads=3,
            init_values=0.3,
        )
    else:
        vit = _create_published(name, from_hub)
    if weights is not None and not from_hub:
        load_backbone_weights(vit, Path(weights))
    # pooled-output parameters that a dense feature extractor never uses
    vit.head = nn.Identity()
    return ViTBackbone(vit)


def _create_vit(name: str, **settings: Any) -> VisionTransformer:
    model = timm.create_model(name, img_size=448, dynamic_img_size=True, **settings)
    return cast("VisionTransformer", model)


def _create_published(name: str, from_hub: bool) -> VisionTransformer:
    try:
        return _create_vit(name, pretrained=from_hub)
    except OSError as error:
        raise ModelError(
            expected=f"to download the weights of {name}",
            got=_lines(error)[0],
            remedy="Check the connection, or download the file and give its path.",
        ) from error


def load_backbone_weights(vit: VisionTransformer, path: Path) -> None:
    """Load weights in Meta's or timm's naming into a ViT, position grid resampled.

    Raises
    ------
    ModelError
        If the file is missing, unreadable or of another architecture.
    """
    state = _read_state(path)
    try:
        missing, unexpected = vit.load_state_dict(checkpoint_filter_fn(state, vit), strict=False)
    except Exception as error:
        # what a foreign table makes the conversion stumble over can't be listed
        raise ModelError(
            expected="weights of the chosen backbone",
            got=f"{path.name}: {_lines(error)[-1]}",
            remedy="Choose the backbone that the file was made for.",
        ) from error
    strangers = [k for k in unexpected if not k.startswith("head")]
    absent = [k for k in missing if not k.startswith("head")]
    if absent or strangers:
        raise ModelError(
            expected="weights of the chosen backbone",
            got=f"{path.name} with {len(absent)} missing and {len(strangers)} unknown tensors"
            f" (e.g. {(absent + strangers)[0]})",
            remedy="Choose the backbone that the file was made for.",
        )


def _lines(error: Exception) -> list[str]:
    """Return an error's message in lines; its kind where it has no message."""
    return [line.strip(" \t.") for line in str(error).splitlines()] or [type(error).__name__]


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(
            expected="a weights file",
            got=f"no file at {path}",
            remedy="Check the path, or use 'hub' to download.",
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only: nothing in a downloaded file is ever executed
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            expected="a safetensors file or Meta's .pth of tensors",
            got=f"{path.name}: {_lines(error)[0]}",
            remedy="Download the file again.",
        ) from error
    if not isinstance(state, dict):
        raise ModelError(
            expected="a table of tensors",
            got=f"{path.name} with a {type(state).__name__}",
            remedy="Give the file of weights as published.",
        )
    return state
