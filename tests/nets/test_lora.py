"""LoRA adapters: they change what they should, and come off without a trace."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from timm.layers import SwiGLU
from timm.models.vision_transformer import VisionTransformer

from dinomask.config import DetectConfig, LoraSettings, ModelConfig
from dinomask.errors import SettingsError
from dinomask.nets.backbone import dinov2_names
from dinomask.nets.centermask import CenterMask
from dinomask.nets.features import ViTBackbone
from dinomask.nets.lora import attach, lora_layers
from dinomask.nets.lora_targets import target_pattern
from tests.nets.small import small_config, small_model
from tests.nets.taught import output, taught, teach

if TYPE_CHECKING:
    from torch import Tensor


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    return torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))


def test_a_fresh_adapter_changes_nothing(tiles: Tensor) -> None:
    model = small_model()
    before = output(model, tiles)
    attach(model)
    assert torch.equal(output(model, tiles), before)


def test_the_late_half_is_adapted_by_default() -> None:
    model = small_model()  # four blocks
    adapter = attach(model)
    assert adapter.settings.blocks == (2, 3)
    expected = {
        f"backbone.vit.blocks.{b}.{layer}"
        for b in (2, 3)
        for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    }
    assert {name for name, _ in lora_layers(model)} == expected


def test_only_what_is_chosen_learns() -> None:
    model = small_model()
    settings = LoraSettings(blocks=(1,), targets=("qkv", "fc2"), heads=False)
    adapter = attach(model, settings)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    teach(model)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {
        f"backbone.vit.blocks.1.{layer}.lora_{matrix}.default.weight"
        for layer in ("attn.qkv", "mlp.fc2")
        for matrix in "AB"
    }
    assert len(adapter.lora_parameters()) == 4
    assert adapter.head_parameters() == []


def test_heads_learn_beside_the_matrices() -> None:
    model, adapter = taught()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert all(n.startswith("backbone.") for n in frozen)
    heads = sum(1 for n, _ in small_model().named_parameters() if not n.startswith("backbone."))
    assert len(adapter.head_parameters()) == heads
    assert {name.split(".")[0] for name in adapter.state()} == {"lora", "head"}


def test_disabled_is_exactly_the_base_and_enabled_exactly_the_adapter(tiles: Tensor) -> None:
    base = output(small_model(), tiles)
    model, adapter = taught()
    learned = output(model, tiles)
    assert (learned - base).abs().max() > 0.05
    with adapter.disabled():
        assert torch.equal(output(model, tiles), base)
        assert not adapter.enabled
    assert adapter.enabled
    assert torch.equal(output(model, tiles), learned)
    adapter.disable()
    state = adapter.state()
    with adapter.disabled():
        pass
    assert not adapter.enabled, "stays as it was before"
    adapter.enable()
    assert all(torch.equal(state[name], value) for name, value in adapter.state().items())


def test_learning_goes_on_after_a_look_at_the_base() -> None:
    model, adapter = taught()
    before = {n: v.clone() for n, v in adapter.state().items()}
    with adapter.disabled():
        pass
    teach(model)
    assert all(not torch.equal(before[n], v) for n, v in adapter.state().items() if "lora_" in n)


def test_merged_is_unmerged_and_plain(tiles: Tensor) -> None:
    model, adapter = taught()
    learned = output(model, tiles)
    merged = adapter.merge()
    assert merged.state_dict().keys() == small_model().state_dict().keys()
    assert all(p.requires_grad for p in merged.parameters())
    assert not list(lora_layers(merged))
    torch.testing.assert_close(output(merged, tiles), learned, atol=1e-4, rtol=1e-4)
    plain = small_model(seed=5)
    plain.load_state_dict(merged.state_dict())
    assert torch.equal(output(plain, tiles), output(merged, tiles))


def test_merging_a_disabled_adapter_merges_what_was_learned(tiles: Tensor) -> None:
    model, adapter = taught()
    learned = output(model, tiles)
    adapter.disable()
    torch.testing.assert_close(output(adapter.merge(), tiles), learned, atol=1e-4, rtol=1e-4)


def test_detached_is_the_base(tiles: Tensor) -> None:
    model, adapter = taught()
    adapter.detach()
    base = small_model()
    assert all(torch.equal(v, base.state_dict()[k]) for k, v in model.state_dict().items())
    attach(model)  # and can be adapted again


def test_ranks_of_single_blocks_keep_the_scale() -> None:
    model = small_model()
    attach(model, LoraSettings(rank=4, alpha=12.0, blocks=(0, 1, 3), block_ranks=((3, 16),)))
    for name, layer in lora_layers(model):
        rank = 16 if ".blocks.3." in name else 4
        assert layer.r["default"] == rank
        assert layer.scaling["default"] == pytest.approx(3.0)
        assert layer.lora_A["default"].weight.shape[0] == rank


def test_names_alike_elsewhere_are_not_adapted() -> None:
    pattern = target_pattern(
        LoraSettings(blocks=(1, 11)), [f"backbone.vit.blocks.{i}" for i in range(12)]
    )
    for name in ("1.attn.qkv", "11.attn.proj", "1.mlp.fc1", "11.mlp.fc1_g", "1.mlp.fc1_x"):
        assert re.fullmatch(pattern, f"backbone.vit.blocks.{name}")
    for name in (
        "backbone.vit.patch_embed.proj",
        "backbone.vit.blocks.2.attn.qkv",
        "backbone.vit.blocks.111.attn.qkv",
        "backbone.vit.blocks.1.attn.qkv_extra",
        "mask.blocks.1.attn.qkv",
        "mask_iou.fc1",
    ):
        assert not re.fullmatch(pattern, name)


def _raise_layer_scale(vit: VisionTransformer) -> None:
    """Published arrangements start at 1e-5, which would hide any change in a block."""
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if name.endswith(".gamma"):
                parameter.fill_(0.5)


@pytest.mark.parametrize("name", [n for n in dinov2_names() if n.startswith("vit_")])
def test_published_arrangements_can_be_adapted(name: str, tiles: Tensor) -> None:
    # the published layers, in a width that a test can compute
    vit = timm.create_model(
        name, embed_dim=32, depth=4, num_heads=2, img_size=56, dynamic_img_size=True
    )
    _raise_layer_scale(vit)
    torch.manual_seed(0)
    model = CenterMask(small_config(), ViTBackbone(vit))
    before = output(model, tiles)
    adapter = attach(model)
    assert len(list(lora_layers(model))) == 8
    with torch.no_grad():
        for parameter in adapter.lora_parameters():
            parameter.normal_(std=0.1)
    learned = output(model, tiles)
    assert (learned - before).abs().max() > 1e-3
    torch.testing.assert_close(output(adapter.merge(), tiles), learned, atol=1e-4, rtol=1e-3)


def test_a_split_gate_is_adapted() -> None:
    vit = VisionTransformer(
        img_size=28, patch_size=14, embed_dim=16, depth=2, num_heads=2, num_classes=0,
        init_values=0.3, mlp_layer=SwiGLU, dynamic_img_size=True,
    )  # fmt: skip
    model = CenterMask(small_config(), ViTBackbone(vit))
    attach(model, LoraSettings(targets=("fc1", "fc2")))
    layers = {name.rpartition(".")[2] for name, _ in lora_layers(model)}
    assert layers == {"fc1_g", "fc1_x", "fc2"}


@pytest.mark.parametrize("blocks", [(4,), (-1,), (0, 99)])
def test_blocks_that_do_not_exist(blocks: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match="blocks from 0 to 3"):
        attach(small_model(), LoraSettings(blocks=blocks))


def test_one_adapter_at_a_time() -> None:
    model = small_model()
    attach(model)
    with pytest.raises(SettingsError, match="without an adapter"):
        attach(model)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0},
        {"alpha": 0.0},
        {"dropout": 1.0},
        {"targets": ()},
        {"targets": ("qkv", "norm1")},
        {"blocks": ()},
        {"block_ranks": ((1, 0),)},
        {"block_ranks": ((1, 4), (1, 8))},
        {"blocks": (2, 3), "block_ranks": ((1, 4),)},
    ],
)
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        LoraSettings(**wrong)


def test_heads_that_did_not_change_are_not_stored() -> None:
    model = small_model()
    adapter = attach(model)
    with torch.no_grad():
        model.detector.scales += 1
    heads = {name for name in adapter.state() if name.startswith("head.")}
    assert heads == {"head.detector.scales"}


def test_the_whole_of_tiny_with_the_default_settings() -> None:
    model = CenterMask(ModelConfig())
    adapter = attach(model, LoraSettings(heads=False))
    # r·(in + out) of qkv, proj, fc1 and fc2 in six blocks of width 192
    linear = [(192, 576), (192, 192), (192, 768), (768, 192)]
    assert sum(p.numel() for p in adapter.lora_parameters()) == 6 * sum(8 * sum(x) for x in linear)
    share = sum(p.numel() for p in adapter.lora_parameters()) / sum(
        p.numel() for p in model.parameters()
    )
    assert share < 0.05
    found = model.eval().detect(torch.rand(1, 3, 56, 56), DetectConfig(), 0.5)
    assert len(found) == 1
