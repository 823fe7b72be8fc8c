"""All tasks at once on generated images, balanced by each method."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from dinomask.config import BalanceConfig, NormaliseConfig
from dinomask.image.normalise import fit_array
from dinomask.nets.centermask import CenterMask
from dinomask.nets.features import ViTBackbone
from dinomask.nets.losses import Sampling
from dinomask.train.balance import Balancer, ParetoBalancer, balancer_of
from dinomask.train.generate import generate_image
from dinomask.train.gradients import shared_gradients
from tests.nets.small import small_config, small_vit, targets_of

if TYPE_CHECKING:
    from typing import Literal

    from dinomask.nets.detection import InstanceTargets

KINDS = ("fluorescent nuclei", "histology")
SIDE_PX = 84
METHODS = ("fixed", "uncertainty", "gradnorm", "pareto")

Batch = tuple[torch.Tensor, list["InstanceTargets"]]


def generated(kind: int, seed: int) -> tuple[np.ndarray, InstanceTargets]:
    """A picture of one kind; its objects and the picture are of that class."""
    image, labels, is_rgb = generate_image(np.random.default_rng(seed), KINDS[kind], SIDE_PX)
    pixels = fit_array(image.reshape(len(image), -1), is_rgb, NormaliseConfig()).apply(image)
    ids, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape) + (0 if ids[0] == 0 else 1)
    target = targets_of(compact, [kind] * int(compact.max()))
    planes = np.broadcast_to(pixels, (3, SIDE_PX, SIDE_PX)).astype(np.float32)
    return planes, dataclasses.replace(target, image_class=torch.tensor(kind))


@pytest.fixture(scope="module")
def batch() -> Batch:
    pairs = [generated(kind, seed) for kind, seed in ((0, 0), (1, 1), (0, 2), (1, 3))]
    return torch.from_numpy(np.stack([planes for planes, _ in pairs])), [t for _, t in pairs]


class Training:
    """A model with all heads, its balancer and its optimiser."""

    def __init__(self, method: Literal["fixed", "uncertainty", "gradnorm", "pareto"]) -> None:
        torch.manual_seed(0)
        config = dataclasses.replace(small_config(2), semantic_classes=3, image_classes=2)
        self.model = CenterMask(config, ViTBackbone(small_vit())).train()
        self.balancer: Balancer = balancer_of(
            BalanceConfig(method), self.model.loss_names, self.model
        )
        parameters = [*self.model.parameters(), *self.balancer.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=2e-3)

    def step(self, batch: Batch, seed: int) -> dict[str, float]:
        torch.manual_seed(seed)
        losses = self.model.losses(*batch, Sampling(4, 4))
        self.optimiser.zero_grad()
        losses["total"] = self.balancer.backward(losses)
        self.optimiser.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}


@pytest.mark.parametrize("method", METHODS)
def test_all_tasks_learn(
    batch: Batch, method: Literal["fixed", "uncertainty", "gradnorm", "pareto"]
) -> None:
    training = Training(method)
    curve = [training.step(batch, i) for i in range(40)]
    names = training.model.loss_names
    assert all(math.isfinite(value) for losses in curve for value in losses.values())
    first = {n: np.mean([losses[n] for losses in curve[:4]]) for n in names}
    last = {n: np.mean([losses[n] for losses in curve[-4:]]) for n in names}
    assert last["image_class"] < 0.5 * first["image_class"]
    assert last["semantic"] < 0.9 * first["semantic"]
    assert last["class"] < 0.9 * first["class"]
    assert sum(last[n] < first[n] for n in names) >= len(names) - 1
    weights = training.balancer.weights()
    assert tuple(weights) == names
    assert all(weight >= 0 for weight in weights.values())
    if method == "fixed":
        assert set(weights.values()) == {1.0}
        assert curve[-1]["total"] == pytest.approx(sum(curve[-1][n] for n in names), rel=1e-5)
    else:
        assert max(weights.values()) > 1.2 * min(weights.values())
    if method in ("gradnorm", "pareto"):
        assert sum(weights.values()) == pytest.approx(len(names), rel=1e-3)


@pytest.mark.parametrize("method", ["uncertainty", "gradnorm", "pareto"])
def test_resumed_from_saved_tensors_it_goes_on_the_same(
    batch: Batch, method: Literal["uncertainty", "gradnorm", "pareto"]
) -> None:
    straight = Training(method)
    curve = [straight.step(batch, i) for i in range(5)]
    first, second = Training(method), Training(method)
    for i in range(3):
        first.step(batch, i)
    second.model.load_state_dict(first.model.state_dict())
    second.balancer.load_state_dict(load(save(dict(first.balancer.state_dict()))))
    second.optimiser.load_state_dict(first.optimiser.state_dict())
    assert [second.step(batch, i) for i in range(3, 5)] == curve[3:]
    assert second.balancer.weights() == straight.balancer.weights()


def test_a_pareto_step_on_the_shared_layer_harms_no_loss(batch: Batch) -> None:
    training = Training("pareto")
    assert isinstance(training.balancer, ParetoBalancer)
    for i in range(5):
        training.step(batch, i)
    torch.manual_seed(9)
    losses = training.model.losses(*batch, Sampling(4, 4))
    shared = training.model.shared_parameters()
    gradients = shared_gradients(list(losses.values()), shared)
    total = training.balancer.total(losses)
    (step,) = shared_gradients([total], shared)
    assert step.norm() > 0
    slopes = gradients @ step / (gradients.norm(dim=1) * step.norm())
    assert slopes.min() > 0
    # a plain sum is not so kind, or there would be nothing to show
    plain = gradients.sum(0)
    assert (gradients @ plain / (gradients.norm(dim=1) * plain.norm())).min() < slopes.min()


def test_gradnorm_brings_the_gradients_closer_together(batch: Batch) -> None:
    training = Training("gradnorm")
    training.balancer.alpha = 0.0
    spreads = []
    for i in range(60):
        training.step(batch, i)
        if i in (0, 59):
            losses = training.model.losses(*batch, Sampling(4, 4))
            shared = training.model.shared_parameters()
            norms = shared_gradients(list(losses.values()), shared).norm(dim=1)
            weights = torch.tensor(list(training.balancer.weights().values()))
            spreads.append(float((norms * weights).log().std() / norms.log().std()))
    assert spreads[1] < 0.7 * spreads[0]
