"""Windows and merging in a whole network: off is off, and on is what it says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from dinomask.config import ModelConfig
from dinomask.errors import ModelError, SettingsError
from dinomask.nets.backbone import backbone_of
from dinomask.nets.features import ViTBackbone
from dinomask.nets.mixing import Mixing, token_maps
from dinomask.nets.resampled import ResampledBackbone
from tests.nets.small import small_vit

WINDOWS = Mixing(window_tokens=3, global_blocks=(1,))
MERGED = Mixing(merge_tokens=4)


@torch.no_grad()
def maps_of(mixing: Mixing, images: Tensor, registers: int = 4, depth: int = 4) -> list[Tensor]:
    torch.manual_seed(3)
    vit = small_vit(registers=registers, depth=depth).eval()
    return token_maps(vit, images, range(depth), mixing)


def plain_maps(images: Tensor, **network: int) -> list[Tensor]:
    return maps_of(Mixing(), images, **network)


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("size_px", [(14, 14), (84, 84), (42, 98)], ids=str)
def test_windows_that_hold_the_map_change_nothing(size_px: tuple[int, int], registers: int) -> None:
    images = torch.rand(2, 3, *size_px)
    found = maps_of(Mixing(window_tokens=7, global_blocks=()), images, registers)
    for a, b in zip(found, plain_maps(images, registers=registers), strict=True):
        assert torch.equal(a, b)


def test_windows_in_blocks_that_are_all_global_change_nothing() -> None:
    images = torch.rand(2, 3, 98, 70)
    found = maps_of(Mixing(window_tokens=2, global_blocks=(0, 1, 2, 3)), images)
    for a, b in zip(found, plain_maps(images), strict=True):
        assert torch.equal(a, b)


def test_tokens_see_their_window_until_a_global_block() -> None:
    images = torch.rand(1, 3, 84, 84)
    other = images.clone()
    other[..., 42:, 42:] = torch.rand(1, 3, 42, 42)
    # without prefix tokens in between nothing is carried over; the class token carries it
    for global_blocks, changed in (((2,), [0, 0, 1, 1]), ((), [0, 0, 0, 0])):
        torch.manual_seed(0)
        vit = small_vit(registers=0).eval()
        with torch.no_grad():
            # the prefix is a key in every window: keep what it saw from coming back
            a, b = (
                token_maps(_deaf_prefix(vit), i, range(4), Mixing(3, global_blocks))
                for i in (images, other)
            )
        for before, after, far in zip(a, b, changed, strict=True):
            assert not torch.equal(before[..., 3:, 3:], after[..., 3:, 3:])
            assert torch.equal(before[..., :3, :3], after[..., :3, :3]) == (not far)


def _deaf_prefix(vit: torch.nn.Module) -> torch.nn.Module:
    """Let the class token forget after each block what it has seen."""
    vit = copy.deepcopy(vit)

    def forget(block: object, inputs: object, output: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(output[:, :1]), output[:, 1:]], dim=1)

    for block in vit.blocks:
        block.norm1.register_forward_hook(forget)
    return vit


def test_the_prefix_carries_over_what_the_tile_has_in_common() -> None:
    images = torch.rand(1, 3, 84, 84)
    other = images.clone()
    other[..., 42:, 42:] = torch.rand(1, 3, 42, 42)
    a, b = (maps_of(Mixing(3, ()), i) for i in (images, other))
    same = [torch.equal(x[..., :3, :3], y[..., :3, :3]) for x, y in zip(a, b, strict=True)]
    # registers have seen the other windows after the first block
    assert same == [True, False, False, False]


def test_four_blocks_stay_global_by_default() -> None:
    mixing = Mixing(window_tokens=16)
    assert [i for i in range(12) if mixing.is_global(i, 12)] == [2, 5, 8, 11]
    assert [i for i in range(40) if mixing.is_global(i, 40)] == [9, 19, 29, 39]
    chosen = Mixing(window_tokens=16, global_blocks=(0,))
    assert [i for i in range(12) if chosen.is_global(i, 12)] == [0]


def test_a_single_patch_has_nothing_to_merge_with() -> None:
    images = torch.rand(2, 3, 14, 14)
    for a, b in zip(maps_of(MERGED, images), plain_maps(images), strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_merging_tokens_that_are_alike_loses_nothing() -> None:
    torch.manual_seed(0)
    vit = small_vit().eval()
    vit.pos_embed.zero_()
    # columns of patches in pairs: of two neighbours, one proposes to the other
    columns = torch.rand(1, 3, 84, 42).unflatten(3, (3, 14))
    images = columns.repeat_interleave(2, dim=3).flatten(3)
    expected = token_maps(vit, images, range(4), Mixing())
    # 18 pairs: all merge in the first block, nothing is left to merge without loss
    found = token_maps(_only_first(vit), images, range(1), Mixing(merge_tokens=18))
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    # a few a block: always among those that are alike, up to the last layer
    found = token_maps(vit, images, range(4), Mixing(merge_tokens=4))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    # and not because it didn't merge
    found = token_maps(vit, images, range(4), Mixing(merge_tokens=8))
    assert not torch.allclose(found[-1], expected[-1], atol=1e-4)


def _only_first(vit: torch.nn.Module) -> torch.nn.Module:
    vit = copy.deepcopy(vit)
    vit.blocks = vit.blocks[:1]
    return vit


@pytest.mark.parametrize("mixing", [WINDOWS, MERGED, Mixing(merge_tokens=1000)], ids=str)
@pytest.mark.parametrize("size_px", [(14, 14), (14, 98), (112, 70)], ids=str)
def test_maps_of_any_tile_have_their_shape(size_px: tuple[int, int], mixing: Mixing) -> None:
    maps = maps_of(mixing, torch.rand(2, 3, *size_px))
    assert {tuple(m.shape) for m in maps} == {(2, 32, size_px[0] // 14, size_px[1] // 14)}
    assert all(torch.isfinite(m).all() for m in maps)


@pytest.mark.parametrize("mixing", [WINDOWS, MERGED], ids=str)
def test_a_tile_is_the_same_alone_and_in_a_batch(mixing: Mixing) -> None:
    images = torch.rand(3, 3, 70, 98)
    together = maps_of(mixing, images)
    for i in range(3):
        for a, b in zip(maps_of(mixing, images[i : i + 1]), together, strict=True):
            torch.testing.assert_close(a[0], b[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mixing", [WINDOWS, MERGED], ids=str)
def test_the_result_is_another_one_and_near(mixing: Mixing) -> None:
    images = torch.rand(1, 3, 112, 112)
    for a, b in zip(maps_of(mixing, images), plain_maps(images), strict=True):
        assert torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.9
        assert not torch.allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("mixing", [WINDOWS, MERGED], ids=str)
def test_memory_can_be_saved_in_training(mixing: Mixing) -> None:
    torch.manual_seed(0)
    vit = small_vit().train()
    images = torch.rand(2, 3, 70, 98)
    gradients = []
    for saving in (False, True):
        vit.set_grad_checkpointing(saving)
        vit.zero_grad()
        sum(m.square().sum() for m in token_maps(vit, images, range(4), mixing)).backward()
        gradients.append([p.grad.clone() for p in vit.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(vit.parameters()))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(window_tokens=3),
        ModelConfig(merge_tokens=4),
        ModelConfig(window_tokens=3, patch_px=8),
        ModelConfig(merge_tokens=4, patch_px=16),
    ],
    ids=["windows", "merging", "windows at 8 px", "merging at 16 px"],
)
def test_an_architecture_asks_for_it(config: ModelConfig) -> None:
    torch.manual_seed(0)
    backbone = backbone_of(config).eval()
    assert isinstance(backbone, ViTBackbone | ResampledBackbone)
    plain = copy.deepcopy(backbone)
    plain.mixing = Mixing()
    images = torch.rand(1, 3, 70, 56)
    with torch.no_grad():
        pairs = list(zip(backbone(images), plain(images), strict=True))
    assert all(a.shape == b.shape and not torch.equal(a, b) for a, b in pairs)
    # options have no weights: published files fit
    assert backbone.state_dict().keys() == plain.state_dict().keys()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 2 tokens"):
        ModelConfig(window_tokens=1)
    with pytest.raises(SettingsError, match="Give the windows' side too"):
        ModelConfig(global_blocks=(1,))
    with pytest.raises(SettingsError, match="no fewer than 0"):
        ModelConfig(merge_tokens=-1)
    with pytest.raises(SettingsError, match="Use one of them"):
        ModelConfig(merge_tokens=2, window_tokens=8)
    assert ModelConfig(window_tokens=8, global_blocks=[3]).global_blocks == (3,)  # type: ignore[arg-type]
    for name in ("resnet18", "swin_tiny_patch4_window7_224", "samvit_base_patch16"):
        with torch.device("meta"), pytest.raises(ModelError, match="plain transformer"):
            backbone_of(ModelConfig(name, window_tokens=8))
    with torch.device("meta"), pytest.raises(ModelError, match="blocks from 0 to 11"):
        backbone_of(ModelConfig(window_tokens=8, global_blocks=(3, 12)))
