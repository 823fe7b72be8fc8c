"""Cheaper ways for the tokens of a ViT to see each other, with the weights it has."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, cast

from timm.layers import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch.utils.checkpoint import checkpoint

from dinomask.errors import ModelError
from dinomask.nets.merging import (
    Tokens,
    match_tokens,
    merge_tokens,
    single_tokens,
    size_bias,
    unmerge_tokens,
)
from dinomask.nets.windows import Windows, attend, parts_of, plan_windows, window_attention

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from dinomask.config import ModelConfig

N_GLOBAL = 4
"""Blocks of global attention among those of windows where none are chosen, as in ViTDet."""


@dataclasses.dataclass(frozen=True)
class Mixing:
    """How the tokens of a ViT see each other; fields as in `ModelConfig`, which checks them."""

    window_tokens: int | None = None
    global_blocks: tuple[int, ...] | None = None
    merge_tokens: int = 0

    @classmethod
    def of(cls, config: ModelConfig) -> Mixing:
        """Return what an architecture asks for."""
        return cls(config.window_tokens, config.global_blocks, config.merge_tokens)

    @property
    def plain(self) -> bool:
        """Whether each patch sees every other one in every block."""
        return self.window_tokens is None and not self.merge_tokens

    def is_global(self, block: int, depth: int) -> bool:
        """Return whether a block attends everywhere, in a network of that many blocks."""
        if self.window_tokens is None:
            return True
        chosen = self.global_blocks
        return block in (spread(depth, N_GLOBAL) if chosen is None else chosen)


def spread(depth: int, n: int) -> list[int]:
    """Return n evenly spaced blocks, the last one among them; all where there are fewer."""
    n = min(n, depth)
    return [round((i + 1) * depth / n) - 1 for i in range(n)]


def check_mixing(network: nn.Module, mixing: Mixing) -> None:
    """Make sure that a network can work that way.

    Raises
    ------
    ModelError
        If it is no plain ViT, or a global block isn't one of its blocks.
    """
    if mixing.plain:
        return
    if not isinstance(network, VisionTransformer) or not all(
        type(block) is Block and type(block.attn) is Attention for block in network.blocks
    ):
        raise ModelError(
            expected="a plain transformer for window attention or token merging",
            got=f"a {type(network).__name__}",
            remedy="Leave them out, or choose a DINOv2, ViT, MAE or CLIP model.",
        )
    depth = len(network.blocks)
    strangers = [block for block in mixing.global_blocks or () if not 0 <= block < depth]
    if strangers:
        raise ModelError(
            expected=f"global blocks from 0 to {depth - 1}",
            got=f"{strangers[0]}",
            remedy="Choose blocks that the backbone has, or leave them out.",
        )


def token_maps(
    vit: VisionTransformer, images: Tensor, indices: Sequence[int], mixing: Mixing
) -> list[Tensor]:
    """Return the normalised maps of chosen blocks: timm's own where mixing is plain.

    Parameters
    ----------
    images : shape (B, 3, H, W), sides multiples of the patch
    indices : blocks, ascending

    Returns
    -------
    tensors of shape (B, D, H / patch, W / patch)
    """
    if mixing.plain:
        maps = vit.forward_intermediates(
            images, indices=list(indices), norm=True, intermediates_only=True
        )
        return cast("list[Tensor]", maps)
    grid = vit.patch_embed(images)
    height, width = grid.shape[1:3]
    tokens = single_tokens(vit.norm_pre(vit.patch_drop(vit._pos_embed(grid))))
    windows = plan_windows((height, width), mixing.window_tokens) if mixing.window_tokens else None
    maps = []
    for i, block in enumerate(vit.blocks):
        within = None if mixing.is_global(i, len(vit.blocks)) else windows
        step = functools.partial(
            mix_block, cast("Block", block), vit.num_prefix_tokens, within, mixing
        )
        tokens = (
            checkpoint(step, tokens, use_reentrant=False) if _checkpoints(vit) else step(tokens)
        )
        if i in indices:
            dense = unmerge_tokens(vit.norm(tokens.values), tokens.owners)
            dense = dense[:, vit.num_prefix_tokens :]
            maps.append(dense.mT.reshape(len(images), -1, height, width).contiguous())
    return maps


def mix_block(
    block: Block, n_prefix: int, windows: Windows | None, mixing: Mixing, tokens: Tokens
) -> Tokens:
    """Apply a block: within windows, with merging between its two layers, or as it is."""
    attn, values = cast("Attention", block.attn), tokens.values
    if windows is not None:
        seen = window_attention(attn, block.norm1(values), windows, n_prefix)
        tokens = tokens._replace(values=values + block.drop_path1(block.ls1(seen)))
    elif mixing.merge_tokens:
        q, k, v = parts_of(attn, attn.qkv(block.norm1(values)))
        seen = attend(attn, q, k, v, size_bias(tokens))
        seen = attn.proj_drop(attn.proj(seen))
        tokens = tokens._replace(values=values + block.drop_path1(block.ls1(seen)))
        matching = match_tokens(k.mean(dim=1), mixing.merge_tokens, n_prefix)
        tokens = tokens if matching is None else merge_tokens(tokens, matching)
    else:
        return tokens._replace(values=block(values))
    values = tokens.values
    return tokens._replace(
        values=values + block.drop_path2(block.ls2(block.mlp(block.norm2(values))))
    )


def _checkpoints(vit: VisionTransformer) -> bool:
    return bool(vit.grad_checkpointing) and vit.training
