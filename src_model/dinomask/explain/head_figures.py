"""How local or global the heads of a block look.

Mean attention distance: Dosovitskiy et al., "An image is worth 16x16 words", arXiv
2010.11929, figure 7.
"""

from __future__ import annotations

import dataclasses

import torch

from dinomask.explain.parts import PADDING, BlockAttention


@dataclasses.dataclass(frozen=True)
class HeadFigures:
    """How local or global one head looks, averaged over the places of a tile.

    Attributes
    ----------
    layer, head : which
    entropy_bits : of the attention over places: 0 looks at one, log2 of their number at all
    distance_px : mean distance to the places looked at, in image pixels; class and
        register tokens left out
    to_prefix : share of the attention that class and register tokens get
    """

    layer: int
    head: int
    entropy_bits: float
    distance_px: float
    to_prefix: float


def head_figures(block: BlockAttention, cell_px: float) -> list[HeadFigures]:
    """Return entropy and mean distance of a block's heads.

    Parameters
    ----------
    block : with all its rows
    cell_px : side of a cell, in image pixels
    """
    sizes = block.sizes
    middles = _middles(block)
    totals = torch.zeros(4, block.n_heads, dtype=torch.float64)
    for queries, keys, weights in block.chunks():
        keep = queries >= block.n_prefix
        if not keep.any():
            continue
        queries, weights = queries[keep], weights[:, keep]
        counts = sizes[queries]
        stands_for = torch.where(keys == PADDING, 1.0, sizes[keys.clamp(min=0)])
        # attention to a token is shared by the places it stands for
        entropy = -(weights * (weights / stands_for).clamp(min=1e-30).log2()).sum(dim=-1)
        on_map = (keys >= block.n_prefix).float()
        apart = torch.cdist(middles[queries], middles[keys.clamp(min=0)])
        mapped = weights * on_map
        distance = (mapped * apart).sum(-1) / mapped.sum(-1).clamp(min=1e-12)
        prefix = (weights * ((keys >= 0) & (keys < block.n_prefix))).sum(-1)
        for row, value in enumerate((entropy, distance, prefix)):
            totals[row] += (value * counts).sum(dim=-1)
        totals[3] += counts.sum()
    entropy, distance, prefix = (totals[:3] / totals[3]).tolist()
    return [
        HeadFigures(block.block, head, entropy[head], distance[head] * cell_px, prefix[head])
        for head in range(block.n_heads)
    ]


def _middles(block: BlockAttention) -> torch.Tensor:
    """Return where each token lies in cells, shape (N, 2); merged ones at their places' mean."""
    height, width = block.grid_yx
    cells = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    cells = torch.cat([torch.zeros(block.n_prefix, 2), cells])
    if block.owners is None:
        return cells
    sums = torch.zeros(len(block.sizes), 2).index_add_(0, block.owners, cells)
    return sums / block.sizes[:, None]
