"""Balancing losses: each method on a problem whose answer is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from dinomask.config import BalanceConfig
from dinomask.errors import SettingsError
from dinomask.train.balance import (
    Balancer,
    GradNormBalancer,
    ParetoBalancer,
    UncertaintyBalancer,
    balancer_of,
)
from dinomask.train.gradients import min_norm_weights, shared_gradients

if TYPE_CHECKING:
    from collections.abc import Callable


class Point(nn.Module):
    """A place x that two losses pull to a and b, with forces of their own."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor(start))

    def shared_parameters(self) -> list[nn.Parameter]:
        return [self.x]

    def losses(self, *pulls: tuple[list[float], float]) -> dict[str, Tensor]:
        return {
            name: 0.5 * force * (self.x - torch.tensor(goal)).square().sum()
            for name, (goal, force) in zip("abc", pulls, strict=False)
        }


def minimise(
    balancer: Balancer,
    parameters: list[nn.Parameter],
    losses: Callable[[], dict[str, Tensor]],
    n_steps: int,
    rate: float = 0.02,
) -> None:
    optimiser = torch.optim.Adam([*parameters, *balancer.parameters()], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps)
    for _ in range(n_steps):
        optimiser.zero_grad()
        balancer.backward(losses())
        optimiser.step()
        schedule.step()


def test_fixed_weights_are_a_weighted_sum() -> None:
    losses = {"a": torch.tensor(2.0), "b": torch.tensor(3.0), "c": torch.tensor(math.nan)}
    balancer = balancer_of(BalanceConfig(weights=(("b", 0.5), ("c", 0))), "abc", Point([0.0]))
    assert float(balancer.total(losses)) == 3.5
    assert balancer.weights() == {"a": 1.0, "b": 0.5}
    assert not list(balancer.parameters())
    assert not balancer.state_dict()


def test_learned_variances_are_those_of_the_noise() -> None:
    torch.manual_seed(0)
    sigmas, n = (0.3, 2.0), 4000
    x = torch.randn(n, 3)
    layers = [nn.Linear(3, 1), nn.Linear(3, 1)]
    truth = [layer(x).detach() + 1 for layer in (nn.Linear(3, 1), nn.Linear(3, 1))]
    y = [t + s * torch.randn(n, 1) for t, s in zip(truth, sigmas, strict=True)]

    def losses() -> dict[str, Tensor]:
        pairs = zip("ab", layers, y, strict=True)
        return {name: 0.5 * (layer(x) - goal).square().mean() for name, layer, goal in pairs}

    balancer = UncertaintyBalancer("ab", rate=2.0)
    minimise(balancer, [p for layer in layers for p in layer.parameters()], losses, 500, 0.05)
    variances = torch.exp(2.0 * balancer.log_variances.detach())
    left = torch.stack([2 * loss.detach() for loss in losses().values()])
    torch.testing.assert_close(variances, left, rtol=0.01, atol=0)
    torch.testing.assert_close(variances, torch.tensor(sigmas) ** 2, rtol=0.06, atol=0)
    assert balancer.weights()["a"] == pytest.approx(1 / sigmas[0] ** 2, rel=0.06)


def test_the_surer_of_two_measurements_counts_by_its_variance() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(1.0, 0.2, 30), rng.normal(1.0, 1.0, 30)]
    mean = 1.0
    for _ in range(100):
        # the most likely mean of two samples with variances of their own
        precisions = [1 / np.mean((s - mean) ** 2) for s in samples]
        mean = np.average([s.mean() for s in samples], weights=precisions)
    estimate = nn.Parameter(torch.tensor(0.0))
    data = [torch.tensor(s, dtype=torch.float32) for s in samples]

    def losses() -> dict[str, Tensor]:
        return {n: 0.5 * (d - estimate).square().mean() for n, d in zip("ab", data, strict=True)}

    minimise(UncertaintyBalancer("ab"), [estimate], losses, 600, 0.05)
    assert float(estimate.detach()) == pytest.approx(mean, abs=2e-3)
    minimise(Balancer("ab"), [estimate], losses, 300, 0.05)
    plain = float(np.mean([s.mean() for s in samples]))
    assert float(estimate.detach()) == pytest.approx(plain, abs=2e-3)
    assert abs(mean - plain) > 0.02


def test_a_loss_that_vanishes_has_a_bounded_weight() -> None:
    balancer = UncertaintyBalancer("ab", rate=30.0, log_weight_max=2.0)
    zero = nn.Parameter(torch.tensor(0.0))
    minimise(balancer, [zero], lambda: {"a": zero * 0, "b": zero * 0 + 1e6}, 200, 0.05)
    balancer.total({"a": torch.tensor(0.0), "b": torch.tensor(1e6)})
    assert balancer.weights()["a"] == pytest.approx(math.exp(2), rel=1e-5)
    assert balancer.weights()["b"] == pytest.approx(math.exp(-2), rel=1e-5)


def test_gradnorm_evens_out_a_loss_of_hundredfold_scale() -> None:
    torch.manual_seed(0)
    shared, own = nn.Linear(6, 8), nn.Linear(8, 1)
    x = torch.randn(64, 6)
    goal = x.square().sum(1, keepdim=True)

    def losses() -> dict[str, Tensor]:
        # two tasks alike in all but their scale
        loss = (own(shared(x).tanh()) - goal).square().mean()
        return {"a": loss, "b": 100 * loss}

    balancer = GradNormBalancer("ab", [shared.weight], rate=5.0)
    minimise(balancer, [*shared.parameters(), *own.parameters()], losses, 300, 0.01)
    weights = balancer.weights()
    assert weights["a"] / weights["b"] == pytest.approx(100, rel=0.05)
    assert weights["a"] + weights["b"] == pytest.approx(2, rel=1e-4)
    norms = shared_gradients(list(losses().values()), [shared.weight]).norm(dim=1)
    assert weights["a"] * norms[0] == pytest.approx(float(weights["b"] * norms[1]), rel=0.05)


@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_gradnorm_favours_what_falls_slowly_by_alpha(alpha: float) -> None:
    torch.manual_seed(0)
    x = nn.Parameter(torch.ones(2))
    balancer = GradNormBalancer("ab", [x], alpha=alpha, rate=5.0)
    fallen = [1.0, 1.0]

    def losses() -> dict[str, Tensor]:
        # gradients of length 1 whatever the value, so only the values tell the two apart
        pairs = zip("ab", x, fallen, strict=True)
        return {name: v - v.detach() + value for name, v, value in pairs}

    for _ in range(10):
        balancer.total(losses())
    fallen[:] = [0.5, 1.0]
    minimise(balancer, [], losses, 500, 0.01)
    weights = balancer.weights()
    assert weights["b"] / weights["a"] == pytest.approx(2**alpha, rel=0.03)


def test_gradnorm_ignores_a_loss_without_gradient() -> None:
    point = Point([3.0, 1.0])
    balancer = GradNormBalancer("abc", [point.x])
    losses = point.losses(([0.0, 0.0], 1.0), ([1.0, 1.0], 1.0)) | {"c": torch.tensor(0.0)}
    balancer.backward(losses)
    assert balancer.log_weights.grad is not None
    assert balancer.log_weights.grad[2] == 0
    assert balancer.log_weights.grad[:2].all()


@pytest.mark.parametrize(
    ("g", "h", "share"),
    [
        ([1.0, 0.0], [0.0, 1.0], 0.5),
        ([2.0, 0.0], [0.0, 1.0], 0.2),
        ([1.0, 0.0], [3.0, 1.0], 1.0),
        ([1.0, 0.0], [-1.0, 0.0], 0.5),
        ([1.0, 0.0], [-3.0, 0.0], 0.75),
    ],
)
def test_shortest_mix_of_two_gradients(g: list[float], h: list[float], share: float) -> None:
    vectors = np.array([g, h])
    weights = min_norm_weights(vectors @ vectors.T)
    np.testing.assert_allclose(weights, [share, 1 - share], atol=1e-9)


COINCIDING = np.full((7, 7), 0.0625)
COINCIDING[0, :2], COINCIDING[6, 1] = (0, -1), 2


@example(COINCIDING)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 7), st.integers(1, 9)), elements=st.floats(-5, 5))
)
def test_shortest_mix_is_a_common_descent_direction(vectors: np.ndarray) -> None:
    gram = vectors @ vectors.T
    weights = min_norm_weights(gram)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    mix = weights @ vectors
    # necessary and sufficient for the shortest vector of a convex hull
    assert (vectors @ mix).min() >= mix @ mix - 1e-6 * max(gram.max(), 1e-9)


def test_shortest_mix_of_three_agrees_with_a_grid() -> None:
    vectors = np.random.default_rng(3).normal(size=(3, 2)) + np.array([0.8, 0.3])
    steps = np.linspace(0, 1, 401)
    a, b = (grid.ravel() for grid in np.meshgrid(steps, steps))
    grid = np.stack([a, b, 1 - a - b], 1)[a + b <= 1]
    shortest = np.linalg.norm(grid @ vectors, axis=1).min()
    found = np.linalg.norm(min_norm_weights(vectors @ vectors.T) @ vectors)
    assert found <= shortest + 1e-12
    assert found == pytest.approx(shortest, abs=0.01)


def test_pareto_weights_of_two_quadratics_are_the_closed_form() -> None:
    point = Point([2.0, 1.0])
    a, b = ([0.0, 0.0], 1.0), ([3.0, 0.0], 4.0)
    balancer = ParetoBalancer("ab", [point.x], normalise=False)
    balancer.backward(point.losses(a, b))
    g, h = np.array([2.0, 1.0]), 4 * np.array([-1.0, 1.0])
    share = np.clip((h - g) @ h / ((h - g) @ (h - g)), 0, 1)
    assert 0 < share < 1
    assert balancer.weights() == pytest.approx({"a": 2 * share, "b": 2 * (1 - share)})
    assert point.x.grad is not None
    np.testing.assert_allclose(point.x.grad, 2 * (share * g + (1 - share) * h), rtol=1e-5)


@pytest.mark.parametrize("normalise", [True, False])
def test_pareto_descends_in_both_losses_and_stops_between_the_goals(normalise: bool) -> None:
    point = Point([1.0, 2.5])
    pulls = (([0.0, 0.0], 1.0), ([3.0, 0.0], 50.0))
    balancer = ParetoBalancer("ab", [point.x], normalise=normalise)
    optimiser = torch.optim.SGD(point.parameters(), lr=0.002)
    last = {name: math.inf for name in "ab"}
    for _ in range(2000):
        optimiser.zero_grad()
        losses = point.losses(*pulls)
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        balancer.backward(losses)
        optimiser.step()
        # where no direction lowers both, steps of a finite length may still jump about
        if float(point.x.detach()[1]) > 0.05:
            # but for rounding
            assert all(values[name] <= last[name] * (1 + 1e-6) for name in "ab")
            last = values
    x, y = point.x.tolist()
    # the Pareto set of two quadratics is the line between their minima
    assert abs(y) < 0.05
    assert -0.05 < x < 3.05
    gradients = shared_gradients(list(point.losses(*pulls).values()), [point.x]).double().numpy()
    unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    assert np.linalg.norm(min_norm_weights(unit @ unit.T) @ unit) < 0.05


def test_plain_pareto_follows_the_short_gradient_and_normalised_does_not() -> None:
    point = Point([0.0, 0.0])
    losses = point.losses(([1.0, 0.0], 1.0), ([0.0, 1.0], 100.0))
    plain = ParetoBalancer("ab", [point.x], normalise=False)
    plain.total(losses)
    assert plain.weights()["b"] < 1e-3
    even = ParetoBalancer("ab", [point.x])
    even.backward(losses)
    assert point.x.grad is not None
    assert float(point.x.grad[0]) == pytest.approx(float(point.x.grad[1]), rel=1e-5)


@pytest.mark.parametrize("method", ["uncertainty", "gradnorm", "pareto"])
def test_a_loss_that_is_no_number_spoils_nothing(method: str) -> None:
    point = Point([2.0, 1.0])
    balancer = balancer_of(BalanceConfig(method), "ab", point)
    losses = point.losses(([0.0, 0.0], 1.0), ([3.0, 0.0], 4.0))
    balancer.total(losses)
    before = {name: value.clone() for name, value in balancer.state_dict().items()}
    assert math.isnan(float(balancer.total(losses | {"b": losses["b"] * math.nan}).detach()))
    assert all(torch.equal(value, before[name]) for name, value in balancer.state_dict().items())


def test_settings_that_cannot_work_are_refused() -> None:
    point = Point([0.0])
    with pytest.raises(SettingsError, match="colour"):
        balancer_of(BalanceConfig(weights=(("colour", 1.0),)), "ab", point)
    with pytest.raises(SettingsError, match="0 for all"):
        balancer_of(BalanceConfig(weights=(("a", 0.0), ("b", 0.0))), "ab", point)
    with pytest.raises(SettingsError, match="one weight"):
        BalanceConfig(weights=(("a", -1.0),))
    with pytest.raises(SettingsError, match="one weight"):
        BalanceConfig(weights=(("a", 1.0), ("a", 2.0)))
    with pytest.raises(SettingsError, match="class_weights"):
        BalanceConfig(class_weights=(1.0, 0.0))
    with pytest.raises(SettingsError, match="rate"):
        BalanceConfig(rate=0.0)
    point.x.requires_grad_(False)
    with pytest.raises(SettingsError, match="frozen"):
        balancer_of(BalanceConfig("pareto"), "ab", point)
    assert isinstance(balancer_of(BalanceConfig("uncertainty"), "ab", point), UncertaintyBalancer)
