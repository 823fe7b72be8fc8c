"""Which layers of a backbone LoRA adapts, and at what rank."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dinomask.config import QKV_PARTS, LoraSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import LoraConfig

_SPLIT = r"(?:\.(?:down|up))?"
"""The two layers that a `dinomask.nets.low_rank.LowRankLinear` has in the place of one."""

LAYER_NAMES = {
    "qkv": rf"attn\.qkv{_SPLIT}",
    "proj": rf"attn\.proj{_SPLIT}",
    # SwiGLU in two parts splits fc1 into a gate and a value
    "fc1": rf"mlp\.(?:fc1|fc1_g|fc1_x){_SPLIT}",
    "fc2": rf"mlp\.fc2{_SPLIT}",
} | dict.fromkeys(QKV_PARTS, r"attn\.qkv(?:\.up)?")
"""Names of a block's layers in timm, in every family that has them; full paths,
so that the patch embedding's ``proj`` and layers of the heads are never meant."""

FUSED = (".qkv", ".qkv.up")
"""Endings of layers that give queries, keys and values side by side."""


def layer_ranks(
    settings: LoraSettings, block_paths: Sequence[str], names: Sequence[str]
) -> dict[str, int]:
    """Return the rank of A and B of each layer that is adapted, by its path.

    Parts of qkv share the matrices of one layer, see `dinomask.nets.lora_parts`.

    Parameters
    ----------
    settings : with `blocks` filled in
    block_paths : module paths of all blocks, first to last
    names : paths of all modules of the model
    """
    pattern = re.compile(target_pattern(settings, block_paths))
    of_block = {block_paths[block]: rank for block, rank in settings.ranks().items()}
    n_parts = max(len(settings.parts), 1)
    ranks = {}
    known = set(names)
    for name in names:
        # of a split layer its two parts are adapted, not what holds them
        if pattern.fullmatch(name) and f"{name}.down" not in known:
            rank = next(r for path, r in of_block.items() if name.startswith(f"{path}."))
            ranks[name] = rank * n_parts if name.endswith(FUSED) else rank
    return ranks


def target_pattern(settings: LoraSettings, block_paths: Sequence[str]) -> str:
    """Return the regular expression that fully matches the adapted layers' paths.

    Parameters
    ----------
    settings : with `blocks` filled in
    block_paths : module paths of all blocks, first to last
    """
    chosen = "|".join(re.escape(block_paths[block]) for block in settings.blocks or ())
    layers = "|".join(dict.fromkeys(LAYER_NAMES[target] for target in settings.targets))
    return rf"(?:{chosen})\.(?:{layers})"


def peft_config(settings: LoraSettings, ranks: dict[str, int]) -> LoraConfig:
    """Return the settings in peft's terms; `ranks` are those of `layer_ranks`."""
    from peft import LoraConfig

    # peft takes names for regular expressions
    by_name = {re.escape(name): rank for name, rank in ranks.items()}
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules="|".join(by_name),
        rank_pattern=by_name,
        # both patterns change, else a higher rank would mean smaller updates
        alpha_pattern={k: settings.alpha * rank / settings.rank for k, rank in by_name.items()},
    )
