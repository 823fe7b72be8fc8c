"""Self-attention within windows of a map of tokens, for tiles larger than a ViT was made for.

The arrangement of ViTDet (Li et al., "Exploring plain vision transformer backbones
for object detection", arXiv 2203.16527): most blocks attend within windows that don't
overlap, a few evenly spaced ones everywhere. Weights are those of global attention.

Two things are ours. Class and register tokens have no place on the map: they attend to
all tokens, and are keys and values in every window, so that they carry what the tile
has in common into each of them. And padded places are no keys, where ViTDet lets
windows at the border attend to zeros.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from timm.layers import Attention
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Windows:
    """A map of tokens cut into windows of one size, the last of an axis padded."""

    shape_yx: tuple[int, int]
    """Tokens of the map."""

    side_yx: tuple[int, int]
    """Tokens of a window."""

    @property
    def n_yx(self) -> tuple[int, int]:
        """Windows along each axis."""
        (height, width), (side_y, side_x) = self.shape_yx, self.side_yx
        return math.ceil(height / side_y), math.ceil(width / side_x)

    def split(self, tokens: Tensor) -> Tensor:
        """Cut tokens of shape (B, H·W, D) into windows of shape (B·n, side_y·side_x, D)."""
        (height, width), (side_y, side_x), (n_y, n_x) = self.shape_yx, self.side_yx, self.n_yx
        batch, _, dim = tokens.shape
        grid = tokens.reshape(batch, height, width, dim)
        grid = F.pad(grid, (0, 0, 0, n_x * side_x - width, 0, n_y * side_y - height))
        cut = grid.reshape(batch, n_y, side_y, n_x, side_x, dim).transpose(2, 3)
        return cut.reshape(batch * n_y * n_x, side_y * side_x, dim)

    def join(self, windows: Tensor) -> Tensor:
        """Return what `split` cut, without its padding."""
        (height, width), (side_y, side_x), (n_y, n_x) = self.shape_yx, self.side_yx, self.n_yx
        dim = windows.shape[-1]
        cut = windows.reshape(-1, n_y, n_x, side_y, side_x, dim).transpose(2, 3)
        grid = cut.reshape(-1, n_y * side_y, n_x * side_x, dim)[:, :height, :width]
        return grid.reshape(len(grid), height * width, dim)

    def padding(self, device: torch.device) -> Tensor | None:
        """Return which places of each window are padding, shape (n, side_y·side_x), if any."""
        if all(n * side == of for n, side, of in self._axes()):
            return None
        y, x = (torch.arange(n * side, device=device) >= of for n, side, of in self._axes())
        (n_y, n_x), (side_y, side_x) = self.n_yx, self.side_yx
        cut = (y[:, None] | x).reshape(n_y, side_y, n_x, side_x).transpose(1, 2)
        return cut.reshape(n_y * n_x, side_y * side_x)

    def _axes(self) -> list[tuple[int, int, int]]:
        return list(zip(self.n_yx, self.side_yx, self.shape_yx, strict=True))


def plan_windows(shape_yx: tuple[int, int], window_tokens: int) -> Windows | None:
    """Return the fewest windows of at most that side, about equal ones; None if one holds all.

    Parameters
    ----------
    shape_yx : tokens of the map
    window_tokens : largest side of a window, in tokens
    """
    # 37 tokens in windows of up to 16 are 3 × 13 with 2 padded, not 3 × 16 with 11
    n_yx = [math.ceil(side / window_tokens) for side in shape_yx]
    if n_yx == [1, 1]:
        return None
    side_y, side_x = (math.ceil(side / n) for side, n in zip(shape_yx, n_yx, strict=True))
    return Windows(shape_yx, (side_y, side_x))


def window_attention(attn: Attention, tokens: Tensor, windows: Windows, n_prefix: int) -> Tensor:
    """Attend within windows, with the weights of a layer of global attention.

    Parameters
    ----------
    attn : timm's layer
    tokens : shape (B, P + H·W, D), prefix tokens first
    n_prefix : class and register tokens P

    Returns
    -------
    the same shape
    """
    batch = len(tokens)
    projected = attn.qkv(tokens)
    prefix, grid = projected[:, :n_prefix], windows.split(projected[:, n_prefix:])
    n_windows = len(grid) // batch
    own = prefix.repeat_interleave(n_windows, dim=0)
    q, k, v = parts_of(attn, torch.cat([own, grid], dim=1))
    bias = None
    padding = windows.padding(tokens.device)
    if padding is not None:
        nothing = torch.zeros(n_windows, n_prefix, device=tokens.device)
        bias = torch.cat([nothing, padding.float().masked_fill(padding, -math.inf)], dim=1)
        bias = bias.repeat(batch, 1)[:, None, None]
    within = attend(attn, q[:, :, n_prefix:], k, v, bias)
    result = windows.join(within)
    if n_prefix:
        q, k, v = parts_of(attn, projected)
        result = torch.cat([attend(attn, q[:, :, :n_prefix], k, v), result], dim=1)
    return cast("Tensor", attn.proj_drop(attn.proj(result)))


def parts_of(attn: Attention, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, (B, heads, N, d), of what the layer qkv gave."""
    batch, n, _ = projected.shape
    parts = projected.reshape(batch, n, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = parts.unbind(0)
    return attn.q_norm(q), attn.k_norm(k), v


def attend(attn: Attention, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q·kᵀ/√d + bias)·v with the heads side by side.

    Like timm's layer, it shows the attention matrix to hooks on `attn_drop` where
    fused attention is turned off.

    Parameters
    ----------
    q : shape (B, heads, M, d)
    k, v : shape (B, heads, N, d)
    bias : broadcasts to (B, heads, M, N)

    Returns
    -------
    shape (B, M, heads · d)
    """
    bias = None if bias is None else bias.to(q.dtype)
    if attn.fused_attn:
        dropout = attn.attn_drop.p if attn.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    else:
        scores = (q * attn.scale) @ k.mT
        weights = (scores if bias is None else scores + bias).softmax(dim=-1)
        seen = attn.attn_drop(weights) @ v
    return seen.transpose(1, 2).flatten(2)
