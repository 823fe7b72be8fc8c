"""Add what an adapter holds to a checkpoint's weights."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from dinomask.errors import SettingsError
from dinomask.nets.centermask import CenterMask
from dinomask.nets.growing import require_first
from dinomask.nets.lora import BACKBONE_PREFIX
from dinomask.nets.lora_parts import PartsUp
from dinomask.nets.lora_targets import FUSED, layer_ranks
from dinomask.nets.reshape import untie

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from dinomask.config import FitConfig, LoraSettings, ModelConfig

LORA = "lora."
WEIGHT = "weight."
"""What names of tensors begin with: LoRA's matrices, and all other weights."""

_SEMANTIC = "semantic_head.out.weight"


@torch.no_grad()
def merge_tensors(
    model: CenterMask,
    fit: FitConfig,
    tensors: Mapping[str, Tensor],
    class_names: Sequence[str] = (),
) -> CenterMask:
    """Add what was learned to a plain model's weights.

    LoRA is merged as W + (alpha / r)·B·A (Hu et al., arXiv 2106.09685), by the same
    products as `dinomask.nets.lora.Adapter.merge`, but without importing peft.

    Parameters
    ----------
    model : the checkpoint's; used up: the result shares its weights, or is it
    fit : how it was fitted, LoRA's blocks filled in
    tensors : from `learned_tensors` or `rounded`
    class_names : all object classes if there are more than the checkpoint's

    Raises
    ------
    SettingsError
        If names or shapes don't fit; the model is as it was then.
    """
    weights = {n.removeprefix(WEIGHT): v for n, v in tensors.items() if n.startswith(WEIGHT)}
    lora = {n.removeprefix(LORA): v for n, v in tensors.items() if n.startswith(LORA)}
    config = _with_classes(model.config, tuple(class_names), weights)
    grown = _with_heads(model, config)
    if fit.uses_lora and untie(model):
        # each block gets an update of its own
        config = dataclasses.replace(config, shape=model.config.shape)
    own = grown.state_dict()
    updates = _lora_updates(fit.lora if fit.uses_lora else None, model, lora)
    wrong = [n for n in tensors if not n.startswith((WEIGHT, LORA))]
    wrong += [WEIGHT + n for n, v in weights.items() if not _same_shape(own, n, v)]
    # heads for more classes start from random numbers, of which none may stay
    state = model.state_dict()
    fresh = [n for n, v in own.items() if not _same_shape(state, n, v)]
    wrong += [WEIGHT + n for n in fresh if n not in weights]
    if wrong:
        raise _misfit(wrong)
    if grown is not model:
        grown.load_state_dict({n: v for n, v in state.items() if n not in weights}, strict=False)
    grown.config = config
    for name, value in weights.items():
        own[name].copy_(value)
    for path, update in updates.items():
        own[f"{path}.weight"].add_(update)
    return grown


def _with_classes(
    config: ModelConfig, class_names: tuple[str, ...], weights: Mapping[str, Tensor]
) -> ModelConfig:
    """Return the architecture with all classes that the adapter knows."""
    if class_names:
        require_first(config.class_names, config.n_classes, class_names)
    semantic = weights[_SEMANTIC].shape[0] if _SEMANTIC in weights else config.semantic_classes
    return dataclasses.replace(
        config,
        n_classes=len(class_names) or config.n_classes,
        class_names=class_names or config.class_names,
        semantic_classes=semantic,
    )


def _with_heads(model: CenterMask, config: ModelConfig) -> CenterMask:
    """Return a model with heads for these classes around the same backbone, or the same model."""
    own = model.config
    if (config.n_classes, config.semantic_classes) == (own.n_classes, own.semantic_classes):
        return model
    grown = CenterMask(config, model.backbone).to(model.mean.device)
    return grown.train(model.training)


def _lora_updates(
    settings: LoraSettings | None, model: CenterMask, matrices: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the update of each adapted layer's weight, by the layer's path."""
    if settings is None:
        if matrices:
            raise _misfit([LORA + name for name in matrices])
        return {}
    if settings.blocks is None:
        raise _misfit(["LoRA without the list of its blocks"])
    paths = [BACKBONE_PREFIX + path for path in model.backbone.block_paths]
    modules = dict(model.named_modules())
    ranks = layer_ranks(settings, paths, list(modules))
    updates, wrong, used = {}, [], set()
    for path, rank in ranks.items():
        names = [f"{path}.lora_{side}.default.weight" for side in "AB"]
        used.update(names)
        down, up = (matrices.get(name) for name in names)
        weight: Tensor = _weight(modules[path])
        if down is None or up is None or not _fits(weight, down, up, rank):
            wrong.append(LORA + names[0])
            continue
        down, up = down.to(weight), up.to(weight)
        if settings.parts and path.endswith(FUSED):
            up = up * PartsUp(rank, up.shape[0], settings.parts).mask.to(up)
        # in the order of peft, which keeps the quotient for layers of other ranks
        scale = (settings.alpha * rank / settings.rank) / rank
        updates[path] = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape) * scale
    wrong += [LORA + name for name in matrices if name not in used]
    if wrong:
        raise _misfit(wrong)
    return updates


def _fits(weight: Tensor, down: Tensor, up: Tensor, rank: int) -> bool:
    rows, columns = weight.shape[0], weight[0].numel()
    return (*up.flatten(1).shape, *down.flatten(1).shape) == (rows, rank, rank, columns)


def _weight(module: nn.Module) -> Tensor:
    weight: Tensor = module.get_parameter("weight").detach()
    return weight


def _same_shape(state: Mapping[str, Tensor], name: str, value: Tensor) -> bool:
    return name in state and state[name].shape == value.shape


def _misfit(wrong: Sequence[str]) -> SettingsError:
    return SettingsError(
        expected="the tensors of an adapter with these settings",
        got=f"{len(wrong)} missing, unknown or of another shape (e.g. {wrong[0]})",
        remedy="Load it with the settings it was made with.",
    )
