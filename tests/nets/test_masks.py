"""The mask branch: pooling at float strides, targets, SAG attention and MaskIoU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import roi_align

from dinomask.nets.masks import (
    MaskHead,
    MaskIoUHead,
    expand_boxes,
    iou_targets,
    mask_loss,
    mask_targets,
    pool_by_products,
    pool_rois,
)
from dinomask.nets.pyramid import Pyramid


def test_rois_are_a_tenth_larger_on_each_side() -> None:
    boxes = torch.tensor([[10.0, 20, 30, 60]])
    assert expand_boxes(boxes).tolist() == [[8.0, 16.0, 32.0, 64.0]]
    assert expand_boxes(torch.zeros(0, 4)).shape == (0, 4)


def ramp(n: int, stride_px: float, axis: int) -> torch.Tensor:
    """A map whose cells hold their own centre's coordinate, in pixels."""
    centres = (torch.arange(n) + 0.5) * stride_px
    return (centres[:, None] if axis == 0 else centres[None, :]).expand(1, 1, n, n).contiguous()


@given(
    st.sampled_from([2.0, 3.5, 7.0]),
    st.tuples(st.floats(30, 80), st.floats(30, 80)),
    st.tuples(st.floats(10, 60), st.floats(10, 60)),
)
def test_pooling_samples_where_the_roi_is(
    stride_px: float, low: tuple[float, float], size: tuple[float, float]
) -> None:
    roi = torch.tensor([[*low, low[0] + size[0], low[1] + size[1]]])
    steps = (torch.arange(14) + 0.5) / 14
    n = int(168 / stride_px)
    for axis in (0, 1):
        cells = pool_rois(ramp(n, stride_px, axis), [roi], stride_px, 14)[0, 0]
        expected = low[axis] + steps * size[axis]
        expected = expected[:, None] if axis == 0 else expected[None, :]
        torch.testing.assert_close(cells, expected.expand(14, 14), atol=1e-2, rtol=0)


def test_coordinates_stay_exact_beside_half_precision_features() -> None:
    # cell numbers up to 128 are exact in bfloat16, the coordinates 301.3… are not
    numbers = torch.arange(128.0).expand(1, 1, 128, 128).to(torch.bfloat16)
    roi = torch.tensor([[100.0, 301.3, 130.0, 333.7]])
    cells = pool_rois(numbers, [roi], 3.5, 8)[0, 0, 0]
    expected = (301.3 + (torch.arange(8) + 0.5) / 8 * 32.4) / 3.5 - 0.5
    torch.testing.assert_close(cells, expected, atol=1e-3, rtol=0)


@given(st.integers(0, 10_000), st.sampled_from([2.0, 3.5]), st.sampled_from([4, 7]))
def test_products_give_what_roi_align_gives(seed: int, stride_px: float, size: int) -> None:
    torch.manual_seed(seed)
    maps = torch.randn(2, 3, 12, 17, requires_grad=True)
    low = (torch.rand(5, 2) - 0.2) * 50
    rois = [torch.cat([low, low + torch.rand(5, 2) * 40 + 0.5], 1), torch.zeros(0, 4)]
    weights = torch.randn(5, 3, size, size)
    pooled = pool_by_products(maps, rois, stride_px, size)
    (gradient,) = torch.autograd.grad((pooled * weights).sum(), maps)
    with torch.no_grad():
        torch.testing.assert_close(pooled, pool_rois(maps, rois, stride_px, size))
    xyxy = [r[:, [1, 0, 3, 2]] for r in rois]
    aligned = roi_align(maps, xyxy, size, 1 / stride_px, sampling_ratio=2, aligned=True)
    (expected,) = torch.autograd.grad((aligned * weights).sum(), maps)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-4)


@given(st.data())
def test_mask_targets_against_single_samples(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    height, width, m = 20, 24, 4
    labels = rng.integers(-1, 3, (5, 6)).repeat(4, 0).repeat(4, 1)
    start, extent = rng.uniform(-12, 24, 2), rng.uniform(1, 30, 2)
    roi = np.array([*start, *(start + extent)], np.float32)
    got = mask_targets(torch.from_numpy(labels), torch.from_numpy(roi)[None], torch.tensor([1]), m)[
        0
    ]
    step = (roi[2:] - roi[:2]) / np.float32(2 * m)
    for i in range(m):
        for j in range(m):
            hits = 0
            for a in (2 * i + 0.5, 2 * i + 1.5):
                for b in (2 * j + 0.5, 2 * j + 1.5):
                    y, x = roi[0] + a * step[0], roi[1] + b * step[1]
                    if 0 <= y < height and 0 <= x < width:
                        hits += labels[int(y), int(x)] == 1
            assert float(got[i, j]) == hits / 4


def test_mask_targets_of_no_rois() -> None:
    empty = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    assert mask_targets(torch.zeros(8, 8, dtype=torch.int64), *empty, 28).shape == (0, 28, 28)


def test_iou_targets_count_what_lies_outside_the_roi() -> None:
    # RoI of 8×8 px in 4×4 cells of 4 px²: predicted left half, truth top half
    roi = torch.tensor([[0.0, 0, 8, 8]])
    predicted = torch.full((1, 4, 4), -1.0)
    predicted[:, :, :2] = 1.0
    truth = torch.zeros(1, 4, 4)
    truth[:, :2] = 1.0
    inside = iou_targets(predicted, truth, roi, torch.tensor([32.0]))
    assert float(inside) == pytest.approx(16 / (32 + 32 - 16))
    beyond = iou_targets(predicted, truth, roi, torch.tensor([50.0]))
    assert float(beyond) == pytest.approx(16 / (32 + 50 - 16))
    same = iou_targets(truth * 2 - 1, truth, roi, torch.tensor([32.0]))
    assert float(same) == pytest.approx(1.0)
    assert float(iou_targets(-predicted.abs(), truth, roi, torch.tensor([32.0]))) == 0


def head() -> MaskHead:
    torch.manual_seed(0)
    return MaskHead(c_in=6, width=8, n_convs=1, mask_px=16)


def test_attention_weighs_each_cell_by_its_mean_and_maximum() -> None:
    network = head()
    pooled, detail = torch.randn(2, 6, 8, 8), torch.randn(2, 16, 16, 16)
    seen: list[torch.Tensor] = []
    network.up.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network.attention.weight.zero_()
        network(pooled, detail)
        # only the middle tap of the maximum: σ(max) of the cell itself
        network.attention.weight[0, 1, 1, 1] = 1.0
        network(pooled, detail)
    features = network.convs(pooled)
    torch.testing.assert_close(seen[0], features * 0.5)
    torch.testing.assert_close(seen[1], features * features.amax(1, keepdim=True).sigmoid())


def test_masks_use_features_contours_and_attention() -> None:
    network = head()
    pyramid = Pyramid(torch.randn(2, 48, 28, 28), torch.randn(2, 6, 16, 16), (torch.zeros(0),) * 3)
    rois = [torch.tensor([[4.0, 4, 40, 44], [10, 2, 30, 20]]), torch.tensor([[0.0, 0, 56, 56]])]
    logits = network(
        network.pool_fine(pyramid.fine, rois),
        network.pool_detail(network.detail(pyramid.detail), rois),
    )
    assert logits.shape == (3, 16, 16)
    (logits * torch.randn_like(logits)).sum().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("mask_px", [12, 16, 20, 28])
def test_mask_iou_fits_any_mask_size(mask_px: int) -> None:
    torch.manual_seed(0)
    network = MaskIoUHead(6, 8, mask_px, 16, n_classes=3)
    iou = network(torch.randn(2, 6, mask_px // 2, mask_px // 2), torch.randn(2, mask_px, mask_px))
    assert iou.shape == (2, 3)
    (iou * torch.randn_like(iou)).sum().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_mask_loss_prefers_the_truth() -> None:
    truth = torch.zeros(2, 8, 8)
    truth[:, 2:6, 2:6] = 1
    right, wrong = 30 * (truth - 0.5), -30 * (truth - 0.5)
    assert mask_loss(right, truth).tolist() == pytest.approx([0, 0], abs=1e-4)
    assert (mask_loss(wrong, truth) > 10).all()
    none = torch.zeros(0, 8, 8, requires_grad=True)
    mask_loss(none, torch.zeros(0, 8, 8)).sum().backward()
