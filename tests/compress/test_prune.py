"""What is removed is gone, what matters stays, and what is left does the others' work."""

from __future__ import annotations

import pytest
import torch

from dinomask.compress.prune import (
    blocks_of,
    choose_kept,
    keep_heads,
    keep_hidden,
)
from dinomask.compress.prune_blocks import feature_indices, without_block
from dinomask.compress.statistics import InputStats, measure_inputs, outputs_of, refit
from dinomask.config import BlockPruneSettings, HeadPruneSettings, MlpPruneSettings, NetworkShape
from dinomask.errors import ModelError, SettingsError
from dinomask.nets.centermask import CenterMask
from tests.compress.small import CONFIG, DEPTH, compressible_model


@pytest.fixture
def model():
    return compressible_model()


@pytest.fixture
def tiles():
    return torch.rand(3, 3, 56, 56, generator=torch.Generator().manual_seed(1))


def stats_of(inputs: torch.Tensor) -> InputStats:
    stats = InputStats.empty(inputs.shape[-1])
    stats.see(inputs)
    return stats


def test_a_head_that_does_nothing_is_removed_without_a_trace(model, tiles):
    attn = blocks_of(model)[1].attn
    with torch.no_grad():
        attn.proj.weight[:, 64:128] = 0
    before = outputs_of(model, tiles)
    paths = [f"backbone.{p}.attn.proj" for p in model.backbone.block_paths]
    stats = measure_inputs(model, paths, tiles, lambda *_: None, groups=64)
    scores = [stats[path].importance[::64] for path in paths]
    assert int(torch.stack(scores).argmin()) == 1 * 3 + 1
    keep_heads(attn, torch.tensor([0, 2]))
    assert attn.num_heads == 2 and attn.qkv.out_features == 3 * 128
    for own, other in zip(outputs_of(model, tiles), before, strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


def test_hidden_units_that_repeat_others_are_taken_over_by_them(model, tiles):
    mlp = blocks_of(model)[2].mlp
    with torch.no_grad():
        mlp.fc1.weight[64:] = mlp.fc1.weight[:64]
        mlp.fc1.bias[64:] = mlp.fc1.bias[:64]
    before = outputs_of(model, tiles)
    path = f"backbone.{model.backbone.block_paths[2]}.mlp.fc2"
    stats = measure_inputs(model, [path], tiles, lambda *_: None)[path]
    keep_hidden(mlp, torch.arange(64), stats)
    assert mlp.fc1.out_features == 64
    for own, other in zip(outputs_of(model, tiles), before, strict=True):
        torch.testing.assert_close(own, other, atol=2e-2, rtol=2e-2)


def test_fitting_anew_comes_closer_than_cutting():
    chance = torch.Generator().manual_seed(0)
    # twelve inputs that vary in nine directions, so that eight can tell of the others
    mixing = torch.randn(9, 12, generator=chance)
    inputs = torch.randn(500, 9, generator=chance) @ mixing + 1
    weight, bias = torch.randn(5, 12, generator=chance), torch.randn(5, generator=chance)
    kept = torch.arange(8)
    truth = inputs @ weight.T + bias
    new_weight, new_bias = refit(weight, bias, kept, stats_of(inputs))
    fitted = inputs[:, kept] @ new_weight.T + new_bias
    cut = inputs[:, kept] @ weight[:, kept].T + bias
    assert (fitted - truth).square().mean() < 0.5 * (cut - truth).square().mean()
    torch.testing.assert_close(fitted.mean(0), truth.mean(0), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("group", [1, 4])
def test_as_many_stay_as_were_asked_for_and_some_in_each_block(ratio, group):
    chance = torch.Generator().manual_seed(0)
    scores = [torch.rand(32, generator=chance) * factor for factor in (1, 10, 0.001)]
    kept = choose_kept(scores, ratio, group)
    assert all(len(rows) >= group and len(rows) % group == 0 for rows in kept)
    assert abs(sum(map(len, kept)) - (1 - ratio) * 96) <= 3 * group + 1
    assert all(bool((rows.diff() > 0).all()) for rows in kept)


def test_a_block_that_adds_nothing_is_dropped_without_a_trace(model, tiles):
    block = blocks_of(model)[2]
    with torch.no_grad():
        for layer in (block.attn.proj, block.mlp.fc2):
            layer.weight.zero_()
            layer.bias.zero_()
    smaller = without_block(model, 2)
    assert len(blocks_of(smaller)) == DEPTH - 1 and feature_indices(smaller) == [1, 2]
    for own, other in zip(outputs_of(smaller, tiles), outputs_of(model, tiles), strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("ratio", [-0.1, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("settings", [HeadPruneSettings, MlpPruneSettings, BlockPruneSettings])
def test_ratios_out_of_range_are_refused(settings, ratio):
    with pytest.raises(SettingsError, match="between 0 and 1"):
        settings(ratio=ratio)


def test_a_shape_that_a_network_cannot_have_is_refused():
    shape = NetworkShape(heads=(3,) * 13, hidden=(128,) * 13)
    with pytest.raises(ModelError, match="at least 13 blocks"):
        CenterMask(CONFIG.__class__(shape=shape))
    shape = NetworkShape(heads=(1, 1), hidden=(8, 8))
    with pytest.raises(ModelError, match="plain transformer"):
        CenterMask(CONFIG.__class__(backbone="mobilenetv4_conv_small_050", shape=shape))
