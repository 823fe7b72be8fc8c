"""Remove whole blocks of a plain transformer."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, cast

import torch

from dinomask.compress.prune import block_counts, blocks_of, reason_against_pruning
from dinomask.compress.statistics import outputs_of
from dinomask.config import NetworkShape
from dinomask.nets.centermask import CenterMask
from dinomask.nets.mixing import N_GLOBAL, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from timm.models.vision_transformer import Block
    from torch import Tensor

    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import BlockPruneSettings

_NUMBERED = re.compile(r"(backbone\.(?:vit|network)\.blocks\.)(\d+)(\..+)")


class BlockPruning:
    """Remove the blocks without which the outputs change least, one after another."""

    def reason_against(self, subject: Subject, settings: BlockPruneSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        reason = reason_against_pruning(subject)
        if reason is None and not _removable(subject.model):
            return "each of its blocks feeds the pyramid"
        return reason

    def apply(self, subject: Subject, settings: BlockPruneSettings, work: Work) -> Subject:
        """Remove whole blocks."""
        model = subject.model
        tiles = work.tiles()
        n_blocks = len(blocks_of(model))
        wanted = max(1, round(settings.ratio * n_blocks))
        names = list(range(n_blocks))
        removed: list[int] = []
        with torch.no_grad():
            truth = outputs_of(model, tiles)
            while len(removed) < wanted and (candidates := _removable(model)):
                damage = {}
                blocks = blocks_of(model)
                for i in candidates:
                    damage[i] = _damage_without(model, blocks[i], tiles, truth)
                    work.tell(len(removed) * n_blocks + len(damage), wanted * n_blocks)
                best = min(damage, key=lambda i: damage[i])
                removed.append(names.pop(best))
                model = without_block(model, best)
        subject.model = model
        work.note(f"blocks {', '.join(map(str, sorted(removed)))} of 0 to {n_blocks - 1} removed")
        return subject


@torch.no_grad()
def without_block(model: CenterMask, block: int) -> CenterMask:
    """Return a model without a block; feature maps come from the blocks that came before it."""
    config = model.config
    depth = len(blocks_of(model))
    counts = dataclasses.replace(config.shape or NetworkShape(), **block_counts(model))
    shape = dataclasses.replace(
        counts, heads=_without(counts.heads, block), hidden=_without(counts.hidden, block)
    )
    global_blocks = config.global_blocks
    if config.window_tokens is not None:
        seeing = spread(depth, N_GLOBAL) if global_blocks is None else global_blocks
        global_blocks = tuple(sorted({max(0, b - (b >= block)) for b in seeing}))
    feature_blocks = tuple(i - (i >= block) for i in feature_indices(model))
    smaller = CenterMask(
        dataclasses.replace(
            config, shape=shape, feature_blocks=feature_blocks, global_blocks=global_blocks
        )
    )
    state = {}
    for name, value in model.state_dict().items():
        match = _NUMBERED.fullmatch(name)
        number = int(match[2]) if match else -1
        if match is None or number < block:
            state[name] = value
        elif number > block:
            state[f"{match[1]}{number - 1}{match[3]}"] = value
    smaller.load_state_dict(state)
    return smaller.to(model.mean.device).train(model.training)


def feature_indices(model: CenterMask) -> list[int]:
    """Return the blocks that give feature maps."""
    return list(cast("Sequence[int]", model.backbone.indices))


def _without(counts: tuple[int, ...] | None, block: int) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(counts or ()) if i != block)


def _removable(model: CenterMask) -> list[int]:
    """Return blocks that can go: one must stay before each feature map."""
    indices = feature_indices(model)
    bounds = [-1, *indices]
    return [
        block
        for before, last in zip(bounds, indices, strict=False)
        if last - before > 1
        for block in range(before + 1, last + 1)
    ]


def _damage_without(
    model: CenterMask, block: Block, tiles: Tensor, truth: Sequence[Tensor]
) -> float:
    """Return how much the outputs change where a block adds nothing to its input."""
    last = [*block.attn.proj.parameters(), *block.mlp.fc2.parameters()]  # type: ignore[union-attr]
    kept = [parameter.clone() for parameter in last]
    for parameter in last:
        parameter.zero_()
    try:
        pairs = zip(outputs_of(model, tiles), truth, strict=True)
        return sum(float((a - b).square().mean()) for a, b in pairs)
    finally:
        for parameter, value in zip(last, kept, strict=True):
            parameter.copy_(value)


BLOCKS = BlockPruning()
