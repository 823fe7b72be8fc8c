"""Remove attention heads and hidden units of a plain transformer.

What is removed is gone from the network: its layers become smaller, see
`dinomask.nets.reshape`. Importance is measured on the user's tiles, see
`dinomask.compress.statistics`; then the layer behind what was removed is fitted anew, so
that what is left does the work of the others as well as it can.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from dinomask.compress.statistics import InputStats, measure_inputs, refit
from dinomask.config import NetworkShape
from dinomask.nets.reshape import plain_blocks, resize_attention, resize_mlp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from timm.layers import Attention, Mlp
    from timm.models.vision_transformer import Block, VisionTransformer

    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import HeadPruneSettings, MlpPruneSettings
    from dinomask.nets.centermask import CenterMask
    from dinomask.nets.features import Backbone

UNITS = 16
"""Hidden units are removed in groups of about this many, as matrix kernels like it."""


def transformer_of(backbone: Backbone) -> VisionTransformer | None:
    """Return the plain transformer of a backbone, if it is one."""
    network = getattr(backbone, "vit", None) or getattr(backbone, "network", None)
    if network is None or plain_blocks(network) is None:
        return None
    return cast("VisionTransformer", network)


def blocks_of(model: CenterMask) -> list[Block]:
    """Return the blocks of a model's plain transformer."""
    return cast(
        "list[Block]", list(cast("VisionTransformer", transformer_of(model.backbone)).blocks)
    )


def reason_against_pruning(subject: Subject) -> str | None:
    """Say why nothing can be removed from a model's blocks; None if it can."""
    config = subject.model.config
    if transformer_of(subject.model.backbone) is None:
        return f"{config.backbone} is no plain transformer (DINOv2, ViT, MAE, CLIP)"
    shape = config.shape
    if shape is not None and shape.low_rank:
        return "its layers are split in two already; prune first and split then"
    if shape is not None and shape.shared:
        return "its blocks share weights; prune first and share then"
    return None


def with_shape(model: CenterMask, **changes: Any) -> None:
    """Note in a model's architecture what was done to it."""
    shape = dataclasses.replace(model.config.shape or NetworkShape(), **changes)
    model.config = dataclasses.replace(model.config, shape=shape)


def note_blocks(model: CenterMask) -> None:
    """Note the number of heads and hidden units that the blocks have."""
    with_shape(model, **block_counts(model))


def block_counts(model: CenterMask) -> dict[str, Any]:
    """Return the number of heads and of hidden units of each block, as in `NetworkShape`."""
    blocks = blocks_of(model)
    return {
        "heads": tuple(cast("Attention", block.attn).num_heads for block in blocks),
        "hidden": tuple(cast("nn.Linear", block.mlp.fc1).out_features for block in blocks),
    }


class HeadPruning:
    """Remove the attention heads that matter least."""

    def reason_against(self, subject: Subject, settings: HeadPruneSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return reason_against_pruning(subject)

    def apply(self, subject: Subject, settings: HeadPruneSettings, work: Work) -> Subject:
        """Remove heads of all blocks, the least important ones first."""
        model = subject.model
        attentions = [cast("Attention", block.attn) for block in blocks_of(model)]
        width = attentions[0].head_dim
        stats = _measure(model, "attn.proj", work, groups=width)
        scores = [own.importance[::width] for own in stats]
        kept = choose_kept(scores, settings.ratio)
        for attn, rows, own in zip(attentions, kept, stats, strict=True):
            keep_heads(attn, rows, own if settings.refit else None)
        note_blocks(model)
        left, all_heads = sum(map(len, kept)), sum(map(len, scores))
        work.note(
            f"{all_heads - left} of {all_heads} heads removed; left a block: "
            f"{', '.join(str(len(rows)) for rows in kept)}"
        )
        return subject


class MlpPruning:
    """Remove the hidden units that matter least."""

    def reason_against(self, subject: Subject, settings: MlpPruneSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return reason_against_pruning(subject)

    def apply(self, subject: Subject, settings: MlpPruneSettings, work: Work) -> Subject:
        """Remove hidden units of all MLPs, the least important ones first."""
        model = subject.model
        mlps = [cast("Mlp", block.mlp) for block in blocks_of(model)]
        stats = _measure(model, "mlp.fc2", work)
        scores = [own.importance for own in stats]
        kept = choose_kept(scores, settings.ratio, UNITS)
        for mlp, units, own in zip(mlps, kept, stats, strict=True):
            keep_hidden(mlp, units, own if settings.refit else None)
        note_blocks(model)
        left, all_units = sum(map(len, kept)), sum(map(len, scores))
        work.note(
            f"{all_units - left} of {all_units} hidden units removed; left a block: "
            f"{', '.join(str(len(units)) for units in kept)}"
        )
        return subject


def choose_kept(scores: Sequence[Tensor], ratio: float, group: int = 1) -> list[Tensor]:
    """Choose what stays, by one ranking over all blocks.

    Parameters
    ----------
    scores : importance of each unit of each block
    ratio : share of all units that go
    group : numbers that stay are multiples of this, at least one

    Returns
    -------
    indices of each block's units that stay, ascending
    """
    flat = torch.cat(list(scores))
    n_kept = max(len(scores) * group, len(flat) - round(ratio * len(flat)))
    limit = flat.sort(descending=True).values[min(n_kept, len(flat)) - 1]
    kept = []
    for own in scores:
        n = int((own >= limit).sum())
        n = min(len(own), max(group, round(n / group) * group))
        kept.append(own.topk(n).indices.sort().values)
    return kept


@torch.no_grad()
def keep_heads(attn: Attention, heads: Tensor, stats: InputStats | None = None) -> None:
    """Leave only some heads, in place; with statistics of `proj`'s inputs it is fitted anew."""
    width, n_before = attn.head_dim, attn.num_heads
    rows = (heads[:, None] * width + torch.arange(width)).flatten()
    qkv, proj = attn.qkv, attn.proj
    resize_attention(attn, len(heads))
    if len(heads) == n_before:
        return
    thirds = torch.cat([rows + part * n_before * width for part in range(3)])
    attn.qkv.weight.copy_(qkv.weight[thirds])
    if qkv.bias is not None:
        attn.qkv.bias.copy_(qkv.bias[thirds])
    _keep_inputs(attn.proj, proj, rows, stats)


@torch.no_grad()
def keep_hidden(mlp: Mlp, units: Tensor, stats: InputStats | None = None) -> None:
    """Leave only some hidden units, in place; with statistics of `fc2`'s inputs it is refitted."""
    fc1, fc2 = cast("nn.Linear", mlp.fc1), cast("nn.Linear", mlp.fc2)
    resize_mlp(mlp, len(units))
    if len(units) == fc1.out_features:
        return
    new_1, new_2 = cast("nn.Linear", mlp.fc1), cast("nn.Linear", mlp.fc2)
    new_1.weight.copy_(fc1.weight[units])
    if fc1.bias is not None:
        new_1.bias.copy_(fc1.bias[units])
    _keep_inputs(new_2, fc2, units, stats)


def _measure(model: CenterMask, layer: str, work: Work, groups: int = 1) -> list[InputStats]:
    prefix = [f"backbone.{path}.{layer}" for path in model.backbone.block_paths]
    found = measure_inputs(
        model, prefix, work.tiles(), work.tell, groups=groups, seed=work.config.seed
    )
    return [found[path] for path in prefix]


def _keep_inputs(new: nn.Linear, old: nn.Linear, kept: Tensor, stats: InputStats | None) -> None:
    if stats is not None and new.bias is not None:
        weight, bias = refit(old.weight, old.bias, kept, stats)
        new.weight.copy_(weight)
        new.bias.copy_(bias)
        return
    new.weight.copy_(old.weight[:, kept])
    if new.bias is not None:
        new.bias.copy_(old.bias)


HEADS = HeadPruning()
MLP = MlpPruning()
