"""Costs of layers: the parts add up to the whole, and to what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dinomask.compress.analysis import N_ROIS, analyse, count_macs, count_parameters
from dinomask.config import SegmentConfig
from dinomask.run.predictor import Predictor

TILE = np.random.default_rng(0).random((3, 112, 112)).astype(np.float32)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(SegmentConfig(threads=1, precision="fp32"))


def test_parts_add_up_to_the_whole(predictor: Predictor) -> None:
    found = analyse(predictor, TILE, repeats=2)
    for field in ("parameters", "macs", "seconds", "activation_mb"):
        layers = sum(getattr(layer, field) for layer in found.layers)
        for depth in (1, 2):
            groups = sum(getattr(group, field) for group in found.groups(depth))
            assert groups == pytest.approx(layers)
        assert layers > 0
    assert sum(layer.parameters for layer in found.layers) == count_parameters(predictor)
    assert sum(layer.macs for layer in found.layers) == count_macs(predictor, TILE)
    assert found.n_rois == N_ROIS


def test_a_layer_by_hand(predictor: Predictor) -> None:
    layers = {layer.name: layer for layer in analyse(predictor, TILE, repeats=1).layers}
    fc1 = layers["backbone.vit.blocks.0.mlp.fc1"]
    # 64 patches, a class token and 4 registers; 192 in, 768 out
    tokens, inside, outside = 64 + 5, 192, 768
    assert fc1.macs == tokens * inside * outside
    assert fc1.parameters == inside * outside + outside
    assert fc1.activation_mb == pytest.approx(tokens * outside * 4 / 1e6)
    assert fc1.calls == 1
    # queries by keys, and weights by values
    assert layers["backbone.vit.blocks.0.attn"].macs == 2 * tokens**2 * inside


def test_watching_leaves_nothing_behind(predictor: Predictor) -> None:
    analyse(predictor, TILE, repeats=1)
    for module in predictor.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
