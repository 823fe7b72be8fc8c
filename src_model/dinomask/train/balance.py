"""How the losses of several tasks become one: by fixed weights or by weights that are found.

`balancer_of` makes the balancer of the settings. A training uses each alike:
its parameters join the optimiser, `Balancer.total` replaces the sum of the
losses, and its state, plain tensors, is saved beside the model's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from dinomask.errors import SettingsError
from dinomask.nets.processes import mean_over_processes
from dinomask.train.gradients import min_norm_weights, shared_gradients

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dinomask.config import BalanceConfig

SCALE_LIMIT = 100.0
"""Pareto enlarges a gradient at most this much relative to the longest."""

FIRST_VALUES = 10
"""GradNorm's first value of a loss is the mean of this many: one batch says little."""


class HasSharedLayer(Protocol):
    """A model that names the parameters on which its losses compete."""

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the last parameters that every loss depends on."""


class Balancer(nn.Module):
    """Adds losses up with fixed weights; the parent of those that find weights.

    Parameters
    ----------
    names : of the losses
    weights : factors other than 1; a loss with factor 0 is left out
    """

    def __init__(self, names: Sequence[str], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        factors = {name: 1.0 for name in names} | dict(weights or {})
        self.factors = {name: factor for name, factor in factors.items() if factor > 0}
        self.found = torch.ones(len(self.factors))

    @property
    def names(self) -> tuple[str, ...]:
        """Losses that are added up."""
        return tuple(self.factors)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the loss to minimise; call once a step, with the graph still alive.

        Where a loss is not finite the total isn't either, and nothing is learned
        from it.

        Parameters
        ----------
        losses : scalars; all of `names`
        """
        scaled = [factor * losses[name] for name, factor in self.factors.items()]
        total = torch.stack(scaled).sum()
        # without weights to find there is nothing that a bad value could spoil
        if type(self) is Balancer or not bool(torch.isfinite(mean_over_processes(total))):
            return total
        return self._weigh(scaled)

    def backward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Put the gradient of the total into all parameters; return the total."""
        total = self.total(losses)
        total.backward()
        return total.detach()

    def weights(self) -> dict[str, float]:
        """Return what each loss was multiplied with last, for the log."""
        found = self.found.tolist()
        pairs = zip(self.factors.items(), found, strict=True)
        return {name: factor * weight for (name, factor), weight in pairs}

    def _weigh(self, losses: list[Tensor]) -> Tensor:
        raise NotImplementedError


class UncertaintyBalancer(Balancer):
    """Weighs each loss by the inverse of its learned variance.

    ``sum of exp(-s) · L + s / 2`` with a learned log-variance s a loss. Kendall,
    Gal and Cipolla, "Multi-task learning using uncertainty to weigh losses",
    arXiv 1705.07115, eq. 7 for squared errors, of which L holds the ½, and
    eq. 10 for cross-entropies. Left alone, exp(s) becomes 2 L: for half the
    squared error, the variance of the noise.

    Parameters
    ----------
    names, weights : see `Balancer`
    rate : s learns this many times faster than a parameter of the network
    log_weight_max : s stays within this of 0
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: Mapping[str, float] | None = None,
        *,
        rate: float = 1.0,
        log_weight_max: float = 7.0,
    ) -> None:
        super().__init__(names, weights)
        self.rate, self.log_weight_max = rate, log_weight_max
        self.log_variances = nn.Parameter(torch.zeros(len(self.factors)))

    def _weigh(self, losses: list[Tensor]) -> Tensor:
        with torch.no_grad():
            self.log_variances.clamp_(*_bounds(self.log_weight_max, self.rate))
        s = self.log_variances * self.rate
        precision = torch.exp(-s)
        self.found = precision.detach()
        values = torch.stack(losses)
        # one gradient for the network, from this process's losses, and one for s, from all
        of_s = (precision - self.found) * mean_over_processes(values) + s / 2
        return (self.found * values).sum() + of_s.sum()


class GradNormBalancer(Balancer):
    """Weighs losses so that their gradients on the shared layer get alike in size.

    Minimises ``sum of |w g - mean(w g) · r^alpha|`` over the weights w, where g
    is the norm of a loss's gradient and r how much less than others it fell since
    the start; the weights' mean is kept at 1. Chen et al., "GradNorm", arXiv
    1711.02257, algorithm 1. Unlike there, w is learned by its logarithm, so it
    stays positive, and r^alpha is scaled to a mean of 1, so that all goals can be
    reached together.

    Parameters
    ----------
    names, weights : see `Balancer`
    shared : parameters on which the gradients are measured
    alpha : how much losses that fall slowly are favoured
    rate : log w learns this many times faster than a parameter of the network
    log_weight_max : log w stays within this of 0
    """

    first_sums: Tensor
    n_first: Tensor

    def __init__(
        self,
        names: Sequence[str],
        shared: Sequence[nn.Parameter],
        weights: Mapping[str, float] | None = None,
        *,
        alpha: float = 1.5,
        rate: float = 1.0,
        log_weight_max: float = 7.0,
    ) -> None:
        super().__init__(names, weights)
        self.shared = tuple(shared)
        self.alpha, self.rate, self.log_weight_max = alpha, rate, log_weight_max
        self.log_weights = nn.Parameter(torch.zeros(len(self.factors)))
        self.register_buffer("first_sums", torch.zeros(len(self.factors)))
        self.register_buffer("n_first", torch.zeros(len(self.factors)))

    def _weigh(self, losses: list[Tensor]) -> Tensor:
        norms = shared_gradients(losses, self.shared).norm(dim=1)
        current = mean_over_processes(torch.stack(losses))
        with torch.no_grad():
            early = (self.n_first < FIRST_VALUES) & (current > 0)
            self.first_sums += torch.where(early, current, 0.0)
            self.n_first += early
            self.log_weights.clamp_(*_bounds(self.log_weight_max, self.rate))
            mean = torch.exp(self.log_weights * self.rate).mean()
            self.log_weights.sub_(mean.log() / self.rate)
        weights = torch.exp(self.log_weights * self.rate)
        self.found = weights.detach()
        penalty = self._penalty(weights, norms, current)
        # the penalty teaches the weights, but is no part of the loss that is reported
        return (self.found * torch.stack(losses)).sum() + penalty - penalty.detach()

    def _penalty(self, weights: Tensor, norms: Tensor, current: Tensor) -> Tensor:
        # a crop without objects says nothing about the losses of masks
        active = (norms > 0) & (self.n_first > 0)
        if not bool(active.any()):
            return weights.sum() * 0.0
        sizes = (weights * norms)[active]
        fallen = (current * self.n_first / self.first_sums)[active].clamp(min=0)
        relative = fallen / fallen.mean().clamp(min=1e-12)
        share = relative**self.alpha
        # with a mean of 1 all goals can be reached at once, since the weights have one too
        goal = sizes.detach().mean() * share / share.mean().clamp(min=1e-12)
        return (sizes - goal).abs().sum()


class ParetoBalancer(Balancer):
    """Weighs losses so that a step on the shared layer harms none of them.

    The weights are those of the shortest vector in the convex hull of the losses'
    gradients: going against it lowers every loss, and where it is zero no
    direction does. Sener and Koltun, "Multi-task learning as multi-objective
    optimization", arXiv 1810.04650; Désidéri 2012 (MGDA). Weights are scaled to
    a mean of 1. Unlike there, the heads too see the weighted losses, so that one
    backward pass serves all.

    Parameters
    ----------
    names, weights : see `Balancer`
    shared : parameters on which the gradients are measured
    normalise : scale gradients to one length first. The shortest vector otherwise
        lies next to the shortest gradient, and losses with long ones hardly count
    """

    def __init__(
        self,
        names: Sequence[str],
        shared: Sequence[nn.Parameter],
        weights: Mapping[str, float] | None = None,
        *,
        normalise: bool = True,
    ) -> None:
        super().__init__(names, weights)
        self.shared = tuple(shared)
        self.normalise = normalise

    def _weigh(self, losses: list[Tensor]) -> Tensor:
        gradients = shared_gradients(losses, self.shared).double()
        lengths = gradients.norm(dim=1)
        rows = lengths.nonzero()[:, 0]
        weights = torch.ones_like(lengths)
        if len(rows):
            scale = torch.ones_like(lengths[rows])
            if self.normalise:
                scale = 1 / lengths[rows].clamp(min=float(lengths.max()) / SCALE_LIMIT)
            chosen = gradients[rows] * scale[:, None]
            shares = min_norm_weights((chosen @ chosen.T).cpu().numpy())
            found = torch.from_numpy(shares).to(scale) * scale
            weights[rows] = found * (len(rows) / found.sum())
        self.found = weights.float()
        return (self.found * torch.stack(losses)).sum()


def balancer_of(config: BalanceConfig, names: Sequence[str], model: HasSharedLayer) -> Balancer:
    """Make the balancer that settings ask for.

    Parameters
    ----------
    config : settings
    names : of the losses that the model gives
    model : whose shared layer GradNorm and Pareto measure gradients on

    Raises
    ------
    SettingsError
        If a weight is given for a loss that doesn't exist, no loss is left, or
        the shared layer is frozen where gradients on it are needed.
    """
    weights = dict(config.weights)
    strangers = [name for name in weights if name not in names]
    if strangers or all(weights.get(name, 1.0) == 0 for name in names):
        raise SettingsError(
            expected=f"weights of losses among {', '.join(names)}, one above 0",
            got=strangers[0] if strangers else "0 for all",
            remedy="Leave out the weights for 1 each.",
        )
    found: dict[str, Any] = {"rate": config.rate, "log_weight_max": config.log_weight_max}
    if config.method == "fixed":
        return Balancer(names, weights)
    if config.method == "uncertainty":
        return UncertaintyBalancer(names, weights, **found)
    shared = model.shared_parameters()
    if not all(parameter.requires_grad for parameter in shared):
        raise SettingsError(
            expected=f"a feature pyramid that learns, for {config.method}",
            got="a frozen one",
            remedy="Balance by fixed weights or uncertainty, or let the heads learn.",
        )
    if config.method == "gradnorm":
        return GradNormBalancer(names, shared, weights, alpha=config.gradnorm_alpha, **found)
    return ParetoBalancer(names, shared, weights, normalise=config.pareto_normalise)


def _bounds(log_weight_max: float, rate: float) -> tuple[float, float]:
    return -log_weight_max / rate, log_weight_max / rate
