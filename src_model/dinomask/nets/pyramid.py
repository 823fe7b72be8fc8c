"""Feature pyramid at strides 3.5, 7, 14 and 28, with a convolutional detail stem.

A simple feature pyramid (Li et al., "Exploring plain ViT backbones for object
detection", arXiv 2203.16527) whose fine levels also see the image through a
small convolutional stem: tokens of 14 px alone lose thin cells.

All normalisation is over channels at one location, so that a tile's features
don't depend on what else is in the tile.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

STEM_WIDTH = 48
"""Channels of the stem at stride 2."""


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """Feature maps of a batch of tiles.

    Attributes
    ----------
    detail : shape (B, 48, H / 2, W / 2), for mask contours
    fine : shape (B, C', H / 3.5, W / 3.5), for masks
    levels : shapes (B, C, H / s, W / s) for s = 7, 14, 28, for detection
    """

    detail: Tensor
    fine: Tensor
    levels: tuple[Tensor, Tensor, Tensor]


LEVEL_STRIDES_PX = (7.0, 14.0, 28.0)
FINE_STRIDE_PX = 3.5
DETAIL_STRIDE_PX = 2.0


class ConvBlock(nn.Sequential):
    """3×3 convolution, channel norm, GELU."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(nn.Conv2d(c_in, c_out, 3, padding=1), LayerNorm2d(c_out), nn.GELU())


class ResidualBlock(nn.Module):
    """x + conv(GELU(norm(conv(x)))), both 3×3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = ConvBlock(channels, channels)
        self.out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = x + self.out(self.block(x))
        return out


def _halve(c_in: int, c_out: int) -> nn.Sequential:
    # kernel 2 keeps the centres of cells where strides say they are
    return nn.Sequential(nn.Conv2d(c_in, c_out, 2, stride=2), LayerNorm2d(c_out), nn.GELU())


class DetailStem(nn.Module):
    """Convolutions on the pixels: strides 2, 3.5, 7 and 14."""

    def __init__(self, detail_width: int, width: int) -> None:
        super().__init__()
        self.to_2 = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2, padding=1),
            nn.GELU(),
            ConvBlock(32, STEM_WIDTH),
        )
        self.to_fine = nn.Sequential(
            ConvBlock(STEM_WIDTH, detail_width), ResidualBlock(detail_width)
        )
        self.to_7 = nn.Sequential(_halve(detail_width, width), ResidualBlock(width))
        self.to_14 = nn.Sequential(_halve(width, width), ResidualBlock(width))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map (B, 3, H, W) to maps at strides 2, 3.5, 7 and 14."""
        at_2 = self.to_2(images)
        size = (images.shape[-2] // 14 * 4, images.shape[-1] // 14 * 4)
        resized = F.interpolate(at_2, size=size, mode="bilinear", align_corners=False)
        fine = self.to_fine(resized)
        at_7 = self.to_7(fine)
        return at_2, fine, at_7, self.to_14(at_7)


class FeaturePyramid(nn.Module):
    """Fuses a backbone's maps at stride 14 with the detail stem, top down.

    Parameters
    ----------
    backbone_width, n_features : channels and number of the backbone's maps
    width : channels C of the detection levels
    detail_width : channels C' of the fine level
    """

    def __init__(self, backbone_width: int, n_features: int, width: int, detail_width: int) -> None:
        super().__init__()
        self.stem = DetailStem(detail_width, width)
        self.lateral = nn.Sequential(
            nn.Conv2d(backbone_width * n_features, width, 1), LayerNorm2d(width)
        )
        self.up_to_7 = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.up_to_fine = nn.ConvTranspose2d(width, detail_width, 2, stride=2)
        self.out_28 = _halve(width, width)
        self.out_14 = ConvBlock(width, width)
        self.out_7 = ConvBlock(width, width)
        self.out_fine = ConvBlock(detail_width, detail_width)

    def forward(self, images: Tensor, features: list[Tensor]) -> Pyramid:
        """Build the pyramid.

        Parameters
        ----------
        images : shape (B, 3, H, W), as the backbone saw them
        features : maps of shape (B, D, H / 14, W / 14)
        """
        detail, fine, at_7, at_14 = self.stem(images)
        at_14 = self.out_14(at_14 + self.lateral(torch.cat(features, dim=1)))
        at_7 = self.out_7(at_7 + self.up_to_7(at_14))
        fine = self.out_fine(fine + self.up_to_fine(at_7))
        return Pyramid(detail, fine, (at_7, at_14, self.out_28(at_14)))
