"""Merging of similar tokens between the layers of a transformer, and the way back to a map.

Bolya et al., "Token merging: your ViT but faster", arXiv 2210.09461, written from the
paper: bipartite soft matching by the attention's keys (§3), tokens weighted by the
number of patches they stand for, in averages and in attention (§3, proportional
attention). For dense features each patch gets its token's value again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


class Tokens(NamedTuple):
    """Tokens that stand for one patch or several."""

    values: Tensor
    """Shape (B, N, D), prefix tokens first."""

    sizes: Tensor
    """Shape (B, N): patches that each stands for, float32; 1 for prefix tokens."""

    owners: Tensor
    """Shape (B, P + H·W): the token that stands for each of the first ones."""


class Matching(NamedTuple):
    """Which tokens merge: those at `gone` into those at `into`; indices of tokens."""

    gone: Tensor
    """Shape (B, r)."""

    into: Tensor
    """Shape (B, r)."""


def single_tokens(values: Tensor) -> Tokens:
    """Let each token of shape (B, N, D) stand for itself."""
    batch, n, _ = values.shape
    sizes = torch.ones(batch, n, device=values.device)
    return Tokens(values, sizes, torch.arange(n, device=values.device).expand(batch, n))


@torch.no_grad()
def match_tokens(keys: Tensor, n_merged: int, n_prefix: int) -> Matching | None:
    """Choose the tokens to merge; prefix tokens are left alone.

    Every other token proposes the most similar of those in between (cosine of the
    keys); the `n_merged` most similar pairs merge. At most half the tokens go.

    Parameters
    ----------
    keys : shape (B, N, d)
    n_merged : tokens r that should go
    n_prefix : class and register tokens, which come first

    Returns
    -------
    None where no token goes
    """
    n_merged = min(n_merged, (keys.shape[1] - n_prefix) // 2)
    if n_merged <= 0:
        return None
    directions = F.normalize(keys[:, n_prefix:].float(), dim=-1)
    similarity = directions[:, ::2] @ directions[:, 1::2].mT
    best, partner = similarity.max(dim=-1)
    # stable, so that ties fall the same way on every machine
    order = best.argsort(dim=-1, descending=True, stable=True)[:, :n_merged]
    return Matching(n_prefix + 2 * order, n_prefix + 1 + 2 * partner.gather(1, order))


def merge_tokens(tokens: Tokens, matching: Matching) -> Tokens:
    """Replace the tokens of each match by their mean, weighted by size.

    Returns
    -------
    with r tokens fewer; the order of the others is kept
    """
    values, sizes, owners = tokens
    batch, n, dim = values.shape
    gone, into = matching
    # a product with the assignment, as sums over indices differ from run to run on CUDA
    assigned = F.one_hot(into, n).to(values.dtype)
    weighted = values * sizes[..., None].to(values.dtype)
    moved = weighted.gather(1, gone[..., None].expand(-1, -1, dim))
    moved_sizes = sizes.gather(1, gone)
    new_sizes = sizes + (assigned.to(sizes.dtype) * moved_sizes[..., None]).sum(1)
    # tokens that take none in stay as they are, to the bit
    mean = (weighted + assigned.mT @ moved) / new_sizes[..., None].to(values.dtype)
    values = torch.where((new_sizes > sizes)[..., None], mean, values)
    stays = torch.ones(batch, n, dtype=torch.bool, device=values.device).scatter(1, gone, False)
    kept = stays.long().argsort(dim=1, descending=True, stable=True)[:, : n - gone.shape[1]]
    place = (stays.long().cumsum(1) - 1).scatter(1, gone, 0)
    place = place.scatter(1, gone, place.gather(1, into))
    return Tokens(
        values.gather(1, kept[..., None].expand(-1, -1, dim)),
        new_sizes.gather(1, kept),
        place.gather(1, owners),
    )


def unmerge_tokens(values: Tensor, owners: Tensor) -> Tensor:
    """Give each patch its token's value: (B, N, D) and (B, M) to (B, M, D)."""
    return values.gather(1, owners[..., None].expand(-1, -1, values.shape[-1]))


def size_bias(tokens: Tokens) -> Tensor:
    """Return what proportional attention adds to the scores: log sizes, (B, 1, 1, N)."""
    return tokens.sizes.log()[:, None, None]
