"""What the blocks of a plain transformer do on the user's tiles: importance and correlations.

Importance is |gradient × activation| (Michel et al., "Are sixteen heads really better than
one?", arXiv 1905.10650; Molchanov et al., arXiv 1906.10771). Labels aren't needed: the
gradient is that of a random projection of all that the heads see and answer. Summed over
the places of a tile and squared, its expectation is, to first order, the squared change of
these outputs when the unit is removed, so that units of all blocks can be compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dinomask.nets.centermask import CenterMask

DRAWS = 2
"""Random projections a tile."""


@dataclasses.dataclass
class InputStats:
    """What a linear layer's inputs were.

    Attributes
    ----------
    count : places seen
    total : shape (D,), their sum
    gram : shape (D, D), sum of their outer products, float64
    importance : shape (D,), of each input
    """

    count: int
    total: Tensor
    gram: Tensor
    importance: Tensor

    @staticmethod
    def empty(width: int) -> InputStats:
        """Return the statistics of no input."""
        zeros = torch.zeros(width, dtype=torch.float64)
        gram = torch.zeros(width, width, dtype=torch.float64)
        return InputStats(0, zeros, gram, zeros.clone())

    def see(self, inputs: Tensor) -> None:
        """Add inputs of shape (..., D)."""
        rows = inputs.detach().reshape(-1, inputs.shape[-1]).double().cpu()
        self.count += len(rows)
        self.total += rows.sum(0)
        self.gram += rows.T @ rows

    @property
    def mean(self) -> Tensor:
        """Mean input, shape (D,)."""
        return self.total / max(self.count, 1)

    @property
    def covariance(self) -> Tensor:
        """Covariance of the inputs, shape (D, D)."""
        return self.gram / max(self.count, 1) - torch.outer(self.mean, self.mean)


def outputs_of(model: CenterMask, tiles: Tensor) -> list[Tensor]:
    """Return all that masks and boxes are made of, each of mean square 1.

    The pyramid's levels, the detector's probabilities and its distances.
    """
    pyramid = model.features(tiles)
    dense = model.dense(pyramid)
    parts = [pyramid.fine, *pyramid.levels, dense.scores(), dense.distances_px]
    scales = [part.detach().float().square().mean().sqrt().clamp(min=1e-6) for part in parts]
    return [part.float() / scale for part, scale in zip(parts, scales, strict=True)]


def measure_inputs(
    model: CenterMask,
    paths: Sequence[str],
    tiles: Tensor,
    tell: Callable[[int, int], None],
    *,
    groups: int = 1,
    seed: int = 0,
    importance: bool = True,
) -> dict[str, InputStats]:
    """Measure what goes into linear layers, and how much each part of it matters.

    Parameters
    ----------
    model : in evaluation mode
    paths : of the linear layers
    tiles : shape (N, 3, H, W)
    tell : called after each tile
    groups : neighbouring inputs that are removed together; importance is of the group, and
        the same for each of its inputs
    importance : whether it is measured; it takes gradients

    Returns
    -------
    statistics by path
    """
    layers = {path: model.get_submodule(path) for path in paths}
    stats: dict[str, InputStats] = {}
    chance = torch.Generator().manual_seed(seed)
    with _gradients(model, wanted=importance), _kept_inputs(layers) as kept:
        for i, tile in enumerate(tiles):
            outputs = outputs_of(model, tile[None].to(model.mean.device))
            for path, value in kept.items():
                stats.setdefault(path, InputStats.empty(value.shape[-1])).see(value)
            for draw in range(DRAWS if importance else 0):
                inputs = list(kept.values())
                gradients = torch.autograd.grad(
                    _project(outputs, chance), inputs, retain_graph=draw < DRAWS - 1
                )
                for path, value, gradient in zip(kept, inputs, gradients, strict=True):
                    effect = (value * gradient).detach().flatten(0, -2).sum(0).double().cpu()
                    effect = effect.view(-1, groups).sum(1).repeat_interleave(groups)
                    stats[path].importance += effect.square()
            tell(i + 1, len(tiles))
    return stats


def _project(outputs: Sequence[Tensor], chance: torch.Generator) -> Tensor:
    total = outputs[0].new_zeros(())
    for output in outputs:
        noise = torch.randn(output.shape, generator=chance).to(output.device)
        total = total + (output * noise).sum() / output.numel() ** 0.5
    return total


@contextlib.contextmanager
def _gradients(model: CenterMask, *, wanted: bool) -> Iterator[None]:
    learning = [p.requires_grad for p in model.parameters()]
    # the gradient starts at the first hooked layer: weights need none
    model.requires_grad_(False)
    try:
        with torch.set_grad_enabled(wanted):
            yield
    finally:
        for parameter, learns in zip(model.parameters(), learning, strict=True):
            parameter.requires_grad_(learns)


@contextlib.contextmanager
def _kept_inputs(layers: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Keep the last input of each layer, as something that gradients can be taken of."""
    kept: dict[str, Tensor] = {}

    def hook_of(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            value = args[0]
            if torch.is_grad_enabled() and not value.requires_grad:
                value = value.detach().requires_grad_()
            kept[path] = value
            return (value, *args[1:])

        return hook

    handles = [layer.register_forward_pre_hook(hook_of(p)) for p, layer in layers.items()]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def refit(
    weight: Tensor, bias: Tensor | None, kept: Tensor, stats: InputStats
) -> tuple[Tensor, Tensor]:
    """Return weight and bias on some of the inputs that come closest to the whole layer's output.

    Ridge regression of the layer's outputs on the inputs that are left: least squares in
    closed form, from the inputs' covariance alone.

    Parameters
    ----------
    weight, bias : shapes (outputs, D) and (outputs,)
    kept : shape (k,), the inputs that are left
    stats : of all D inputs

    Returns
    -------
    shapes (outputs, k) and (outputs,)
    """
    covariance, mean = stats.covariance, stats.mean
    whole = weight.detach().double().cpu()
    own = covariance[kept][:, kept]
    ridge = 1e-3 * own.diagonal().mean().clamp(min=1e-12) * torch.eye(len(kept)).double()
    fitted = torch.linalg.solve(
        own + ridge, (whole @ covariance[:, kept] + whole[:, kept] @ ridge).T
    ).T
    shift = whole @ mean - fitted @ mean[kept]
    new_bias = shift if bias is None else bias.detach().double().cpu() + shift
    return fitted.to(weight), new_bias.to(weight)
