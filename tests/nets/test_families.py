"""Families: names lead to the right one, options to where they work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed

from dinomask.config import ModelConfig
from dinomask.errors import ModelError, SettingsError
from dinomask.nets.backbone import adapt_network, backbone_of, create_backbone
from dinomask.nets.backbone_files import load_backbone_weights
from dinomask.nets.families import FAMILIES, create_network, find_family
from dinomask.nets.features import ViTBackbone
from dinomask.nets.resampled import ResampledBackbone

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"embed_dim": 48, "depth": 4, "num_heads": 3}


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("vit_giant_patch14_reg4_dinov2", "DINOv2"),
        ("vit_small_patch14_dinov2.lvd142m", "DINOv2"),
        ("vit_base_patch16_224", "ViT"),
        ("vit_base_patch16_224.dino", "ViT"),
        ("vit_base_patch16_224.mae", "MAE"),
        ("vit_large_patch14_clip_336.openai", "CLIP"),
        ("samvit_huge_patch16.sa1b", "SAM"),
        ("swin_base_patch4_window7_224", "Swin "),
        ("swinv2_tiny_window16_256", "Swin V2"),
        ("convnext_large", "ConvNeXt"),
        ("convnextv2_nano", "ConvNeXt"),
        ("resnet152.a1_in1k", "ResNet"),
        ("mobilenetv3_large_100", "MobileNetV3"),
        ("mobilenetv4_hybrid_medium", "MobileNetV4"),
        ("efficientnet_b4", "EfficientNet"),
    ],
)
def test_a_name_belongs_to_one_family(name: str, title: str) -> None:
    family = find_family(name)
    assert family is not None
    assert family.title.startswith(title)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "resnet51",
        "vit_base_patch16_224.nonsense",
        "vit_base_patch16_dinov3",
        "convnext_atto_ols",
        "mobilenetv4_conv_blur_medium",
        "tf_efficientnet_b0",
        "resnet18 ",
    ],
)
def test_others_are_refused_with_names_that_work(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        create_backbone(name)
    for family in FAMILIES:
        assert family.example in caught.value.remedy


def test_a_slip_of_the_pen_is_answered_with_the_name() -> None:
    with pytest.raises(ModelError, match="convnext_tiny"):
        create_backbone("convnext_tinny")


def test_hub_weights_that_were_never_published() -> None:
    assert not timm.is_model_pretrained("mobilenetv4_conv_small_035")
    with pytest.raises(ModelError, match=r"mobilenetv4_conv_small\b"):
        create_backbone("mobilenetv4_conv_small_035", "hub")


@pytest.mark.parametrize("name", ["vit_large_patch14_clip_224", "convnext_atto", "resnet18"])
def test_normalisation_is_the_networks_own(name: str) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name)
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    assert (backbone.mean, backbone.std) == (config.mean, config.std)


def test_a_model_learns_what_mean_and_std_its_backbone_wants() -> None:
    with torch.device("meta"):
        means = {create_backbone(f.example).mean for f in FAMILIES}
    # ImageNet's, CLIP's, and a half
    assert len(means) == 3


def test_dinov2_keeps_its_own_grid_and_others_are_brought_to_it() -> None:
    with torch.device("meta"):
        assert isinstance(create_backbone("vit_small_patch14_dinov2"), ViTBackbone)
        clip = create_backbone("vit_huge_patch14_clip_224")
        vit = create_backbone("vit_tiny_patch16_224")
    assert isinstance(clip, ResampledBackbone)
    assert clip.enlargement == 1
    assert isinstance(vit, ResampledBackbone)
    assert vit.enlargement == pytest.approx(16 / 14)


@pytest.mark.parametrize(("patch_px", "strides_px"), [(8, (7.0,) * 4 + (14.0,)), (16, (14.0,) * 4)])
def test_patches_of_another_size(patch_px: int, strides_px: tuple[float, ...]) -> None:
    with torch.device("meta"):
        backbone = backbone_of(ModelConfig(patch_px=patch_px))
    assert isinstance(backbone, ResampledBackbone)
    assert backbone.enlargement == 1
    assert backbone.strides_px == strides_px


@pytest.mark.parametrize("patch_px", [8, 16])
@pytest.mark.parametrize("registers", ["reg4_", ""])
def test_published_patches_and_positions_are_resampled(
    tmp_path: Path, registers: str, patch_px: int
) -> None:
    name = f"vit_small_patch14_{registers}dinov2"
    family = find_family(name)
    assert family is not None
    torch.manual_seed(0)
    source = create_network(name, family, **SMALL)
    fine = create_network(name, family, **SMALL, patch_size=patch_px)
    torch.save(source.state_dict(), tmp_path / "patch14.pth")
    load_backbone_weights(fine, tmp_path / "patch14.pth")
    kernel = source.patch_embed.proj.weight.detach()
    expected = resample_patch_embed(kernel, [patch_px, patch_px])
    torch.testing.assert_close(fine.patch_embed.proj.weight.detach(), expected)
    # a row for the class token, which has no place, where there are no registers
    n_rows = 0 if registers else 1
    side = 448 // patch_px
    positions = resample_abs_pos_embed(
        source.pos_embed.detach(), [side, side], [32, 32], num_prefix_tokens=n_rows
    )
    torch.testing.assert_close(fine.pos_embed.detach(), positions)


@pytest.mark.parametrize("patch_px", [None, 8, 16])
@pytest.mark.parametrize("size_px", [(14, 98), (560, 28)], ids=str)
def test_positions_are_stretched_over_any_tile(
    size_px: tuple[int, int], patch_px: int | None
) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    family = find_family(name)
    assert family is not None
    patch = {} if patch_px is None else {"patch_size": patch_px}
    network = create_network(name, family, **SMALL, **patch)
    side = network.patch_embed.grid_size[0]
    ramps = torch.zeros(1, side, side, 48)
    ramps[..., 0] = torch.linspace(-1, 1, side)
    ramps[..., 1] = torch.linspace(-1, 1, side)[:, None]
    with torch.no_grad():
        network.pos_embed.copy_(ramps.flatten(1, 2))
        network.patch_embed.proj.weight.zero_()
        network.patch_embed.proj.bias.zero_()
    seen: list[torch.Tensor] = []
    network.blocks[0].register_forward_pre_hook(lambda _, tokens: seen.append(tokens[0]))
    with torch.no_grad():
        adapt_network(network, family, own_pixels=patch_px is not None)(torch.rand(1, 3, *size_px))
    height, width = (-(-s // (patch_px or 14)) for s in size_px)
    found = seen[0][0, 5:].reshape(height, width, 48)
    for axis, n in ((0, height), (1, width)):
        along = found[..., 1 - axis]
        line = along.select(1 - axis, 0)
        torch.testing.assert_close(along, line.unsqueeze(1 - axis).expand_as(along))
        # from end to end, even, centred
        assert line.mean().abs() < 1e-3
        assert torch.all(line.diff() > 0)
        if n > 3:
            torch.testing.assert_close(line.diff()[1:-1].mean().item(), 2 / n, atol=0.2 / n, rtol=0)


def test_chosen_blocks_feed_the_pyramid_and_later_ones_are_left_out() -> None:
    name = "vit_small_patch14_reg4_dinov2"
    family = find_family(name)
    assert family is not None
    images = torch.rand(1, 3, 28, 42)
    for patch in ({}, {"patch_size": 16}):
        torch.manual_seed(0)
        network = create_network(name, family, **SMALL, **patch)
        whole = adapt_network(network, family, feature_blocks=(0, 1, 2, 3)).eval()
        torch.manual_seed(0)
        network = create_network(name, family, **SMALL, **patch)
        part = adapt_network(network, family, feature_blocks=(2, 1)).eval()
        assert len(part.block_paths) == 3
        with torch.no_grad():
            for a, b in zip(part(images), whole(images)[1:3], strict=True):
                assert torch.equal(a, b)


def test_options_where_they_make_no_sense() -> None:
    with pytest.raises(ModelError, match="Leave the patch size out"):
        create_backbone("resnet18", patch_px=8)
    with torch.device("meta"), pytest.raises(ModelError, match="Leave the feature blocks out"):
        create_backbone("swin_tiny_patch4_window7_224", feature_blocks=(1,))
    with torch.device("meta"), pytest.raises(ModelError, match="blocks from 0 to 11"):
        create_backbone("vit_tiny_patch16_224", feature_blocks=(3, 12))
    with pytest.raises(SettingsError, match="8 to 16 px"):
        ModelConfig(patch_px=4)
    with pytest.raises(SettingsError, match="feature block"):
        ModelConfig(feature_blocks=())


def test_feature_blocks_survive_json() -> None:
    assert ModelConfig(feature_blocks=[1, 3]).feature_blocks == (1, 3)  # type: ignore[arg-type]
