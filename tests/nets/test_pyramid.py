"""Pyramid: cells lie exactly where their strides say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dinomask.nets.detection import grid_locations
from dinomask.nets.pyramid import (
    DETAIL_STRIDE_PX,
    FINE_STRIDE_PX,
    LEVEL_STRIDES_PX,
    FeaturePyramid,
    Pyramid,
)

STRIDES_PX = (DETAIL_STRIDE_PX, FINE_STRIDE_PX, *LEVEL_STRIDES_PX)


def pyramid_of(images: torch.Tensor, seed: int = 0) -> Pyramid:
    """A random pyramid whose backbone sees the mean colour of each patch."""
    torch.manual_seed(seed)
    network = FeaturePyramid([3], [14.0], width=8, detail_width=8)
    with torch.no_grad():
        return network(images, [torch.nn.functional.avg_pool2d(images, 14)])


def maps_of(pyramid: Pyramid) -> tuple[torch.Tensor, ...]:
    return (pyramid.detail, pyramid.fine, *pyramid.levels)


@settings(max_examples=15)
@given(st.integers(2, 9), st.integers(2, 9))
def test_sizes_for_any_multiple_of_14(rows: int, cols: int) -> None:
    maps = maps_of(pyramid_of(torch.rand(1, 3, 14 * rows, 14 * cols)))
    for stride, level in zip(STRIDES_PX, maps, strict=True):
        assert level.shape[-2:] == (int(14 * rows / stride), int(14 * cols / stride))
        assert torch.isfinite(level).all()


@pytest.mark.parametrize("point_yx", [(70, 70), (77, 133), (128, 90)])
def test_an_impulse_peaks_in_the_cell_that_holds_it(point_yx: tuple[int, int]) -> None:
    size = 14 * 15
    blank = torch.zeros(1, 3, size, size)
    spot = blank.clone()
    y, x = point_yx
    spot[:, :, y - 1 : y + 2, x - 1 : x + 2] = 3.0
    # one random network leans to a side; the sum of many shows where cells are
    energy = [0.0] * len(STRIDES_PX)
    for seed in range(12):
        pairs = zip(maps_of(pyramid_of(spot, seed)), maps_of(pyramid_of(blank, seed)), strict=True)
        energy = [e + (a - b).square().sum(1)[0] for e, (a, b) in zip(energy, pairs, strict=True)]
    for stride, level in zip(STRIDES_PX, energy, strict=True):
        cells = grid_locations(*level.shape, stride, level.device)
        centroid = (cells * level.flatten()[:, None]).sum(0) / level.sum()
        offset = (centroid - torch.tensor([y + 0.5, x + 0.5])).abs().max()
        assert offset < 0.5 * stride, (stride, centroid)


def test_a_shift_of_the_image_shifts_every_level_exactly() -> None:
    torch.manual_seed(3)
    scene = torch.rand(1, 3, 280 + 28, 280 + 56)
    here = maps_of(pyramid_of(scene[:, :, :280, :280]))
    there = maps_of(pyramid_of(scene[:, :, 28:, 56:]))
    for stride, a, b in zip(STRIDES_PX, here, there, strict=True):
        dy, dx = int(28 / stride), int(56 / stride)
        edge = int(84 / stride)  # beyond the reach of the border
        n_y, n_x = a.shape[-2] - dy, a.shape[-1] - dx
        torch.testing.assert_close(
            a[..., dy + edge : dy + n_y - edge, dx + edge : dx + n_x - edge],
            b[..., edge : n_y - edge, edge : n_x - edge],
            atol=2e-5,
            rtol=1e-4,
        )


def test_every_parameter_has_a_gradient() -> None:
    torch.manual_seed(0)
    network = FeaturePyramid([4, 4], [14.0, 14.0], width=8, detail_width=8)
    out = network(torch.rand(1, 3, 56, 56), [torch.rand(1, 4, 4, 4) for _ in range(2)])
    sum((m * torch.randn_like(m)).sum() for m in maps_of(out)).backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_without_the_stem_the_levels_show_what_the_backbone_says_alone() -> None:
    torch.manual_seed(1)
    network = FeaturePyramid([3], [14.0], width=8, detail_width=8)
    one, other = torch.rand(2, 3, 56, 56), torch.rand(2, 3, 56, 56)
    maps = [torch.rand(2, 3, 4, 4)]
    kept = torch.tensor([0.0, 1.0])
    with torch.no_grad():
        a, b, whole = network(one, maps, kept), network(other, maps, kept), network(one, maps)
    for level_a, level_b, level in zip(a.levels, b.levels, whole.levels, strict=True):
        assert torch.equal(level_a[0], level_b[0])
        assert not torch.allclose(level_a[1], level_b[1])
        torch.testing.assert_close(level_a[1], level[1])
        assert not torch.allclose(level_a[0], level[0])
    # contours are drawn from pixels all the same
    assert torch.equal(a.detail, whole.detail)
    assert not torch.allclose(a.fine[0], b.fine[0])
