"""Narrower heads: what repeats other channels goes without a trace."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dinomask.compress.channel_groups import channel_groups
from dinomask.compress.channels import measure_channels, narrow, narrowed, regression
from dinomask.compress.statistics import InputStats
from dinomask.nets.centermask import CenterMask
from dinomask.nets.growing import grow_stem
from tests.compress.small import CONFIG, compressible_model


@pytest.fixture
def model():
    return compressible_model()


@pytest.mark.parametrize("stem_blocks", [(1, 1, 1), (2, 1, 12)])
def test_every_channel_of_the_heads_is_in_one_group(model, stem_blocks):
    model = grow_stem(model, stem_blocks)
    groups = channel_groups(model)
    # what is kept is looked up by them
    assert len({group.name for group in groups}) == len(groups)
    wide = {"pyramid_width": 32, "detail_width": 24, "mask_width": 40, "iou_width": 48}
    other = CenterMask(dataclasses.replace(model.config, **wide)).state_dict()
    changed = {
        name.rpartition(".")[0]
        for name, value in model.state_dict().items()
        if other[name].shape != value.shape
    }
    named = {p for group in groups for p in (*group.writers, *group.norms, *group.readers)}
    assert changed <= named
    # layers that write two groups would be cut twice
    writers = [path for group in groups for path in group.writers]
    readers = [path for group in groups for path in group.readers]
    assert len(set(writers)) == len(writers) and len(set(readers)) == len(readers)


def test_channels_that_nobody_reads_go_without_a_trace(model):
    groups = channel_groups(model)
    other = CenterMask(dataclasses.replace(CONFIG, mask_width=8, iou_width=16)).eval()
    kept = {}
    with torch.no_grad():
        for group in groups:
            n, left = group.width(CONFIG), group.width(other.config)
            kept[group.name] = torch.arange(left)
            for path in group.readers if left < n else ():
                weight = model.get_submodule(path).weight
                by_input = weight if path == "mask.up" else weight.transpose(0, 1)
                cells = len(by_input) // n if path == "mask_iou.hidden.0" else 1
                by_input[left * cells : n * cells] = 0
        # spatial attention reads the mean over all channels
        model.mask.attention.weight.zero_()
    narrow(model, other, groups, kept, {})
    tile = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    boxes = [torch.tensor([[10.0, 10, 60, 50], [30, 40, 90, 100]])]
    with torch.no_grad():
        pair = zip(
            model.masks(model.features(tile), boxes),
            other.masks(other.features(tile), boxes),
            strict=True,
        )
        for before, after in pair:
            torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_readers_see_their_own_channels_alone(model):
    groups = channel_groups(model)
    paths = [path for group in groups for path in group.readers]
    tiles = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    stats = measure_channels(model, paths, tiles, lambda *_: None)
    for group in groups:
        for path in group.readers:
            assert len(stats[path].mean) == group.width(CONFIG) and stats[path].count


def test_regression_tells_channels_from_those_that_they_are_made_of():
    left = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    inputs = torch.cat([left, left[:, :2] * 2 + 3], dim=1)
    stats = InputStats.empty(6)
    stats.see(inputs)
    spread, offset = regression(stats, torch.arange(4))
    found = left.double() @ spread.T + offset
    torch.testing.assert_close(found, inputs.double(), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize(("width", "ratio", "left"), [(96, 0.25, 72), (64, 0.9, 8), (96, 0.5, 48)])
def test_widths_that_are_left_suit_kernels(width, ratio, left):
    assert narrowed(width, ratio) == left
