"""Shared weights are one in memory and in files, until something has to tell them apart."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dinomask.config import LoraSettings, ModelConfig, NetworkShape
from dinomask.errors import ModelError, SettingsError
from dinomask.nets.centermask import CenterMask
from dinomask.nets.lora import attach
from dinomask.nets.reshape import tie_blocks, untie, with_shared, without_shared
from dinomask.nets.zoo import load_model, read_manifest
from tests.compress.small import CONFIG, compressible_model, save_model

SHARED = dataclasses.replace(
    CONFIG, shape=dataclasses.replace(CONFIG.shape, shared=((1, 0), (3, 2)))
)


def n_parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


def test_shared_weights_are_counted_and_stored_once(tmp_path):
    plain, shared = compressible_model(), compressible_model(SHARED)
    block = sum(p.numel() for n, p in plain.named_parameters() if ".blocks.1." in n)
    assert n_parameters(plain) - n_parameters(shared) > 1.8 * block
    save_model(tmp_path / "plain", plain)
    save_model(tmp_path / "shared", shared)
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("plain", "shared")]
    assert sizes[0] - sizes[1] > 2 * 1.8 * block
    model, manifest = load_model(str(tmp_path / "shared"))
    assert manifest.architecture == SHARED
    own, other = (b.attn.qkv.weight for b in model.backbone.vit.blocks[:2])
    assert own is other
    for name, value in shared.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=1e-3, rtol=1e-3)


def test_storing_once_has_an_inverse():
    state = compressible_model(SHARED).state_dict()
    once = without_shared(state, SHARED.shape)
    assert len(once) < len(state)
    full = with_shared(once, state, SHARED.shape)
    assert full.keys() == state.keys()
    assert all(torch.equal(full[name], state[name]) for name in state)


def test_what_learns_a_block_at_a_time_unties_it(tmp_path):
    model = compressible_model(SHARED)
    tile = torch.rand(1, 3, 56, 56)
    with torch.no_grad():
        before = model.features(tile).fine
    adapter = attach(model, LoraSettings(rank=2, blocks=(0, 1)))
    assert model.config.shape.shared == ()
    with torch.no_grad():
        torch.testing.assert_close(model.features(tile).fine, before)
        for name, weight in model.named_parameters():
            if ".blocks.1." in name and ".lora_B" in name:
                weight.normal_()
    merged = adapter.merge()
    own, other = (b.attn.qkv.weight for b in merged.backbone.vit.blocks[:2])
    assert not torch.equal(own, other)
    # saved without sharing, as its architecture says now
    folder = tmp_path / "merged"
    save_model(folder, merged)
    assert read_manifest(folder).architecture.shape.shared == ()
    assert not untie(merged)


def test_blocks_that_differ_cannot_share():
    config = dataclasses.replace(CONFIG, shape=NetworkShape(heads=(1, 2, 3, 3)))
    with pytest.raises(ModelError, match="the same shapes"):
        tie_blocks(CenterMask(config), {1: 0})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": (0, 1)}, "at least one of heads"),
        ({"heads": (1,), "hidden": (8, 8)}, "as many blocks"),
        ({"shared": ((0, 1),)}, "earlier block"),
        ({"shared": ((1, 0), (2, 1))}, "earlier block"),
        ({"low_rank": (("a", 0),)}, "ranks of at least 1"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(SettingsError, match=message):
        NetworkShape(**fields)


def test_shapes_come_back_from_manifests_and_old_ones_have_none():
    shape = NetworkShape(heads=(1, 2), hidden=(8, 16), low_rank=(("a.b", 3),), fused=True)
    raw = dataclasses.asdict(ModelConfig(shape=shape))
    raw["shape"] = {k: list(v) if isinstance(v, tuple) else v for k, v in raw["shape"].items()}
    assert ModelConfig(**raw) == ModelConfig(shape=shape)
    raw.pop("shape")
    assert ModelConfig(**raw).shape is None
    assert ModelConfig(shape=NetworkShape()).shape is None
