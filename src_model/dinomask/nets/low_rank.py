"""A linear layer as the product of two of low rank.

W ≈ U·V with U of shape (rows, r) and V of shape (r, columns) takes r·(rows + columns)
products instead of rows·columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dinomask.errors import ModelError


class LowRankLinear(nn.Module):
    """Two linear layers, ``up(down(x))``, in the place of one.

    Attributes
    ----------
    down : from D inputs to r, without bias
    up : from r to the outputs
    """

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.down = nn.Linear(in_features, rank, bias=False)
        self.up = nn.Linear(rank, out_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., outputs)."""
        out: Tensor = self.up(self.down(x))
        return out

    @torch.no_grad()
    def load(self, up: Tensor, down: Tensor, bias: Tensor | None) -> None:
        """Take over factors of shape (outputs, r) and (r, D)."""
        self.up.weight.copy_(up)
        self.down.weight.copy_(down)
        if bias is not None:
            self.up.bias.copy_(bias)


def split_linear(model: nn.Module, path: str, rank: int) -> LowRankLinear:
    """Put two fresh layers of that rank in the place of a linear layer; keep them if there.

    Raises
    ------
    ModelError
        If there is no linear layer of that path, or the rank is above its own.
    """
    try:
        layer = model.get_submodule(path)
    except AttributeError:
        layer = None
    if isinstance(layer, LowRankLinear) and layer.rank == rank:
        return layer
    if not isinstance(layer, nn.Linear) or rank > min(layer.weight.shape):
        raise ModelError(
            expected=f"a linear layer at {path} of rank {rank} or more",
            got="none" if layer is None else f"{type(layer).__name__}",
            remedy="Use the manifest that was written with the weights.",
        )
    split = LowRankLinear(layer.in_features, layer.out_features, rank, layer.bias is not None)
    split.to(layer.weight.device)
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, split)
    return split


def full_weight(layer: nn.Linear | LowRankLinear) -> Tensor:
    """Return the matrix that a layer multiplies with, shape (outputs, D)."""
    if isinstance(layer, LowRankLinear):
        return layer.up.weight @ layer.down.weight
    return layer.weight
