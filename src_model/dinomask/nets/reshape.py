"""Build what compression made of a network: fewer heads, hidden units and blocks, shared weights.

The arrangement stands in `dinomask.config.NetworkShape`; weights are loaded, or copied,
into the layers that are made here.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, cast

from timm.layers import Attention, Mlp
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from dinomask.errors import ModelError
from dinomask.nets.fusing import fuse
from dinomask.nets.low_rank import split_linear

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dinomask.config import NetworkShape
    from dinomask.nets.centermask import CenterMask

_BLOCK = re.compile(r"(backbone\.(?:vit|network)\.blocks\.)(\d+)\.((?:attn|mlp)\..+)")


def plain_blocks(network: nn.Module) -> list[Block] | None:
    """Return the blocks of a plain transformer; None if heads can't be removed from it.

    Its attention must be timm's own with one projection for queries, keys and values, and
    its MLPs must have two layers.
    """
    if not isinstance(network, VisionTransformer):
        return None
    blocks = list(network.blocks)
    plain = all(
        type(block) is Block
        and type(block.attn) is Attention
        and isinstance(block.attn.norm, nn.Identity)
        and block.attn.gate is None
        and type(block.mlp) is Mlp
        and isinstance(block.mlp.norm, nn.Identity)
        for block in blocks
    )
    return cast("list[Block]", blocks) if plain else None


def reshape_network(network: nn.Module, shape: NetworkShape | None) -> None:
    """Leave out blocks, heads and hidden units, in place; the weights left are random.

    Raises
    ------
    ModelError
        If the network is no plain transformer, or has fewer of them.
    """
    if shape is None or shape.depth is None:
        return
    blocks = plain_blocks(network)
    if blocks is None or shape.depth > len(blocks):
        raise ModelError(
            expected=f"a plain transformer of at least {shape.depth} blocks",
            got=f"a {type(network).__name__}"
            + ("" if blocks is None else f" of {len(blocks)} blocks"),
            remedy="Use the manifest that was written with the weights.",
        )
    vit = cast("VisionTransformer", network)
    vit.blocks = vit.blocks[: shape.depth]
    vit.feature_info = vit.feature_info[: shape.depth]
    for i, block in enumerate(blocks[: shape.depth]):
        if shape.heads is not None:
            resize_attention(cast("Attention", block.attn), shape.heads[i])
        if shape.hidden is not None:
            resize_mlp(cast("Mlp", block.mlp), shape.hidden[i])


def resize_attention(attn: Attention, n_heads: int) -> None:
    """Give attention fresh layers for that many heads of the same width, in place."""
    if n_heads == attn.num_heads:
        return
    attn.num_heads, attn.attn_dim = n_heads, n_heads * attn.head_dim
    qkv, proj = attn.qkv, attn.proj
    attn.qkv = nn.Linear(qkv.in_features, 3 * attn.attn_dim, bias=qkv.bias is not None)
    attn.proj = nn.Linear(attn.attn_dim, proj.out_features, bias=proj.bias is not None)


def resize_mlp(mlp: Mlp, n_hidden: int) -> None:
    """Give an MLP fresh layers of that many hidden units, in place."""
    fc1, fc2 = cast("nn.Linear", mlp.fc1), cast("nn.Linear", mlp.fc2)
    if n_hidden == fc1.out_features:
        return
    mlp.fc1 = nn.Linear(fc1.in_features, n_hidden, bias=fc1.bias is not None)
    mlp.fc2 = nn.Linear(n_hidden, fc2.out_features, bias=fc2.bias is not None)


def finish_shape(model: CenterMask, shape: NetworkShape | None) -> None:
    """Split and fuse layers and tie shared weights of an assembled model, in place.

    What is split, fused or tied already stays.

    Raises
    ------
    ModelError
        If a layer or block doesn't exist.
    """
    if shape is None:
        return
    for path, rank in shape.low_rank:
        split_linear(model, path, rank)
    if shape.fused:
        training = model.backbone.training
        fuse(model.backbone.eval())
        model.backbone.train(training)
    if shape.shared:
        tie_blocks(model, dict(shape.shared))


def tie_blocks(model: nn.Module, owners: Mapping[int, int]) -> None:
    """Let blocks use the attention and MLP weights of earlier ones, in place.

    Parameters
    ----------
    model : the assembled model
    owners : the earlier block of each block that shares

    Raises
    ------
    ModelError
        If a block doesn't exist, or has other shapes than the one it shares with.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found = set()
    for name, parameter in parameters.items():
        owner = owner_name(name, owners)
        if owner is None:
            continue
        shared = parameters.get(owner)
        if shared is None or shared.shape != parameter.shape:
            raise ModelError(
                expected=f"the same shapes in blocks that share weights ({owner})",
                got=f"{name} of shape {tuple(parameter.shape)}",
                remedy="Use the manifest that was written with the weights.",
            )
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, shared)
        found.add(name)
    if not found:
        raise ModelError(
            expected="a plain transformer with blocks that share weights",
            got=f"none of the blocks {', '.join(map(str, owners))}",
            remedy="Use the manifest that was written with the weights.",
        )


def owner_name(name: str, owners: Mapping[int, int]) -> str | None:
    """Return the name under which a shared weight is stored; None if it isn't shared."""
    match = _BLOCK.fullmatch(name)
    if match is None or int(match[2]) not in owners:
        return None
    return f"{match[1]}{owners[int(match[2])]}.{match[3]}"


def without_shared(state: Mapping[str, Tensor], shape: NetworkShape | None) -> dict[str, Tensor]:
    """Return a state in which each shared weight stands once."""
    owners = dict(shape.shared) if shape is not None else {}
    return {name: value for name, value in state.items() if owner_name(name, owners) is None}


def with_shared(
    state: Mapping[str, Tensor], names: Mapping[str, object], shape: NetworkShape | None
) -> dict[str, Tensor]:
    """Return a state with every one of `names`: the inverse of `without_shared`."""
    owners = dict(shape.shared) if shape is not None else {}
    full = dict(state)
    for name in names:
        owner = owner_name(name, owners)
        if owner is not None and owner in state:
            full[name] = state[owner]
    return full


def untie(model: CenterMask) -> bool:
    """Give every shared weight a copy of its own, in place; tell whether there was any."""
    shape = model.config.shape
    if shape is None or not shape.shared:
        return False
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        if owner_name(name, dict(shape.shared)) is not None:
            path, _, leaf = name.rpartition(".")
            copy = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
            setattr(model.get_submodule(path), leaf, copy)
    alone = dataclasses.replace(shape, shared=())
    model.config = dataclasses.replace(model.config, shape=alone)
    return True
