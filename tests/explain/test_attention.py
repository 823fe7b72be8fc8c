"""Attention is what the network computed, and lies where it belongs in the image."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import SegmentConfig
from dinomask.errors import InputError, NoAttentionError, SettingsError
from dinomask.explain.attention import attention_of
from dinomask.explain.head_figures import head_figures
from dinomask.explain.layer_tokens import sample_tokens
from dinomask.explain.parts import PADDING, BlockAttention, Recorded, window_tokens
from dinomask.explain.recording import attention_blocks, recording
from dinomask.explain.seen import SeenImage
from dinomask.image import open_image
from dinomask.nets.backbone import create_backbone
from dinomask.nets.centermask import CenterMask
from dinomask.nets.features import ViTBackbone
from tests.contracts.members import MEMBERS, Member
from tests.explain.seen_scenes import TILES, bright_seeker, noise, predictor_of, seen_of
from tests.nets.small import small_config, small_model, small_vit

if TYPE_CHECKING:
    from pathlib import Path

CONVOLUTIONAL = ("convnext", "resnet", "mobilenet", "efficientnet")
TRANSFORMERS = [m for m in MEMBERS if not m.name.startswith(CONVOLUTIONAL)]
SIDE_PX = 112


def tile(seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def blocks_of(backbone: Any, image: torch.Tensor) -> tuple[BlockAttention, ...]:
    with recording(backbone) as recorded:
        backbone(image)
    return recorded.blocks()


@pytest.mark.parametrize("member", TRANSFORMERS, ids=lambda m: m.id)
def test_rows_sum_to_one_and_the_output_stays(member: Member) -> None:
    backbone = member.backbone().eval()
    image = tile()
    with torch.inference_mode():
        plain = backbone(image)
        with recording(backbone) as recorded:
            hooked = backbone(image)
        after = backbone(image)
    for a, b, c in zip(plain, hooked, after, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
        assert torch.equal(a, c)
    blocks = recorded.blocks()
    assert len(blocks) == len(attention_blocks(backbone))
    for block in blocks:
        n = block.n_places
        rows = block.rows(torch.tensor([0, n // 2, n - 1]))
        assert rows.shape == (block.n_heads, 3, n)
        assert (rows >= 0).all()
        for queries, _, weights in block.chunks():
            assert len(queries)
            assert torch.allclose(weights.sum(-1), torch.ones(1), atol=1e-5)
        padded = any((part.keys == PADDING).any() for part in block.parts)
        if not padded:
            assert torch.allclose(rows.sum(-1), torch.ones(1), atol=1e-5)
        # all places together look as much as there are places
        every = sum(len(q) for q, _, _ in block.chunks())
        assert every == (n if block.owners is None else int(block.owners.max()) + 1)


def test_it_equals_attention_by_hand_from_q_and_k() -> None:
    torch.manual_seed(1)
    name = "vit_small_patch14_reg4_dinov2"
    backbone = create_backbone(name).eval()
    vit = backbone.vit
    image = tile()
    blocks = blocks_of(backbone, image)
    with torch.inference_mode():
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed(image)))
        for i, block in enumerate(vit.blocks):
            n, dim, heads = x.shape[1], vit.embed_dim, block.attn.num_heads
            q, k, _ = torch.nn.functional.linear(
                block.norm1(x), block.attn.qkv.weight, block.attn.qkv.bias
            ).split(dim, dim=-1)
            q, k = (t.view(n, heads, dim // heads).transpose(0, 1) for t in (q, k))
            by_hand = (q @ k.mT / (dim // heads) ** 0.5).softmax(-1)
            assert torch.allclose(blocks[i].rows(torch.arange(n)), by_hand, atol=1e-5)
            x = block(x)


@pytest.mark.parametrize(
    "member", [m for m in TRANSFORMERS if m.name.startswith("vit")], ids=lambda m: m.id
)
def test_it_equals_what_the_unfused_layer_computes(member: Member) -> None:
    backbone = member.backbone().eval()
    image = tile()
    blocks = blocks_of(backbone, image)
    seen: list[list[torch.Tensor]] = []
    for module in attention_blocks(backbone):
        module.attn.fused_attn = False
        kept: list[torch.Tensor] = []
        seen.append(kept)
        module.attn.attn_drop.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
    with torch.inference_mode():
        backbone(image)
    for block, matrices in zip(blocks, seen, strict=True):
        for part, matrix in zip(block.parts, matrices, strict=True):
            for group in range(len(part.queries)):
                rows = part.rows_of(group)
                ours = part.weights(group, rows)
                assert torch.allclose(ours, matrix[group][:, rows], atol=1e-5)


@pytest.mark.parametrize(
    "name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "samvit_base_patch16"]
)
def test_windows_hold_the_places_that_influence_each_other(name: str) -> None:
    """What a place attends to is what its output depends on: asked of the gradient."""
    member = next(m for m in MEMBERS if m.name == name)
    backbone = member.backbone().eval()
    blocks = blocks_of(backbone, tile())
    modules = attention_blocks(backbone)
    for number in (1, 2):
        block, module = blocks[number], modules[number]
        height, width = block.grid_yx
        grid = torch.rand(1, height, width, _channels(module))
        for place in (0, width + 2, height * width - 1):
            x = grid.clone().requires_grad_()
            # the attention alone: the MLP keeps to each place
            module(x)[0].reshape(height * width, -1)[place].sum().backward()
            influences = x.grad[0].abs().sum(-1).flatten() > 1e-20
            # what is masked by −100 gets e⁻¹⁰⁰
            looks = block.rows(torch.tensor([place]))[:, 0].sum(0) > 1e-20
            # itself through the residual connection
            looks[place] = True
            assert torch.equal(influences, looks)


def _channels(module: Any) -> int:
    return int(module.norm1.normalized_shape[0])


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.data())
def test_windows_partition_the_map(
    height: int, width: int, side_y: int, side_x: int, data: st.DataObject
) -> None:
    shift = (data.draw(st.integers(0, side_y - 1)), data.draw(st.integers(0, side_x - 1)))
    windows = window_tokens((height, width), (side_y, side_x), shift)
    assert windows.shape[1] == side_y * side_x
    found = windows[windows != PADDING]
    assert sorted(found.tolist()) == list(range(height * width))


@pytest.mark.parametrize("diameter_px", [32.0, 16.0, 64.0])
@pytest.mark.parametrize("where", [(0.3, 0.3), (0.7, 0.55), (0.95, 0.9)])
def test_a_planted_pattern_comes_out_where_it_was_planted(
    diameter_px: float, where: tuple[float, float]
) -> None:
    """To the pixel, whatever tile, halo, offset and scale."""
    scale = 32 / diameter_px
    height, width = round(200 / scale), round(260 / scale)
    image = np.full((height, width), 0.2, np.float32)
    seen = seen_of(bright_seeker(), np.pad(image, 0), diameter_px)
    point = (where[0] * height, where[1] * width)
    tile_ = seen.tile_at(point)
    place = seen.place(tile_, 14.0)
    row, column = place.cells_at(np.array([point]))[0]
    # a bright square that is exactly one patch of this tile
    y0, x0 = (
        o + c * i
        for o, c, i in zip(place.origin_yx_px, place.cell_yx_px, (row, column), strict=False)
    )
    y1, x1 = y0 + place.cell_yx_px[0], x0 + place.cell_yx_px[1]
    assert all(float(v).is_integer() for v in (y0, x0, y1, x1))
    y0, x0, y1, x1 = (int(v) for v in (y0, x0, y1, x1))
    inside = np.zeros((height, width), bool)
    inside[y0:y1, x0:x1] = True
    image[inside] = 1.0
    seen = seen_of(bright_seeker(), image, diameter_px)
    attention = attention_of(seen, tile_)
    for source in ("class", "all", (float(y0), float(x0))):
        heat = attention.look(0, source)
        assert heat.values_yx.sum() + heat.elsewhere == pytest.approx(1)
        drawn = heat.place.draw(heat.values_yx, (0, 0, height, width))
        assert drawn[y0:y1, x0:x1].min() > 0.9
        cell = heat.place.cells_at(np.array([[y0 + 0.5, x0 + 0.5]]))[0]
        assert tuple(np.unravel_index(heat.values_yx.argmax(), heat.values_yx.shape)) == tuple(cell)
        # outside of the square, as far as the tile reaches, nothing
        top, left, bottom, right = (round(v) for v in seen.plan.read_image_yxyx(tile_))
        window = np.s_[max(top, 0) : bottom, max(left, 0) : right]
        assert drawn[window][~inside[window]].max() < 0.01


def test_rollout_is_the_product_of_the_layers() -> None:
    seen = seen_of(small_model(), noise(112, 112))
    attention = attention_of(seen, seen.plan[0])
    n = attention.blocks[0].n_places
    product = torch.eye(n)
    for number, block in enumerate(attention.blocks):
        mean = block.rows(torch.arange(n)).mean(0)
        product = (0.5 * (mean + torch.eye(n))) @ product
        heat = attention.rollout(number, "class")
        expected = product[0, block.n_prefix :].reshape(block.grid_yx)
        assert np.allclose(heat.values_yx, expected, atol=1e-6)
    shares = torch.zeros(n)
    shares[7] = 1
    assert float(product[7].sum()) == pytest.approx(1, abs=1e-5)


def test_a_mask_looks_where_its_pixels_do_on_average() -> None:
    seen = seen_of(small_model(), noise(112, 112))
    attention = attention_of(seen, seen.plan[0])
    mask = np.ones((14, 28), bool)
    mask[:, 21:] = False
    shares = attention.mask_shares(mask, (28, 42))
    assert shares[2, 3] == 196
    assert shares[2, 4] == 98
    assert shares.sum() == mask.sum()
    mixed = attention.look(1, shares).values_yx
    first, second = (attention.look(1, (35.0, x)).values_yx for x in (50.0, 60.0))
    assert np.allclose(mixed, (2 * first + second) / 3, atol=1e-6)
    with pytest.raises(InputError, match="pixels in the tile"):
        attention.mask_shares(mask, (500, 500))


def test_heads_and_their_mean_and_layers_counted_from_the_end() -> None:
    seen = seen_of(small_model(), noise(112, 112))
    attention = attention_of(seen, seen.plan[0])
    heads = attention.heads(-1, "class")
    assert len(heads) == attention.n_heads(-1) == 2
    mean = np.mean([h.values_yx for h in heads], axis=0)
    assert np.allclose(attention.look(-1, "class").values_yx, mean, atol=1e-7)
    assert np.array_equal(attention.look(3, "class", 1).values_yx, heads[1].values_yx)
    chosen = attention_of(seen, seen.plan[0], [-1])
    assert np.array_equal(chosen.look(0, "class").values_yx, attention.look(3, "class").values_yx)


def test_figures_of_heads_that_look_evenly_and_at_themselves() -> None:
    height, width, n = 4, 6, 24
    tokens = torch.arange(n)[None]
    even, self_ = torch.full((n, n), 1 / n), torch.eye(n)
    part = Recorded(tokens, tokens, torch.stack([even, self_])[None])
    block = BlockAttention(3, (height, width), 0, 2, 14.0, (part,))
    global_, local = head_figures(block, 7.0)
    cells = list(itertools.product(range(height), range(width)))
    apart = np.mean([np.hypot(a - c, b - d) for a, b in cells for c, d in cells])
    assert (global_.layer, global_.head) == (3, 0)
    assert global_.entropy_bits == pytest.approx(np.log2(n), rel=1e-5)
    assert global_.distance_px == pytest.approx(7 * apart, rel=1e-4)
    assert local.entropy_bits == pytest.approx(0, abs=1e-5)
    assert local.distance_px == pytest.approx(0, abs=1e-5)


def test_a_convolutional_backbone_says_why_and_what_else() -> None:
    member = next(m for m in MEMBERS if m.name == "resnet18")
    seen = seen_of(member.model(), noise(112, 112))
    with pytest.raises(NoAttentionError, match=r"no attention.*features"):
        attention_of(seen, seen.plan[0])


def test_what_is_not_there_can_not_be_looked_at() -> None:
    model = CenterMask(small_config(), ViTBackbone(small_vit(registers=0)))
    seen = seen_of(model, noise(112, 112))
    with pytest.raises(SettingsError, match="layer from 0 to 3"):
        attention_of(seen, seen.plan[0], [4])
    attention = attention_of(seen, seen.plan[0])
    with pytest.raises(SettingsError, match="layer from 0 to 3"):
        attention.look(-5)
    with pytest.raises(SettingsError, match="head from 0 to 1"):
        attention.look(0, "class", 2)
    with pytest.raises(SettingsError, match="class, all"):
        attention.look(0, "registers")
    with pytest.raises(InputError, match="within the tile"):
        attention.look(0, (500.0, 3.0))
    with pytest.raises(SettingsError, match="all layers up to"):
        attention_of(seen, seen.plan[0], [1, 3]).rollout(1)
    with pytest.raises(InputError, match="point within"):
        seen.tile_at((-1.0, 5.0))


def test_rollout_needs_one_resolution() -> None:
    member = next(m for m in MEMBERS if m.name == "swinv2_tiny_window8_256")
    seen = seen_of(member.model(), noise(112, 112))
    attention = attention_of(seen, seen.plan[0])
    assert attention.default_source == "all"
    assert attention.look(0).values_yx.shape == (32, 32)
    assert attention.places[0].cell_yx_px == (3.5, 3.5)
    with pytest.raises(SettingsError, match="one resolution"):
        attention.rollout()


def test_an_image_larger_than_memory_is_read_where_it_is_looked_at(tmp_path: Path) -> None:
    """200,000 px a side would be 40 GB; only chunks that were asked for are read."""
    side = 200_000
    store = zarr.create_array(
        tmp_path / "large.zarr",
        shape=(side, side),
        chunks=(512, 512),
        dtype="uint8",
        fill_value=10,
    )
    y = x = 512 * 195
    store[y : y + 512, x : x + 512] = (255 * noise(512, 512)).astype(np.uint8)
    image = open_image(tmp_path / "large.zarr", axes="yx")
    config = SegmentConfig(diameter_px=32.0, device="cpu", threads=1, tiles=TILES)
    seen = SeenImage.of(image, config, predictor_of(small_model()))
    point = (y + 200.5, x + 300.5)
    attention = attention_of(seen, seen.tile_at(point))
    assert attention.look(-1, point).values_yx.shape == (8, 8)
    assert sample_tokens(seen, 60).n_tokens == 60
