"""Classes of objects, pixels and images: targets, losses and heads."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import BalanceConfig, DetectConfig, ModelConfig
from dinomask.errors import DataError, ModelError, SettingsError
from dinomask.nets.catalogue import Manifest
from dinomask.nets.centermask import CenterMask
from dinomask.nets.detection import DensePredictions, detection_losses
from dinomask.nets.features import ViTBackbone
from dinomask.nets.losses import Sampling
from dinomask.nets.tasks import (
    ClassWeights,
    balanced_weights,
    image_class_loss,
    semantic_loss,
    semantic_target,
)
from dinomask.run.predictor import Predictor
from tests.nets.small import small_config, small_model, small_vit, targets_of, tile_of

LABELS = np.kron(np.array([[1, 0, -1], [0, 2, 3]]), np.ones((28, 28), np.int64))


def tasks_model(n_classes: int = 3, semantic: int = 4, images: int = 2) -> CenterMask:
    torch.manual_seed(0)
    config = dataclasses.replace(
        small_config(n_classes), semantic_classes=semantic, image_classes=images
    )
    return CenterMask(config, ViTBackbone(small_vit()))


def test_pixels_get_the_class_of_their_object() -> None:
    target = targets_of(LABELS, [2, 0, 1])
    expected = np.kron(np.array([[3, 0, -1], [0, 1, 2]]), np.ones((28, 28), np.int64))
    assert torch.equal(semantic_target(target, 4), torch.from_numpy(expected))
    assert torch.equal(semantic_target(target, 2), torch.from_numpy(LABELS).clamp(max=1))
    empty = targets_of(np.full((4, 4), -1))
    assert torch.equal(semantic_target(empty, 4), torch.full((4, 4), -1))


def test_unsupervised_pixels_teach_nothing() -> None:
    torch.manual_seed(0)
    target = targets_of(LABELS, [2, 0, 1])
    logits = torch.randn(1, 4, *LABELS.shape, requires_grad=True)
    loss = semantic_loss(logits, [target])
    (gradient,) = torch.autograd.grad(loss, logits)
    ignored = torch.from_numpy(LABELS < 0)
    assert not gradient[0, :, ignored].any()
    assert gradient[0, :, ~ignored].abs().sum(0).all()
    # the mean over the other pixels
    rows = logits.detach()[0].permute(1, 2, 0)[~ignored]
    goal = semantic_target(target, 4)[~ignored]
    assert float(loss.detach()) == pytest.approx(float(F.cross_entropy(rows, goal)), rel=1e-5)


def test_a_batch_without_supervision_has_no_loss() -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    nothing = targets_of(np.full((4, 4), -1))
    loss = semantic_loss(logits, [nothing])
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()
    assert float(image_class_loss(torch.randn(1, 3), [nothing])) == 0
    assert float(image_class_loss(torch.randn(1, 3), [nothing], torch.ones(3))) == 0


def test_images_without_a_class_teach_nothing() -> None:
    plain = targets_of(LABELS)
    targets = [
        plain,
        dataclasses.replace(plain, image_class=torch.tensor(1)),
        dataclasses.replace(plain, image_class=torch.tensor(-1)),
    ]
    logits = torch.tensor([[5.0, -5.0], [0.0, math.log(3)], [9.0, 0.0]], requires_grad=True)
    loss = image_class_loss(logits, targets)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-math.log(0.75))
    assert logits.grad is not None
    assert logits.grad.any(dim=1).tolist() == [False, True, False]


def test_weighted_losses_are_means_by_weight() -> None:
    # a pixel of class 0 at probability 1/2, and one of class 1 at 1/4
    logits = torch.log(torch.tensor([[0.5, 0.75], [0.5, 0.25]])).view(1, 2, 1, 2)
    target = targets_of(np.array([[0, 1]]))
    loss = semantic_loss(logits, [target], torch.tensor([1.0, 3.0]))
    assert float(loss) == pytest.approx((math.log(2) + 3 * math.log(4)) / 4)


def dense_of(logits: list[list[float]]) -> DensePredictions:
    """Locations at the centres of cells of stride 7 in a row."""
    n = len(logits)
    places = torch.stack([torch.full((n,), 3.5), (torch.arange(n) + 0.5) * 7], 1)
    return DensePredictions(
        torch.tensor(logits)[None],
        torch.full((1, n, 4), 3.5),
        torch.zeros(1, n),
        places,
        torch.full((n,), 7.0),
    )


def test_a_class_weight_scales_the_focal_loss_of_its_objects_alone() -> None:
    labels = np.zeros((7, 42), np.int64)
    labels[:, :7], labels[:, 35:] = 1, 2
    target = targets_of(labels, [0, 1])
    dense = dense_of([[0.5, -1.0], *[[-1.0, -1.0]] * 4, [-0.5, 0.3]])

    def loss(*weights: float) -> float:
        return float(
            detection_losses(dense, [target], torch.tensor(weights, dtype=torch.float32))["class"]
        )

    plain = detection_losses(dense, [target])
    assert loss(1, 1) == pytest.approx(float(plain["class"]))
    of_0, of_1 = loss(2, 1) - loss(1, 1), loss(1, 2) - loss(1, 1)
    assert of_0 > 0
    assert of_1 > 0
    assert loss(3, 5) == pytest.approx(loss(1, 1) + 2 * of_0 + 4 * of_1, rel=1e-5)
    # by hand: both locations' focal terms of both classes, over two positives
    p, q = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(1.0))
    term = -0.25 * (1 - p) ** 2 * math.log(p) - 0.75 * q**2 * math.log(1 - q)
    assert of_0 == pytest.approx(term / 2, rel=1e-4)
    other = detection_losses(dense, [target], torch.tensor([3.0, 5.0]))
    assert torch.equal(other["box"], plain["box"])


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=6), st.sampled_from([0.0, 0.5, 1.0]))
def test_balanced_weights_keep_the_size_of_the_loss(counts: list[int], power: float) -> None:
    weights = balanced_weights(counts, power).double().numpy()
    n = np.array(counts)
    assert (weights * n).sum() == pytest.approx(n.sum(), rel=1e-5)
    np.testing.assert_allclose(weights * n**power, (weights * n**power)[0], rtol=1e-5)


def test_class_weights_come_from_settings_or_counts() -> None:
    model = ModelConfig(n_classes=2, semantic_classes=3, image_classes=2)
    none = ClassWeights.of(BalanceConfig(), model, [90, 10], [5, 5])
    assert none == ClassWeights()
    given_ = ClassWeights.of(BalanceConfig(class_weights=(1.0, 4.0)), model)
    assert given_.objects is not None
    assert given_.pixels is not None
    assert given_.objects.tolist() == [1, 4]
    assert given_.pixels.tolist() == [1, 1, 4]
    assert given_.images is None
    counted = ClassWeights.of(BalanceConfig(class_power=1.0), model, [90, 10], [5, 15])
    assert counted.objects is not None
    assert counted.images is not None
    torch.testing.assert_close(counted.objects, torch.tensor([100 / 180, 5.0]))
    torch.testing.assert_close(counted.images, torch.tensor([2.0, 2 / 3]))
    with pytest.raises(SettingsError, match="each of 2 classes"):
        ClassWeights.of(BalanceConfig(class_weights=(1.0,)), model)


def test_every_head_learns_and_tells_its_losses() -> None:
    model = tasks_model().train()
    target = dataclasses.replace(targets_of(LABELS, [0, 1, 2]), image_class=torch.tensor(1))
    weights = ClassWeights(torch.ones(3), torch.ones(4), torch.ones(2))
    losses = model.losses(tile_of(LABELS), [target], Sampling(8, 4, weights))
    assert tuple(losses) == model.loss_names
    assert model.loss_names[-2:] == ("semantic", "image_class")
    sum(losses.values()).backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert not still


def test_all_losses_depend_on_the_shared_layer() -> None:
    model = tasks_model().train()
    target = dataclasses.replace(targets_of(LABELS, [0, 1, 2]), image_class=torch.tensor(1))
    shared = model.shared_parameters()
    for name, loss in model.losses(tile_of(LABELS), [target], Sampling(8, 4)).items():
        gradients = torch.autograd.grad(loss, shared, retain_graph=True)
        assert all(g.any() for g in gradients), name


def test_heads_that_are_not_configured_do_not_exist() -> None:
    plain, more = small_model(3), tasks_model(3)
    names = dict(plain.named_parameters())
    extra = [n for n, _ in more.named_parameters() if n not in names]
    assert extra
    assert all(n.startswith(("semantic_head.", "image_head.")) for n in extra)
    # and they take no random numbers from the others
    assert all(torch.equal(p, more.get_parameter(n)) for n, p in names.items())
    for method in (plain.semantic, plain.image_class):
        with pytest.raises(ModelError, match="_classes in its architecture"):
            method(torch.rand(1, 3, 28, 28))


@pytest.mark.parametrize("size_px", [(56, 84), (70, 42)])
def test_predictions_are_probabilities(size_px: tuple[int, int]) -> None:
    model = tasks_model().eval()
    tiles = torch.rand(2, 3, *size_px)
    semantic, image_class = model.semantic(tiles), model.image_class(tiles)
    assert semantic.shape == (2, 4, *size_px)
    assert image_class.shape == (2, 2)
    for probabilities in (semantic, image_class):
        assert (probabilities >= 0).all()
        torch.testing.assert_close(probabilities.sum(1), torch.ones(probabilities.sum(1).shape))
    predictor = Predictor(model, Manifest("m", model.config), torch.device("cpu"))
    tile = tiles[1].numpy()
    np.testing.assert_allclose(predictor.semantic(tile), semantic[1], atol=1e-5)
    np.testing.assert_allclose(predictor.image_class(tile), image_class[1], atol=1e-5)
    predictor.detect(tile, DetectConfig())


def test_classes_the_model_does_not_have_are_refused() -> None:
    model = tasks_model(2, 3)
    tiles = tile_of(LABELS)
    with pytest.raises(DataError, match="object classes from 0 to 1; got 2"):
        model.losses(tiles, [targets_of(LABELS, [0, 1, 2])], Sampling(8, 0))
    target = dataclasses.replace(targets_of(LABELS), image_class=torch.tensor(2))
    with pytest.raises(DataError, match="image classes from -1 to 1; got 2"):
        model.losses(tiles, [target], Sampling(8, 0))


def test_settings_of_tasks() -> None:
    config = ModelConfig(n_classes=2, class_names=["live", "dead"])  # type: ignore[arg-type]
    assert config.class_names == ("live", "dead")
    for wrong in (
        {"n_classes": 3, "class_names": ("a", "b")},
        {"n_classes": 2, "class_names": ("a", "a")},
        {"n_classes": 3, "semantic_classes": 3},
        {"image_classes": 1},
        {"image_class_names": ("a",)},
    ):
        with pytest.raises(SettingsError):
            ModelConfig(**wrong)  # type: ignore[arg-type]
