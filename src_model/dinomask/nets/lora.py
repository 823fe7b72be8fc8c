"""LoRA adapters on the backbone, with the changes of the heads beside them.

Hu et al., "LoRA: Low-rank adaptation of large language models", arXiv
2106.09685: a frozen linear layer W becomes W + (alpha / r)·B·A. B starts at
zero, so a fresh adapter changes nothing. Injection and arithmetic are peft's.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from typing import TYPE_CHECKING, cast

import torch

from dinomask.config import LoraSettings
from dinomask.errors import ModelError, SettingsError
from dinomask.nets.lora_parts import PartsUp, adapt_parts
from dinomask.nets.lora_targets import FUSED, layer_ranks, peft_config
from dinomask.nets.reshape import untie

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch import Tensor, nn

    from dinomask.nets.centermask import CenterMask

BACKBONE_PREFIX = "backbone."


class Adapter:
    """LoRA layers attached to one model, and the heads' weights before they changed.

    Made by `attach`; one at a time a model.

    Attributes
    ----------
    model : changed in place
    settings : with `blocks` filled in
    base_heads : the heads' weights of the checkpoint; empty where they don't learn
    """

    def __init__(
        self, model: CenterMask, settings: LoraSettings, base_heads: dict[str, Tensor]
    ) -> None:
        self.model = model
        self.settings = settings
        self.base_heads = base_heads
        self._learned_heads: dict[str, Tensor] | None = None

    @property
    def enabled(self) -> bool:
        """Whether the model works with the adapter or as the bare checkpoint."""
        return self._learned_heads is None

    def enable(self) -> None:
        """Let the model work with the adapter."""
        if self._learned_heads is None:
            return
        _copy_into(self.model, self._learned_heads)
        self._learned_heads = None
        for _, layer in lora_layers(self.model):
            layer.enable_adapters(True)

    def disable(self) -> None:
        """Let the model work exactly as the bare checkpoint; nothing learned is lost."""
        if self._learned_heads is not None:
            return
        self._learned_heads = _copies(self.model, self.base_heads)
        _copy_into(self.model, self.base_heads)
        for _, layer in lora_layers(self.model):
            layer.enable_adapters(False)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[CenterMask]:
        """Disable the adapter for a while."""
        was_enabled = self.enabled
        self.disable()
        try:
            yield self.model
        finally:
            if was_enabled:
                self.enable()

    def lora_parameters(self) -> list[nn.Parameter]:
        """Return the matrices A and B."""
        return [p for name, p in self.model.named_parameters() if ".lora_" in name]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the heads' parameters that learn."""
        return [p for name, p in self.model.named_parameters() if name in self.base_heads]

    def merge(self) -> CenterMask:
        """Add the updates to the weights and return a plain model of the same names.

        Do this before quantising, pruning or exporting. The adapter is used up.
        """
        self.enable()
        return _without_lora(self.model, merge=True)

    def merged_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the plain model's state for a state of this one; neither is changed.

        Parameters
        ----------
        state : names and shapes of ``model.state_dict()``, such as its average
            over a training
        """
        plain = dict(state)
        for path, layer in lora_layers(self.model):
            inside = [name for name in plain if name.startswith(f"{path}.")]
            twin = copy.deepcopy(layer)
            state_of_layer = {n.removeprefix(f"{path}."): plain.pop(n) for n in inside}
            cast("nn.Module", twin).load_state_dict(state_of_layer)
            merged = _merged(twin).state_dict()
            plain |= {f"{path}.{name}": value for name, value in merged.items()}
        return plain

    def detach(self) -> CenterMask:
        """Return the plain model as it was before `attach`. The adapter is used up."""
        self.disable()
        return _without_lora(self.model, merge=False)

    def state(self) -> dict[str, Tensor]:
        """Return what was learned: ``lora.*`` matrices and ``head.*`` weights that changed.

        Head weights are kept whole and not as differences: base + (new − base)
        isn't new to the last bit in floating point, and a loaded adapter must
        predict exactly what the gate measured. Those that didn't change are
        left out; the base's hash pins them.
        """
        with_adapter = self._learned_heads or _copies(self.model, self.base_heads)
        lora = {
            f"lora.{name}": p.detach().cpu().clone()
            for name, p in self.model.named_parameters()
            if ".lora_" in name
        }
        heads = {
            f"head.{name}": value.cpu()
            for name, value in with_adapter.items()
            if not torch.equal(value, self.base_heads[name])
        }
        return lora | heads

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` returned on another copy of the same base.

        Raises
        ------
        SettingsError
            If names or shapes don't fit the settings; nothing is changed then.
        """
        self.enable()
        own = {name: p for name, p in self.model.named_parameters()}
        wanted = {f"lora.{name}": p.shape for name, p in own.items() if ".lora_" in name}
        allowed = wanted | {f"head.{name}": v.shape for name, v in self.base_heads.items()}
        wrong = [n for n, v in state.items() if allowed.get(n) != v.shape]
        wrong += [n for n in wanted if n not in state]
        if wrong:
            raise SettingsError(
                expected="the tensors of an adapter with these settings",
                got=f"{len(wrong)} missing, unknown or of another shape (e.g. {wrong[0]})",
                remedy="Load it with the settings it was made with.",
            )
        _copy_into(self.model, self.base_heads)
        _copy_into(self.model, {name.partition(".")[2]: v for name, v in state.items()})


def attach(model: CenterMask, settings: LoraSettings | None = None) -> Adapter:
    """Freeze a model and put fresh LoRA layers into its backbone, in place.

    What learns afterwards: the matrices A and B, and the heads if the settings
    say so. Predictions are unchanged until something has learned.

    Raises
    ------
    SettingsError
        If a block doesn't exist, or the model has an adapter already.
    ModelError
        If the backbone has none of the layers that LoRA should adapt.
    """
    # importing peft takes seconds, since it brings transformers along
    from peft import inject_adapter_in_model

    paths = [BACKBONE_PREFIX + path for path in model.backbone.block_paths]
    settings = settings or LoraSettings()
    if not paths:
        raise _nothing_to_adapt(model, settings)
    settings = _with_blocks(settings, len(paths))
    ranks = layer_ranks(settings, paths, [name for name, _ in model.named_modules()])
    if not ranks:
        raise _nothing_to_adapt(model, settings)
    if any(True for _ in lora_layers(model)):
        raise SettingsError(
            expected="a model without an adapter",
            got="one that has LoRA layers",
            remedy="Merge or detach the adapter first.",
        )
    untie(model)
    inject_adapter_in_model(peft_config(settings, ranks), model)
    if settings.parts:
        for name, layer in lora_layers(model):
            if name.endswith(FUSED):
                adapt_parts(cast("LoraLayer", layer), settings.parts)
    heads: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        is_head = settings.heads and not name.startswith(BACKBONE_PREFIX)
        parameter.requires_grad_(is_head or ".lora_" in name)
        if is_head:
            heads[name] = parameter.detach().clone()
    return Adapter(model, settings, heads)


def lora_layers(model: nn.Module) -> Iterator[tuple[str, BaseTunerLayer]]:
    """Yield path and LoRA layer of each adapted linear layer."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield name, module


def _nothing_to_adapt(model: CenterMask, settings: LoraSettings) -> ModelError:
    if model.backbone.block_paths:
        remedy = "Leave the targets out: every kind that the backbone has is then adapted."
    else:
        remedy = "Teach the heads or all weights, or choose a transformer or ConvNeXt backbone."
    return ModelError(
        expected=f"a backbone with layers for LoRA ({', '.join(settings.targets)})",
        got=f"{model.config.backbone}, which has none",
        remedy=remedy,
    )


def _with_blocks(settings: LoraSettings, depth: int) -> LoraSettings:
    blocks = settings.blocks or tuple(range(depth // 2, depth))
    settings = dataclasses.replace(settings, blocks=blocks)
    strangers = [block for block in blocks if not 0 <= block < depth]
    if strangers:
        raise SettingsError(
            expected=f"blocks from 0 to {depth - 1}",
            got=f"{strangers[0]}",
            remedy="Choose blocks that the backbone has, or leave them out.",
        )
    return settings


def _without_lora(model: CenterMask, *, merge: bool) -> CenterMask:
    for name, layer in list(lora_layers(model)):
        parent, _, child = name.rpartition(".")
        plain = _merged(layer) if merge else layer.get_base_layer()
        setattr(model.get_submodule(parent), child, plain)
    # peft's note on the model, by which it would warn of a second adapter
    vars(model).pop("peft_config", None)
    model.requires_grad_(True)
    return model


def _merged(layer: BaseTunerLayer) -> nn.Module:
    """Add a layer's update to its weights; return the plain layer."""
    for module in cast("nn.Module", layer).modules():
        if isinstance(module, PartsUp):
            module.clear_others()
    layer.merge(safe_merge=True)
    plain: nn.Module = layer.get_base_layer()
    return plain


def _copies(model: nn.Module, names: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if n in names}


@torch.no_grad()
def _copy_into(model: nn.Module, values: dict[str, Tensor]) -> None:
    own = dict(model.named_parameters())
    for name, value in values.items():
        own[name].copy_(value)
