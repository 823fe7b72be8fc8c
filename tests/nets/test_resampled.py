"""Resampling: linear in between, untouched where positions are the cells, aligned throughout."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dinomask.nets.families import create_network, find_family
from dinomask.nets.resampled import ResampledBackbone, resample_axis


@given(
    st.integers(2, 9),
    st.floats(-1, 2),
    st.floats(0.25, 2),
    st.integers(1, 12),
    st.sampled_from([-2, -1]),
)
def test_a_ramp_gives_the_positions(
    size: int, first: float, step: float, n: int, axis: int
) -> None:
    ramp = torch.arange(float(size)).expand(1, 2, 3, size)
    ramp = ramp if axis == -1 else ramp.mT
    values = resample_axis(ramp, axis, first, step, n)
    expected = (first + torch.arange(n) * step).clamp(0, size - 1)
    assert values.shape[axis] == n
    other = -1 if axis == -2 else -2
    for row in values[0, 0].unbind(other):
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)


def test_cells_that_lie_on_the_grid_are_not_touched() -> None:
    features = torch.rand(1, 2, 4, 6)
    assert torch.equal(resample_axis(features, -1, 0.0, 1.0, 5), features[..., :5])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto"])
@pytest.mark.parametrize("size_px", [(14, 14), (42, 70)], ids=str)
def test_the_enlarged_image_needs_no_other_resampling(name: str, size_px: tuple[int, int]) -> None:
    family = find_family(name)
    assert family is not None
    torch.manual_seed(0)
    backbone = ResampledBackbone(create_network(name, family)).eval()
    images = torch.rand(1, 3, *size_px)
    enlarged = [side * 16 // 14 for side in size_px]
    with torch.no_grad():
        inside = backbone._prepare(images)
        maps = backbone(images)
    # padded to whole cells of the coarsest stride, below and at the right
    plain = torch.nn.functional.interpolate(images, size=enlarged, mode="bilinear")
    assert torch.equal(inside[..., : enlarged[0], : enlarged[1]], plain)
    coarsest = max(backbone.network_strides_px)
    assert all(side % coarsest == 0 for side in inside.shape[-2:])
    assert maps[0].shape[-2:] == tuple(s // backbone.network_strides_px[0] for s in enlarged)


def test_batch_statistics_move_only_with_the_weights() -> None:
    family = find_family("resnet18")
    assert family is not None
    torch.manual_seed(0)
    network = create_network("resnet18", family, layers=(1, 1, 1, 1), channels=(8, 8, 8, 8))
    backbone = ResampledBackbone(network, centred=False)
    mean = backbone.get_buffer("network.bn1.running_mean")
    images = torch.rand(2, 3, 28, 28) + 1
    backbone.eval()(images)
    assert not mean.any()
    backbone.requires_grad_(False).train()(images)
    assert not mean.any()
    backbone.requires_grad_(True).train()(images)
    assert mean.any()
