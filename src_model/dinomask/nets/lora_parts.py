"""LoRA for parts of a fused layer: queries, keys or values alone.

timm computes queries, keys and values with one matrix of 3·D rows. Hu et al.
(arXiv 2106.09685, section 4.2) adapt them apart, most often q and v, each with
its own A and B. Stacked, that is one A of n·r rows and one B that is zero
outside its n blocks, so that merging, saving and averaging stay those of any
other layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinomask.config import QKV_PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft.tuners.lora import LoraLayer


class PartsUp(nn.Linear):
    """The matrix B of the chosen parts: each sees its own r columns, all else is zero.

    Parameters
    ----------
    rank : n·r, for n parts of rank r
    out_features : rows 3·D of the fused layer
    parts : thirds of these rows that are adapted, ascending
    """

    mask: Tensor

    def __init__(self, rank: int, out_features: int, parts: Sequence[int]) -> None:
        super().__init__(rank, out_features, bias=False)
        nn.init.zeros_(self.weight)
        mask = torch.zeros_like(self.weight, requires_grad=False)
        rows, columns = out_features // len(QKV_PARTS), rank // len(parts)
        for i, part in enumerate(parts):
            mask[part * rows : (part + 1) * rows, i * columns : (i + 1) * columns] = 1
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply (..., n·r) to (..., 3·D); no gradient reaches what is outside the blocks."""
        return F.linear(x, self.weight * self.mask)

    @torch.no_grad()
    def clear_others(self) -> None:
        """Set to zero what is outside the blocks, which `forward` doesn't see either."""
        self.weight.mul_(self.mask)


def adapt_parts(layer: LoraLayer, parts: Sequence[int]) -> None:
    """Give a fresh LoRA layer around a fused qkv a `PartsUp` for its B, in place."""
    for name, up in list(layer.lora_B.items()):
        rows, rank = cast("nn.Linear", up).weight.shape
        layer.lora_B[name] = PartsUp(rank, rows, parts).to(cast("nn.Linear", up).weight.device)
