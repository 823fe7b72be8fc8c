"""Feature pyramid at strides 3.5, 7, 14 and 28, with a convolutional detail stem.

A simple feature pyramid (Li et al., "Exploring plain ViT backbones for object
detection", arXiv 2203.16527) whose fine levels also see the image through a
small convolutional stem: tokens of 14 px alone lose thin cells.

All normalisation is over channels at one location, so that a tile's features
don't depend on what else is in the tile.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """x + conv(GELU(norm(conv(x)))), both 3×3.

    Parameters
    ----------
    channels : C
    silent : whether it begins as the identity, as one added to a trained network must
    """

    def __init__(self, channels: int, *, silent: bool = False) -> None:
        super().__init__()
        self.block = ConvBlock(channels, channels)
        self.out = nn.Conv2d(channels, channels, 3, padding=1)
        if silent:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(cast("Tensor", self.out.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = x + self.out(self.block(x))
        return out


def _halve(c_in: int, c_out: int) -> nn.Sequential:
    # kernel 2 keeps the centres of cells where strides say they are
    return nn.Sequential(nn.Conv2d(c_in, c_out, 2, stride=2), LayerNorm2d(c_out), nn.GELU())


def _project(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1), LayerNorm2d(c_out))


def _residual(channels: int, n: int) -> list[ResidualBlock]:
    return [ResidualBlock(channels, silent=i > 0) for i in range(n)]


class DetailStem(nn.Module):
    """Convolutions on the pixels: strides 2, 3.5, 7 and 14.

    Parameters
    ----------
    detail_width : channels at stride 3.5
    width : channels at strides 7 and 14
    blocks : residual blocks at strides 3.5, 7 and 14; those after the first begin as the
        identity
    """

    def __init__(
        self, detail_width: int, width: int, blocks: tuple[int, int, int] = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.to_2 = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2, padding=1),
            nn.GELU(),
            ConvBlock(32, STEM_WIDTH),
        )
        self.to_fine = nn.Sequential(
            ConvBlock(STEM_WIDTH, detail_width), *_residual(detail_width, blocks[0])
        )
        self.to_7 = nn.Sequential(_halve(detail_width, width), *_residual(width, blocks[1]))
        self.to_14 = nn.Sequential(_halve(width, width), *_residual(width, blocks[2]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map (B, 3, H, W) to maps at strides 2, 3.5, 7 and 14."""
        at_2 = self.to_2(images)
        size = (images.shape[-2] // 14 * 4, images.shape[-1] // 14 * 4)
        resized = F.interpolate(at_2, size=size, mode="bilinear", align_corners=False)
        fine = self.to_fine(resized)
        at_7 = self.to_7(fine)
        return at_2, fine, at_7, self.to_14(at_7)


class FeaturePyramid(nn.Module):
    """Fuses a backbone's maps with the detail stem, top down.

    The maps of one stride are joined and projected by a 1×1 convolution, as in
    a feature pyramid network (Lin et al., arXiv 1612.03144).

    Parameters
    ----------
    backbone_widths, backbone_strides_px : channels and stride of each of the
        backbone's maps; strides 3.5, 7 and 14, the last at least once
    width : channels C of the detection levels
    detail_width : channels C' of the fine level
    stem_blocks : residual blocks of the detail stem at strides 3.5, 7 and 14
    """

    def __init__(
        self,
        backbone_widths: Sequence[int],
        backbone_strides_px: Sequence[float],
        width: int,
        detail_width: int,
        stem_blocks: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        joined = {FINE_STRIDE_PX: 0, **dict.fromkeys(LEVEL_STRIDES_PX[:2], 0)}
        for channels, stride in zip(backbone_widths, backbone_strides_px, strict=True):
            joined[stride] += channels
        self.backbone_strides_px = tuple(backbone_strides_px)
        self.stem = DetailStem(detail_width, width, stem_blocks)
        self.lateral = _project(joined[14.0], width)
        self.lateral_7 = _project(joined[7.0], width) if joined[7.0] else None
        self.lateral_fine = (
            _project(joined[FINE_STRIDE_PX], detail_width) if joined[FINE_STRIDE_PX] else None
        )
        self.up_to_7 = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.up_to_fine = nn.ConvTranspose2d(width, detail_width, 2, stride=2)
        self.out_28 = _halve(width, width)
        self.out_14 = ConvBlock(width, width)
        self.out_7 = ConvBlock(width, width)
        self.out_fine = ConvBlock(detail_width, detail_width)

    def forward(
        self, images: Tensor, features: list[Tensor], stem_kept: Tensor | None = None
    ) -> Pyramid:
        """Build the pyramid.

        Parameters
        ----------
        images : shape (B, 3, H, W), as the backbone saw them
        features : the backbone's maps, of shapes (B, D, H / s, W / s)
        stem_kept : shape (B,), 0 for tiles whose detection levels are made without
            the stem, so that the backbone alone must find their objects; else 1.
            None keeps it for all
        """
        detail, fine, at_7, at_14 = self.stem(images)
        if stem_kept is not None:
            kept = stem_kept.to(at_7.dtype).view(-1, 1, 1, 1)
            at_7, at_14 = at_7 * kept, at_14 * kept
        at_14 = self.out_14(at_14 + self.lateral(self._join(features, 14.0)))
        if self.lateral_7 is not None:
            at_7 = at_7 + self.lateral_7(self._join(features, 7.0))
        at_7 = self.out_7(at_7 + self.up_to_7(at_14))
        if self.lateral_fine is not None:
            fine = fine + self.lateral_fine(self._join(features, FINE_STRIDE_PX))
        fine = self.out_fine(fine + self.up_to_fine(at_7))
        return Pyramid(detail, fine, (at_7, at_14, self.out_28(at_14)))

    def _join(self, features: list[Tensor], stride_px: float) -> Tensor:
        pairs = zip(features, self.backbone_strides_px, strict=True)
        return torch.cat([maps for maps, stride in pairs if stride == stride_px], dim=1)
