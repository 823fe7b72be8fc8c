"""The ways to fit: what of a model learns, how fast, and how it becomes a plain model again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dinomask.config import FitConfig
from dinomask.errors import SettingsError
from dinomask.nets.depth import weight_depths
from dinomask.nets.lora import BACKBONE_PREFIX, Adapter, attach
from dinomask.nets.lora_parts import PartsUp

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from dinomask.nets.centermask import CenterMask

_LORA = ".lora_"


@dataclasses.dataclass(frozen=True)
class Fitting:
    """A model prepared for a training; made by `prepare_fit`.

    Attributes
    ----------
    model : changed in place: weights frozen, LoRA layers put in
    config : the way to fit
    adapter : its LoRA layers, None without
    depths : depth of each weight of the backbone, see `weight_depths`
    """

    model: CenterMask
    config: FitConfig
    adapter: Adapter | None
    depths: dict[str, int]

    def parameters(self) -> list[nn.Parameter]:
        """Return what learns."""
        return [p for p in self.model.parameters() if p.requires_grad]

    @property
    def n_trainable(self) -> int:
        """Number of weights that learn."""
        masked = sum(
            m.weight.numel() - int(m.mask.sum())
            for m in self.model.modules()
            if isinstance(m, PartsUp)
        )
        return sum(p.numel() for p in self.parameters()) - masked

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return groups for an optimiser, one for each rate and decay.

        Matrices and kernels decay; vectors and scalars don't. In a ``full`` fit of one
        rate that makes two groups.

        Parameters
        ----------
        learning_rate : peak of the heads'
        weight_decay : of matrices and kernels

        Returns
        -------
        dictionaries with ``params``, ``weight_decay``, ``lr`` and ``base_lr``, the
        group's peak rate: a schedule sets ``lr`` to it times a factor of its own
        """
        groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for decays in (True, False):
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad and (parameter.ndim > 1) == decays:
                    rate = self._rate(name, learning_rate)
                    groups.setdefault((decays, rate), []).append(parameter)
        return [
            {
                "params": params,
                "weight_decay": weight_decay if decays else 0.0,
                "lr": rate,
                "base_lr": rate,
            }
            for (decays, rate), params in groups.items()
        ]

    def penalty(self) -> Tensor:
        """Return l1·Σ|w| + l2·Σw² over LoRA's matrices, shape (); to be added to the loss."""
        total = self.model.mean.new_zeros(())
        lora = self.config.lora
        if self.adapter is None or not (lora.l1 or lora.l2):
            return total
        for matrix in self.adapter.lora_parameters():
            total = total + lora.l1 * matrix.abs().sum() + lora.l2 * matrix.square().sum()
        return total

    def merged_state(self, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the state of the plain model, LoRA merged; nothing is changed.

        Parameters
        ----------
        state : a state of the fitted model, such as its average; None takes the
            present one
        """
        state = self.model.state_dict() if state is None else state
        return dict(state) if self.adapter is None else self.adapter.merged_state(state)

    def finish(self) -> CenterMask:
        """Merge LoRA into the weights and return the model, plain again; all of it can learn."""
        if self.adapter is not None:
            return self.adapter.merge()
        self.model.requires_grad_(True)
        return self.model

    def _rate(self, name: str, learning_rate: float) -> float:
        if not name.startswith(BACKBONE_PREFIX):
            return learning_rate
        config = self.config
        own = config.lora_rate if _LORA in name else config.backbone_rate
        above = max(self.depths.values()) - self.depths[_plain_name(name)]
        decay: float = config.layer_decay**above
        return (own or learning_rate) * decay


def prepare_fit(model: CenterMask, config: FitConfig | None = None) -> Fitting:
    """Freeze what shall not learn and put LoRA layers in, in place.

    Batch statistics of frozen layers stand still too, see
    `dinomask.nets.resampled.ResampledBackbone`.

    Raises
    ------
    SettingsError
        If the backbone has fewer blocks than are to learn, or a block is to
        learn as a whole and by LoRA.
    ModelError
        If LoRA finds no layers to adapt.
    """
    config = config or FitConfig()
    depths = weight_depths(model.backbone)
    late = _late_weights(config, depths)
    adapter = None
    if config.uses_lora:
        lora = config.lora
        if config.mode == "hybrid":
            lora = dataclasses.replace(lora, blocks=_early_blocks(model, config, late))
        adapter = attach(model, lora)
        config = dataclasses.replace(config, lora=adapter.settings)
    for name, parameter in model.backbone.named_parameters():
        if config.mode == "frozen" or (config.mode == "late" and name not in late):
            parameter.requires_grad_(False)
        elif config.mode == "hybrid" and name in late:
            parameter.requires_grad_(True)
    return Fitting(model, config, adapter, depths)


def _late_weights(config: FitConfig, depths: dict[str, int]) -> set[str]:
    if config.mode not in ("late", "hybrid"):
        return set()
    n_blocks = max(depths.values())
    if config.late_blocks > n_blocks:
        raise SettingsError(
            expected=f"at most {n_blocks} late blocks, as many as the backbone has",
            got=f"{config.late_blocks}",
            remedy="Choose fewer, or fit all of it with 'full'.",
        )
    return {name for name, depth in depths.items() if depth > n_blocks - config.late_blocks}


def _early_blocks(model: CenterMask, config: FitConfig, late: set[str]) -> tuple[int, ...] | None:
    """Return the blocks that LoRA adapts in a hybrid fit; None if the backbone has none for it."""
    early = tuple(
        i
        for i, path in enumerate(model.backbone.block_paths)
        if not any(name.startswith(f"{path}.") for name in late)
    )
    chosen = early if config.lora.blocks is None else config.lora.blocks
    both = sorted(set(chosen) & set(range(len(model.backbone.block_paths))) - set(early))
    if both or (model.backbone.block_paths and not early):
        got = f"block {both[0]} in both" if both else "late blocks only"
        raise SettingsError(
            expected="blocks before the late ones for LoRA",
            got=got,
            remedy="Choose fewer late blocks or other blocks for LoRA, or fit with 'late'.",
        )
    return chosen or None


def _plain_name(name: str) -> str:
    """Return a weight's name in the backbone without LoRA; of A and B, the adapted layer's."""
    name = name.removeprefix(BACKBONE_PREFIX)
    path, found, _ = name.partition(_LORA)
    return f"{path}.weight" if found else name.replace(".base_layer.", ".")


def scale_rates(optimiser: Optimizer, factor: float) -> None:
    """Set every group's rate to its peak times a factor: one schedule for all rates."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
