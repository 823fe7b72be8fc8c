"""FCOS: which location finds which object, and what the losses reward."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dinomask.nets.detection import (
    DensePredictions,
    FCOSHead,
    InstanceTargets,
    assign,
    centerness_target,
    detection_losses,
    grid_locations,
)
from dinomask.nets.pyramid import LEVEL_STRIDES_PX
from tests.nets.small import targets_of


def locations(side_px: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All locations of a square tile, and their strides."""
    places, strides = [], []
    for stride in LEVEL_STRIDES_PX:
        n = int(side_px / stride)
        places.append(grid_locations(n, n, stride, torch.device("cpu")))
        strides.append(torch.full((n * n,), stride))
    return torch.cat(places), torch.cat(strides)


def square(side_px: int, start: int, stop: int) -> InstanceTargets:
    labels = np.zeros((side_px, side_px), np.int64)
    labels[start:stop, start:stop] = 1
    return targets_of(labels)


def found_by(side_px: int, target: InstanceTargets) -> set[tuple[float, float, float]]:
    """Stride, y and x of the positive locations."""
    places, strides = locations(side_px)
    rows = assign(places, strides, target)
    return {
        (float(s), float(p[0]), float(p[1]))
        for p, s, row in zip(places, strides, rows, strict=True)
        if row >= 0
    }


def test_locations_are_the_centres_of_cells() -> None:
    cells = grid_locations(2, 3, 7.0, torch.device("cpu"))
    expected = [[3.5, 3.5], [3.5, 10.5], [3.5, 17.5], [10.5, 3.5], [10.5, 10.5], [10.5, 17.5]]
    assert cells.tolist() == expected


def test_a_cell_is_found_by_the_four_locations_around_its_centre() -> None:
    # box 14…42, centre 28: at stride 7 the centres 17.5 and 38.5 are 10.5 = 1.5 strides
    # away and no longer count; at strides 14 and 28 the object is too small
    near = {(7.0, y, x) for y in (24.5, 31.5) for x in (24.5, 31.5)}
    assert found_by(56, square(56, 14, 42)) == near


def test_a_large_object_is_found_on_the_next_level() -> None:
    # box 24…144, centre 84: from 80.5 the longest side is 63.5 px, beyond stride 7's 56;
    # at stride 14 the centres 77 and 91 lie within 21 px
    assert found_by(168, square(168, 24, 144)) == {
        (14.0, y, x) for y in (77.0, 91.0) for x in (77.0, 91.0)
    }


def test_a_huge_object_is_found_on_the_coarsest_level() -> None:
    found = found_by(336, square(336, 28, 308))
    assert found
    assert {stride for stride, _, _ in found} == {28.0}


def test_of_a_curved_object_only_its_own_pixels_claim() -> None:
    labels = np.zeros((56, 56), np.int64)
    labels[14:42, 14:42] = 1
    labels[14:28, 14:28] = 0  # an L: one of the four near its centre is not on it
    labels[14:27, 14:27] = 2
    found = assign(*locations(56), targets_of(labels))
    places, strides = locations(56)
    own = found == 0
    assert own.any()
    y, x = places[own].long().unbind(1)
    assert (torch.from_numpy(labels)[y, x] == 1).all()
    assert strides[own].tolist() == [7.0] * 3


def test_the_smallest_area_wins_a_location() -> None:
    # two rings around one centre: neither covers the locations that both claim
    boxes = torch.tensor([[10.0, 10, 46, 46], [14, 14, 42, 42], [12, 12, 44, 44]])
    target = InstanceTargets(
        torch.zeros(56, 56, dtype=torch.int64),
        boxes,
        torch.zeros(3, dtype=torch.int64),
        torch.tensor([300.0, 100.0, 200.0]),
    )
    rows = assign(*locations(56), target)
    assert set(rows.tolist()) == {-1, 1}


def test_background_and_unsupervised_ground() -> None:
    labels = np.zeros((56, 56), np.int64)
    labels[:, 28:] = -1
    places, strides = locations(56)
    rows = assign(places, strides, targets_of(labels))
    assert torch.equal(rows, torch.where(places[:, 1] >= 28, -2, -1))


@given(st.data())
def test_a_positive_location_lies_near_the_centre_of_its_object(data: st.DataObject) -> None:
    labels = np.zeros((84, 84), np.int64)
    for label in range(1, data.draw(st.integers(1, 4)) + 1):
        y, x = data.draw(st.integers(0, 70)), data.draw(st.integers(0, 70))
        h, w = data.draw(st.integers(4, 60)), data.draw(st.integers(4, 60))
        labels[y : y + h, x : x + w] = label
    ids = np.unique(labels[labels > 0])
    labels = np.searchsorted(np.r_[0, ids], labels)
    target = targets_of(labels)
    places, strides = locations(84)
    rows = assign(places, strides, target)
    assert rows.shape == (len(places),)
    assert not (rows == -2).any()
    for place, stride, row in zip(places, strides, rows, strict=True):
        if row < 0:
            continue
        box = target.boxes_yxyx_px[row]
        assert (place > box[:2]).all()
        assert (place < box[2:]).all()
        assert ((box[:2] + box[2:]) / 2 - place).abs().max() < 1.5 * stride


def test_centerness_by_hand() -> None:
    distances = torch.tensor([[4.0, 4, 4, 4], [1, 2, 3, 2], [1, 1, 4, 9]])
    expected = [1.0, math.sqrt(1 / 3), math.sqrt(1 / 4 * 1 / 9)]
    assert centerness_target(distances).tolist() == pytest.approx(expected)


def dense_of(side_px: int, n_classes: int = 1) -> DensePredictions:
    """Predictions that know nothing: no objects, boxes of 20 px."""
    places, strides = locations(side_px)
    n = len(places)
    return DensePredictions(
        torch.full((1, n, n_classes), -4.0, requires_grad=True),
        torch.full((1, n, 4), 10.0, requires_grad=True),
        torch.zeros(1, n, requires_grad=True),
        places,
        strides,
    )


def perfect(dense: DensePredictions, target: InstanceTargets) -> DensePredictions:
    """What the losses should like best."""
    rows = assign(dense.locations_yx_px, dense.strides_px, target)
    boxes = target.boxes_yxyx_px[rows.clamp(min=0)]
    distances = torch.cat(
        [dense.locations_yx_px - boxes[:, :2], boxes[:, 2:] - dense.locations_yx_px], dim=1
    )
    logits = torch.full_like(dense.class_logits, -20.0).detach()
    where = (rows >= 0).nonzero()[:, 0]
    logits[0, where, target.classes[rows[where]]] = 20.0
    goal = centerness_target(distances).clamp(1e-6, 1 - 1e-6)
    return DensePredictions(
        logits,
        distances[None],
        torch.logit(goal)[None],
        dense.locations_yx_px,
        dense.strides_px,
    )


def test_perfect_predictions_cost_nothing_but_the_entropy_of_centerness() -> None:
    target = square(56, 14, 42)
    losses = detection_losses(perfect(dense_of(56), target), [target])
    assert float(losses["box"]) == pytest.approx(0, abs=1e-6)
    assert float(losses["class"]) == pytest.approx(0, abs=1e-6)
    # a soft target p costs its entropy at best; all four have centerness 10.5 / 17.5
    p = 10.5 / 17.5
    entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    assert float(losses["centerness"]) == pytest.approx(entropy, abs=1e-4)


def test_each_part_costs_more_when_it_is_wrong() -> None:
    target = square(56, 14, 42)
    good = detection_losses(perfect(dense_of(56), target), [target])
    bad = detection_losses(dense_of(56), [target])
    assert all(float(bad[k].detach()) > float(good[k]) + 0.01 for k in good)


def test_unsupervised_locations_have_no_gradient() -> None:
    labels = np.zeros((56, 56), np.int64)
    labels[14:42, 2:26] = 1
    labels[:, 28:] = -1
    dense = dense_of(56)
    sum(detection_losses(dense, [targets_of(labels)]).values()).backward()
    silent = dense.locations_yx_px[:, 1] >= 28
    for values in (dense.class_logits, dense.distances_px, dense.centerness_logits):
        assert values.grad is not None
        assert not values.grad[0, silent].any()
        assert values.grad[0, ~silent].any()


def test_refuted_ground_counts_twice() -> None:
    plain, refuted = np.zeros((56, 56), np.int64), np.zeros((56, 56), np.int64)
    plain[14:42, 2:26] = refuted[14:42, 2:26] = 1
    refuted[:, 35:49] = -2
    gradients = []
    for labels in (plain, refuted):
        dense = dense_of(56)
        detection_losses(dense, [targets_of(labels)])["class"].backward()
        assert dense.class_logits.grad is not None
        gradients.append(dense.class_logits.grad[0, :, 0])
    x = dense.locations_yx_px[:, 1]
    there = (x >= 35) & (x < 49)
    assert torch.allclose(gradients[1][there], 2 * gradients[0][there])
    assert torch.equal(gradients[1][~there], gradients[0][~there])


def test_an_empty_crop_teaches_background_only() -> None:
    dense = dense_of(56)
    losses = detection_losses(dense, [targets_of(np.zeros((56, 56), np.int64))])
    sum(losses.values()).backward()
    assert float(losses["class"].detach()) > 0
    assert float(losses["box"].detach()) == 0
    assert dense.class_logits.grad is not None
    assert (dense.class_logits.grad > 0).all()


def test_the_class_of_an_object_is_rewarded_alone() -> None:
    labels = np.zeros((56, 56), np.int64)
    labels[14:42, 14:42] = 1
    target = targets_of(labels, classes=[2])
    dense = dense_of(56, n_classes=3)
    detection_losses(dense, [target])["class"].backward()
    where = assign(dense.locations_yx_px, dense.strides_px, target) == 0
    gradient = dense.class_logits.grad
    assert gradient is not None
    assert (gradient[0, where, 2] < 0).all()
    assert (gradient[0, where, :2] > 0).all()


def test_the_head_starts_at_its_prior_and_learns_everywhere() -> None:
    torch.manual_seed(0)
    head = FCOSHead(8, 2, 3)
    levels = tuple(torch.randn(1, 8, int(56 / s), int(56 / s)) for s in LEVEL_STRIDES_PX)
    dense = head(levels)
    assert dense.class_logits.shape == (1, 64 + 16 + 4, 3)
    assert float(dense.class_logits.detach().sigmoid().mean()) == pytest.approx(0.01, rel=0.2)
    assert (dense.distances_px > 0).all()
    target = targets_of(np.kron(np.array([[1, 2], [3, 0]]), np.ones((28, 28), np.int64)))
    sum(detection_losses(dense, [target]).values()).backward()
    without = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_boxes_and_scores_from_dense_predictions() -> None:
    dense = DensePredictions(
        torch.tensor([[[0.0, 100.0]]]),
        torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]),
        torch.tensor([[0.0]]),
        torch.tensor([[10.5, 17.5]]),
        torch.tensor([7.0]),
    )
    assert dense.boxes_yxyx_px().tolist() == [[[9.5, 15.5, 13.5, 21.5]]]
    assert dense.scores().flatten().tolist() == pytest.approx([0.5, math.sqrt(0.5)])
