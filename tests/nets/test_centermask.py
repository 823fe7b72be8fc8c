"""The whole model: it detects, and it learns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from dinomask.config import DetectConfig
from dinomask.nets.duplicates import drop_duplicates
from dinomask.nets.losses import Sampling
from dinomask.nets.proposals import (
    RoiSample,
    propose,
    roi_losses,
    sample_proposals,
    sample_true_boxes,
)
from dinomask.run.predictor import to_instances
from tests.nets.small import discs, masks_of, small_model, targets_of, tile_of

if TYPE_CHECKING:
    from dinomask.nets.centermask import CenterMask
    from dinomask.nets.detection import InstanceTargets

EASY = DetectConfig(candidate_score=0.001)


def step(
    model: CenterMask,
    optimiser: torch.optim.Optimizer,
    tiles: torch.Tensor,
    targets: list[InstanceTargets],
    n_proposals: int = 0,
) -> dict[str, float]:
    losses = model.losses(tiles, targets, Sampling(8, n_proposals))
    optimiser.zero_grad()
    sum(losses.values()).backward()
    optimiser.step()
    return {name: float(loss.detach()) for name, loss in losses.items()}


@pytest.mark.parametrize("n_classes", [1, 3])
@pytest.mark.parametrize("size_px", [(56, 84), (70, 42)])
def test_untrained_detections_are_well_formed(n_classes: int, size_px: tuple[int, int]) -> None:
    model = small_model(n_classes).eval()
    found = model.detect(torch.rand(2, 3, *size_px), EASY, score_threshold=-1.0)
    assert len(found) == 2
    for one in found:
        n = len(one.scores)
        assert n > 0
        assert one.boxes_yxyx_px.shape == one.rois_yxyx_px.shape == (n, 4)
        assert one.masks.shape == (n, 28, 28)
        assert ((one.masks >= 0) & (one.masks <= 1)).all()
        assert (one.scores[:-1] >= one.scores[1:]).all()
        assert ((one.classes >= 0) & (one.classes < n_classes)).all()
        assert (one.boxes_yxyx_px[:, 2:] > one.boxes_yxyx_px[:, :2]).all()


def test_a_tile_is_detected_alone_as_in_a_batch() -> None:
    model = small_model().eval()
    tiles = torch.rand(3, 3, 56, 56)
    together = model.detect(tiles, EASY, -1.0)
    for i in range(3):
        alone = model.detect(tiles[i : i + 1], EASY, -1.0)[0]
        torch.testing.assert_close(alone.boxes_yxyx_px, together[i].boxes_yxyx_px)
        torch.testing.assert_close(alone.masks, together[i].masks, atol=1e-5, rtol=1e-4)


def test_nothing_above_the_threshold_gives_nothing() -> None:
    found = small_model().eval().detect(torch.rand(1, 3, 56, 56), DetectConfig(), 0.99)[0]
    assert len(found.scores) == len(found.boxes_yxyx_px) == len(found.masks) == 0
    assert len(to_instances(found)) == 0


def test_proposals_keep_the_limits() -> None:
    model = small_model(3).eval()
    with torch.no_grad():
        dense = model.dense(model.features(torch.rand(1, 3, 84, 84)))
    scores = dense.scores()[0]
    limit = float(scores.flatten().sort().values[-20])
    config = DetectConfig(candidate_score=0.001, max_instances=5, pre_nms=50)
    boxes, kept, classes = propose(dense, config, limit)[0]
    assert 0 < len(boxes) == len(kept) == len(classes) <= 5
    assert (kept > limit).all()
    assert float(kept[0]) == float(scores.max())


def test_sampled_true_boxes_stay_near_their_objects() -> None:
    _, target = discs([(20, 20), (60, 30), (40, 70)], 10, 98)
    target = dataclasses.replace(target, classes=torch.tensor([0, 1, 2]))
    sample = sample_true_boxes(target, 2, torch.Generator())
    boxes, labels = sample.boxes_yxyx_px, sample.labels
    assert torch.equal(sample.classes, labels - 1)
    assert len(boxes) == len(set(labels.tolist())) == 2
    truth = target.boxes_yxyx_px[labels - 1]
    assert ((boxes - truth).abs() <= 0.16 * 20 + 1e-4).all()


def test_proposals_on_unsupervised_ground_are_passed_over() -> None:
    torch.manual_seed(0)
    model = small_model().eval()
    with torch.no_grad():
        model.detector.classes.bias.fill_(0.0)
        dense = model.dense(model.features(torch.rand(1, 3, 56, 56)))
    labels = np.zeros((56, 56), np.int64)
    labels[:, 28:] = -1
    sample = sample_proposals(dense, [targets_of(labels)], 50, [torch.Generator()])[0]
    boxes, hits = sample.boxes_yxyx_px, sample.labels
    centres_x = (boxes[:, 1] + boxes[:, 3]) / 2
    assert len(boxes) > 0
    assert (centres_x < 28).all()
    assert not hits.any()


def test_mask_iou_rejects_what_is_no_object_or_of_another_class() -> None:
    labels = np.zeros((28, 28), np.int64)
    labels[4:18, 4:18] = 1
    target = targets_of(labels, [1])
    box = target.boxes_yxyx_px
    # the object found as itself, as another class, and nothing found as class 2
    sample = RoiSample(box.repeat(3, 1), torch.tensor([1, 1, 0]), torch.tensor([1, 0, 2]))
    perfect = torch.full((3, 28, 28), 9.0)
    iou = torch.full((3, 3), 0.5, requires_grad=True)
    loss = roi_losses(box.repeat(3, 1), perfect, iou, [target], [sample])["mask_iou"]
    assert float(loss.detach()) == pytest.approx(0.5 * 0.25)
    loss.backward()
    assert iou.grad is not None
    assert iou.grad.sign().tolist() == [[0, -1, 0], [1, 0, 0], [0, 0, 1]]


def test_every_parameter_learns_and_c_classes_work() -> None:
    model = small_model(3).train()
    labels = np.kron(np.array([[1, 0], [2, 3]]), np.ones((28, 28), np.int64))
    losses = model.losses(tile_of(labels), [targets_of(labels, [0, 1, 2])], Sampling(8, 4))
    assert set(losses) == {"class", "box", "centerness", "mask", "mask_iou"}
    sum(losses.values()).backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # the answer of MaskIoU for a class is trained by objects of that class
    assert not still


def test_a_crop_without_objects_can_be_trained_on() -> None:
    model = small_model().train()
    empty = targets_of(np.zeros((56, 56), np.int64))
    losses = model.losses(torch.rand(2, 3, 56, 56), [empty, empty], Sampling(8, 4))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss.detach()) for loss in losses.values())
    assert float(losses["mask"].detach()) == 0


def test_learns_one_crop_and_finds_its_objects() -> None:
    centres = [(24.0, 26.0), (30.0, 80.0), (78.0, 30.0), (84.0, 76.0)]
    tiles, target = discs(centres, 13, 112)
    model = small_model(seed=1).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    torch.manual_seed(0)
    first: dict[str, float] = {}
    for i in range(160):
        last = step(model, optimiser, tiles, [target], n_proposals=8 if i > 60 else 0)
        first = first or last
    assert all(last[name] < 0.7 * first[name] for name in ("class", "box", "mask"))
    detections = model.eval().detect(tiles, DetectConfig(), 0.3)[0]
    found = drop_duplicates(to_instances(detections), (112, 112), DetectConfig())
    predicted = masks_of(found, (112, 112))
    truth = [(target.labels_yx == i + 1).numpy() for i in range(4)]
    best = [max((np.sum(t & p) / np.sum(t | p) for p in predicted), default=0) for t in truth]
    assert min(best) > 0.6
    assert len(found) == 4
