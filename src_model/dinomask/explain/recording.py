"""Attention of a network's blocks, noted while it looks at a tile.

Of timm's plain attention only queries and keys are noted, and attention is computed
from them where it is asked for: no block leaves the fused kernel, the output is the same
to the bit, and a tile of all layers takes a few tens of megabytes. Swin and SAM add
position terms inside their layers; of these the matrices themselves are noted, and only
the blocks asked for leave the fused kernel meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from typing import TYPE_CHECKING, Any

import torch
from timm.layers import Attention
from torch import Tensor, nn

from dinomask.config import PATCH_PX
from dinomask.errors import NoAttentionError, SettingsError
from dinomask.explain.parts import BlockAttention, Computed, Part, Recorded, window_tokens
from dinomask.nets.merging import Tokens, match_tokens, merge_tokens, single_tokens, size_bias
from dinomask.nets.mixing import Mixing
from dinomask.nets.resampled import ResampledBackbone
from dinomask.nets.windows import plan_windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dinomask.nets.features import Backbone


def attention_blocks(backbone: Backbone) -> list[nn.Module]:
    """Return the blocks of a backbone that have attention, first to last.

    Raises
    ------
    NoAttentionError
        If it is a convolutional network.
    """
    blocks = [backbone.get_submodule(path) for path in backbone.block_paths]
    blocks = [block for block in blocks if isinstance(getattr(block, "attn", None), nn.Module)]
    if not blocks:
        raise NoAttentionError(
            expected="a transformer, whose tokens attend to each other",
            got="a convolutional backbone, which has no attention",
            remedy="Look at its features, or at the detector's maps instead; both work for every "
            "backbone.",
        )
    return blocks


def choose_block(layer: int, n_blocks: int) -> int:
    """Return the number of a block; negative ones count from the last.

    Raises
    ------
    SettingsError
        If there is no such block.
    """
    if not -n_blocks <= layer < n_blocks:
        raise SettingsError(
            expected=f"a layer from 0 to {n_blocks - 1}, or from -1 to -{n_blocks} from the last",
            got=f"layer {layer}",
            remedy="Choose a layer that the model has.",
        )
    return layer % n_blocks


def prefix_tokens(backbone: Backbone) -> tuple[int, int]:
    """Return how many class tokens (0 or 1) and register tokens a backbone has."""
    vit: Any = _network(backbone)
    n_prefix = int(getattr(vit, "num_prefix_tokens", 0))
    n_class = 1 if n_prefix and getattr(vit, "cls_token", None) is not None else 0
    return n_class, n_prefix - n_class


@contextlib.contextmanager
def recording(backbone: Backbone, blocks: Sequence[int] | None = None) -> Iterator[Recording]:
    """Note the attention of a backbone while it looks at one tile in the block of `with`.

    Parameters
    ----------
    backbone : a transformer, in evaluation mode; back as it was at the end
    blocks : which blocks to note; None notes all

    Raises
    ------
    NoAttentionError
        If it is a convolutional network.
    SettingsError
        If there is no such block.
    """
    every = attention_blocks(backbone)
    chosen = [choose_block(i, len(every)) for i in blocks] if blocks is not None else None
    recorder = Recording(backbone, every, range(len(every)) if chosen is None else chosen)
    try:
        recorder.attach()
        yield recorder
    finally:
        recorder.detach()


class Recording:
    """What the hooks of `recording` noted; `blocks` gives it once the network has looked."""

    def __init__(
        self, backbone: Backbone, every: Sequence[nn.Module], chosen: Sequence[int]
    ) -> None:
        self._backbone = backbone
        self._every = every
        self._mixing: Mixing = getattr(backbone, "mixing", Mixing())
        self._chosen = sorted(set(chosen))
        # what merges in one block must be known in all later ones
        self._noted = list(range(len(every))) if self._mixing.merge_tokens else self._chosen
        self._handles: list[Any] = []
        self._fused: dict[int, bool] = {}
        self._seen: dict[str, dict[int, list[Tensor]]] = {"q": {}, "k": {}, "a": {}}
        self._grids: dict[int, tuple[int, int]] = {}
        # another thread may be segmenting with the same network
        self._thread = threading.get_ident()

    def attach(self) -> None:
        """Begin to note."""
        self._handles.append(
            _network(self._backbone).patch_embed.register_forward_hook(self._patches)
        )
        for i in self._noted:
            block: Any = self._every[i]
            if isinstance(block.attn, Attention):
                self._hook(block.attn.q_norm, "q", i)
                self._hook(block.attn.k_norm, "k", i)
                continue
            self._hook(block.attn.attn_drop, "a", i)
            note = functools.partial(self._note_grid, i)
            self._handles.append(block.register_forward_pre_hook(note))
            if hasattr(block.attn, "fused_attn"):
                self._fused[i] = block.attn.fused_attn
                block.attn.fused_attn = False

    def detach(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()
        for i, fused in self._fused.items():
            block: Any = self._every[i]
            block.attn.fused_attn = fused

    def blocks(self) -> tuple[BlockAttention, ...]:
        """Return the attention of the chosen blocks, in order."""
        if self._seen["a"]:
            return tuple(self._recorded(i) for i in self._chosen)
        n_class, n_registers = prefix_tokens(self._backbone)
        make = functools.partial(self._computed, n_class + n_registers)
        if not self._mixing.merge_tokens:
            return tuple(make(i, None) for i in self._chosen)
        found = {}
        grid = self._grids[-1]
        tokens = single_tokens(torch.zeros(1, n_class + n_registers + grid[0] * grid[1], 1))
        for i in self._noted:
            found[i] = make(i, tokens)
            tokens = self._merge(i, tokens, n_class + n_registers)
        return tuple(found[i] for i in self._chosen)

    def _merge(self, i: int, tokens: Tokens, n_prefix: int) -> Tokens:
        """Repeat what a block did to its tokens, from the same keys."""
        keys = self._seen["k"][i][0].mean(dim=1)
        matching = match_tokens(keys, self._mixing.merge_tokens, n_prefix)
        return tokens if matching is None else merge_tokens(tokens, matching)

    def _computed(self, n_prefix: int, i: int, tokens: Tokens | None) -> BlockAttention:
        block: Any = self._every[i]
        attn: Attention = block.attn
        grid_yx = self._grids[-1]
        parts: tuple[Part, ...]
        window = self._mixing.window_tokens
        windows = plan_windows(grid_yx, window) if window else None
        if windows is not None and not self._mixing.is_global(i, len(self._every)):
            parts = self._in_windows(i, attn.scale, n_prefix, windows.side_yx)
        else:
            q, k = self._seen["q"][i][0] * attn.scale, self._seen["k"][i][0]
            every = torch.arange(q.shape[2])[None]
            bias = None if tokens is None else size_bias(tokens)
            parts = (Computed(every, every, q, k, bias),)
        owners = None if tokens is None else tokens.owners[0]
        stride_px = self._stride_px(i)
        return BlockAttention(i, grid_yx, n_prefix, attn.num_heads, stride_px, parts, owners)

    def _in_windows(
        self, i: int, scale: float, n_prefix: int, side_yx: tuple[int, int]
    ) -> tuple[Part, ...]:
        """See `dinomask.nets.windows`: the map within windows, prefix tokens everywhere."""
        inside = window_tokens(self._grids[-1], side_yx)
        shifted = torch.where(inside < 0, inside, inside + n_prefix)
        prefix = torch.arange(n_prefix).expand(len(inside), -1)
        keys = torch.cat([prefix, shifted], dim=1)
        q, *q_all = (q * scale for q in self._seen["q"][i])
        k, *k_all = self._seen["k"][i]
        bias = torch.zeros(keys.shape).masked_fill(keys < 0, -math.inf)[:, None, None]
        parts: list[Part] = [Computed(shifted, keys, q[:, :, n_prefix:], k, bias)]
        if n_prefix:
            first, every = torch.arange(n_prefix)[None], torch.arange(k_all[0].shape[2])[None]
            parts.append(Computed(first, every, q_all[0][:, :, :n_prefix], k_all[0]))
        return tuple(parts)

    def _recorded(self, i: int) -> BlockAttention:
        block: Any = self._every[i]
        grid_yx = self._grids[i]
        side_yx, shift_yx = _window_of(block, grid_yx)
        tokens = window_tokens(grid_yx, side_yx, shift_yx)
        n_heads = int(block.attn.num_heads)
        # SAM's layer has heads and windows in one axis, in this order
        matrices = self._seen["a"][i][0].reshape(len(tokens), n_heads, *2 * [tokens.shape[1]])
        parts = (Recorded(tokens, tokens, matrices),)
        return BlockAttention(i, grid_yx, 0, n_heads, self._stride_px(i), parts)

    def _stride_px(self, i: int) -> float:
        """Model pixels a token: those of the enlarged image, brought back."""
        if not isinstance(self._backbone, ResampledBackbone):
            return float(PATCH_PX)
        coarser = self._grids[-1][0] / self._grids.get(i, self._grids[-1])[0]
        patch: Any = self._backbone.network.patch_embed.patch_size  # type: ignore[union-attr]
        return float(patch[0] * round(coarser) / self._backbone.enlargement)

    def _hook(self, module: nn.Module, kind: str, i: int) -> None:
        def note(_: nn.Module, __: Any, output: Tensor) -> None:
            if threading.get_ident() == self._thread:
                self._seen[kind].setdefault(i, []).append(output.detach().cpu())

        self._handles.append(module.register_forward_hook(note))

    def _patches(self, _: nn.Module, __: Any, output: Tensor) -> None:
        if threading.get_ident() == self._thread:
            self._grids[-1] = (output.shape[1], output.shape[2])

    def _note_grid(self, i: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if threading.get_ident() == self._thread:
            self._grids[i] = (inputs[0].shape[1], inputs[0].shape[2])


def _network(backbone: Backbone) -> Any:
    return backbone.network if isinstance(backbone, ResampledBackbone) else backbone.vit


def _window_of(block: Any, grid_yx: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the tokens a window of a block of Swin or SAM has, and its shift."""
    side = block.window_size
    if isinstance(side, int):
        return ((side, side) if side else grid_yx), (0, 0)
    height, width = side
    down, right = block.shift_size
    return (int(height), int(width)), (int(down), int(right))
