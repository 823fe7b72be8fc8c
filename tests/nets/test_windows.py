"""Windows: every token in one, padding without influence, the same weights as everywhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import Attention

from dinomask.nets.windows import Windows, plan_windows, window_attention

sides = st.integers(1, 12)


def layer(dim: int = 16, seed: int = 0) -> Attention:
    torch.manual_seed(seed)
    return Attention(dim, num_heads=2, qkv_bias=True).eval()


@given(st.tuples(sides, sides), st.integers(2, 8))
def test_windows_are_few_and_hold_every_token_once(shape_yx: tuple[int, int], most: int) -> None:
    windows = plan_windows(shape_yx, most)
    if windows is None:
        assert max(shape_yx) <= most
        return
    assert max(windows.side_yx) <= most
    assert windows.n_yx == tuple(-(-side // most) for side in shape_yx)
    height, width = shape_yx
    tokens = torch.arange(1.0, 1 + 2 * height * width).reshape(2, height * width, 1)
    cut = windows.split(tokens)
    n = windows.n_yx[0] * windows.n_yx[1]
    assert cut.shape == (2 * n, windows.side_yx[0] * windows.side_yx[1], 1)
    assert torch.equal(windows.join(cut), tokens)
    # what isn't a token is padding, and each window has a token
    padding = windows.padding(tokens.device)
    empty = cut[:n, :, 0] == 0
    assert torch.equal(empty, torch.zeros_like(empty) if padding is None else padding)
    assert not empty.all(dim=1).any()


def test_the_common_tile_needs_no_padding() -> None:
    assert plan_windows((32, 32), 16) == Windows((32, 32), (16, 16))
    # 3 × 13 with 2 padded, not 3 × 16 with 11
    assert plan_windows((37, 32), 16) == Windows((37, 32), (13, 16))


def by_hand(attn: Attention, tokens: torch.Tensor, windows: Windows, n_prefix: int) -> torch.Tensor:
    """One softmax a token over the tokens that it may see."""
    (height, width), (side_y, side_x) = windows.shape_yx, windows.side_yx
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    window = (y // side_y * width + x // side_x).flatten()
    n = n_prefix + len(window)
    seen = torch.ones(n, n, dtype=torch.bool)
    seen[n_prefix:, n_prefix:] = window[:, None] == window
    expected: torch.Tensor = attn(tokens, attn_mask=seen)
    return expected


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("n_prefix", [0, 5])
@pytest.mark.parametrize("shape_yx", [(6, 9), (5, 7), (1, 8)], ids=str)
def test_each_token_sees_its_window_and_the_prefix_sees_all(
    shape_yx: tuple[int, int], n_prefix: int, fused: bool
) -> None:
    attn = layer()
    attn.fused_attn = fused
    tokens = torch.randn(2, n_prefix + shape_yx[0] * shape_yx[1], 16)
    windows = plan_windows(shape_yx, 3)
    assert windows is not None
    with torch.no_grad():
        found = window_attention(attn, tokens, windows, n_prefix)
        expected = by_hand(attn, tokens, windows, n_prefix)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_padding_has_no_influence() -> None:
    attn = layer()
    tokens = torch.randn(1, 5 * 7, 16)
    padded = Windows((5, 7), (3, 4))
    with torch.no_grad(), torch.random.fork_rng():
        before = window_attention(attn, tokens, padded, 0)
        # a bias would show in keys and values of places that were padded before the layer
        attn.qkv.bias += 1
        shifted = window_attention(attn, tokens, padded, 0)
        expected = by_hand(attn, tokens, padded, 0)
    assert not torch.allclose(before, shifted)
    torch.testing.assert_close(shifted, expected, atol=1e-6, rtol=1e-5)


def test_half_precision_stays_what_it_is() -> None:
    attn = layer().bfloat16()
    windows = plan_windows((5, 7), 3)
    assert windows is not None
    found = window_attention(attn, torch.randn(1, 36, 16).bfloat16(), windows, 1)
    assert found.dtype == torch.bfloat16
    assert torch.isfinite(found).all()
