"""Backbones: every name builds, every published weights layout loads, bad files are refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from dinomask.errors import ModelError
from dinomask.nets.backbone import TINY, create_backbone, dinov2_names
from dinomask.nets.backbone_files import load_backbone_weights
from dinomask.nets.features import ViTBackbone
from tests.nets.small import small_vit

if TYPE_CHECKING:
    from pathlib import Path

WIDTHS = {"tiny": 192, "small": 384, "base": 768, "large": 1024, "giant": 1536}


def test_every_published_arrangement_is_offered() -> None:
    published = {
        f"vit_{size}_patch14_{registers}dinov2"
        for size in ("small", "base", "large", "giant")
        for registers in ("", "reg4_")
    }
    assert published | {TINY} == set(dinov2_names())


@pytest.mark.parametrize("name", dinov2_names())
def test_every_name_builds_and_gives_maps_at_stride_14(name: str) -> None:
    # shapes alone, without memory for the giant's 1.1 billion parameters
    with torch.device("meta"):
        backbone = create_backbone(name)
        maps = backbone(torch.empty(2, 3, 42, 70))
    assert backbone.width == next(w for size, w in WIDTHS.items() if size in name)
    assert [tuple(m.shape) for m in maps] == [(2, backbone.width, 3, 5)] * 4
    assert backbone.indices[-1] == len(backbone.vit.blocks) - 1
    assert backbone.mean == pytest.approx((0.485, 0.456, 0.406))


@pytest.mark.parametrize("size_px", [(14, 14), (28, 98), (112, 70), (126, 126)])
def test_tiles_of_any_multiple_of_14(size_px: tuple[int, int]) -> None:
    torch.manual_seed(0)
    maps = ViTBackbone(small_vit())(torch.rand(1, 3, *size_px))
    assert {tuple(m.shape) for m in maps} == {(1, 32, size_px[0] // 14, size_px[1] // 14)}
    assert all(torch.isfinite(m).all() for m in maps)


def test_a_shallow_network_gives_a_map_a_block() -> None:
    assert ViTBackbone(small_vit(depth=2)).indices == [0, 1]
    assert ViTBackbone(small_vit(depth=12)).indices == [2, 5, 8, 11]


def test_tiny_has_a_gradient_for_every_parameter() -> None:
    torch.manual_seed(0)
    backbone = create_backbone(TINY)
    maps = backbone(torch.rand(1, 3, 56, 42))
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    still = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def _to_meta(state: dict[str, Tensor], registers: int) -> dict[str, Tensor]:
    """Name a ViT's weights as Meta's files do."""
    meta = dict(state)
    meta["mask_token"] = torch.zeros(1, state["cls_token"].shape[-1])
    if registers:
        # Meta's position embedding has a row for the class token
        row = torch.randn(1, 1, state["cls_token"].shape[-1])
        meta["cls_token"] = state["cls_token"] - row
        meta["pos_embed"] = torch.cat([row, state["pos_embed"]], dim=1)
        meta["register_tokens"] = meta.pop("reg_token")
    return meta


def _write(path: Path, state: dict[str, Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("naming", ["meta", "timm"])
@pytest.mark.parametrize("registers", [0, 4])
def test_published_layouts_load_to_the_same_network(
    tmp_path: Path, suffix: str, naming: str, registers: int
) -> None:
    torch.manual_seed(1)
    source, target = small_vit(registers=registers), small_vit(registers=registers)
    state = source.state_dict()
    if naming == "meta":
        state = _to_meta(state, registers)
    load_backbone_weights(target, _write(tmp_path / f"weights{suffix}", state))
    images = torch.rand(1, 3, 56, 56)
    for a, b in zip(ViTBackbone(source)(images), ViTBackbone(target)(images), strict=True):
        torch.testing.assert_close(a, b)


def test_the_giants_gated_layers_load_from_metas_names(tmp_path: Path) -> None:
    from timm.layers import SwiGLUPacked

    def gated() -> VisionTransformer:
        return VisionTransformer(
            img_size=28,
            patch_size=14,
            embed_dim=16,
            depth=2,
            num_heads=2,
            init_values=0.3,
            num_classes=0,
            mlp_layer=SwiGLUPacked,
            dynamic_img_size=True,
        )

    source, target = gated(), gated()
    meta = {
        name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value
        for name, value in _to_meta(source.state_dict(), 0).items()
    }
    load_backbone_weights(target, _write(tmp_path / "giant.pth", meta))
    torch.testing.assert_close(dict(target.state_dict()), dict(source.state_dict()))


def test_the_position_grid_is_resampled(tmp_path: Path) -> None:
    source, target = small_vit(grid=4), small_vit(grid=6)
    ramp = torch.arange(4.0).repeat(4)  # grows along x
    with torch.no_grad():
        source.pos_embed.copy_(ramp[None, :, None].expand_as(source.pos_embed))
    load_backbone_weights(target, _write(tmp_path / "grid.safetensors", source.state_dict()))
    grid = target.pos_embed.detach()[0, :, 0].reshape(6, 6)
    torch.testing.assert_close(grid, grid[:1].expand(6, 6))
    assert torch.all(grid[0].diff() > 0)
    assert grid[0].mean() == pytest.approx(1.5, abs=0.01)


def test_create_backbone_loads_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = create_backbone(TINY)
    path = _write(tmp_path / "tiny.safetensors", source.vit.state_dict())
    loaded = create_backbone(TINY, path)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(source.state_dict()))


class _Bomb:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    torch.save({"patch_embed.proj.weight": _Bomb(trace)}, tmp_path / "bomb.pth")
    with pytest.raises(ModelError, match=r"bomb\.pth"):
        load_backbone_weights(small_vit(), tmp_path / "bomb.pth")
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_damaged_files_are_reported(tmp_path: Path, suffix: str, damage: str) -> None:
    path = _write(tmp_path / f"weights{suffix}", small_vit().state_dict())
    content = path.read_bytes()
    path.write_bytes(
        {"truncated": content[: len(content) // 2], "empty": b"", "text": b"not found"}[damage]
    )
    with pytest.raises(ModelError, match="Download the file again"):
        load_backbone_weights(small_vit(), path)


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(3)],
        {"epoch": 3},
        {"model": 5},
        {1: torch.zeros(2)},
        {"patch_embed.proj.weight": torch.zeros(2)},
        {},
    ],
    ids=["list", "number", "nested number", "integer key", "wrong shape", "nothing"],
)
def test_tables_of_something_else_are_reported(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other\.pth"):
        load_backbone_weights(small_vit(), tmp_path / "other.pth")


def test_weights_of_another_architecture_are_reported(tmp_path: Path) -> None:
    path = _write(tmp_path / "deep.safetensors", small_vit(depth=5).state_dict())
    with pytest.raises(ModelError, match=r"unknown tensors \(e\.g\. blocks\.4"):
        load_backbone_weights(small_vit(), path)
    path = _write(tmp_path / "wide.safetensors", small_vit(width=64).state_dict())
    with pytest.raises(ModelError, match="size mismatch"):
        load_backbone_weights(small_vit(), path)
    path = _write(tmp_path / "plain.safetensors", small_vit(registers=0).state_dict())
    with pytest.raises(ModelError, match="pos_embed"):
        load_backbone_weights(small_vit(), path)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file at"):
        load_backbone_weights(small_vit(), tmp_path / "absent.pth")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"resnet50, .*vit_small_patch14_reg4_dinov2"):
        create_backbone("resnet51")


def test_hub_weights_without_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="download the file and give its path"):
        create_backbone("vit_small_patch14_reg4_dinov2", "hub")
    with pytest.raises(ModelError, match="--init tiny"):
        create_backbone(TINY, "hub")
