"""Position embeddings in operations that can be exported."""

from __future__ import annotations

import pytest
import torch
from timm.layers import resample_abs_pos_embed

from dinomask.compress.exportable import add_positions, cubic_weights
from tests.nets.small import small_vit


@pytest.mark.parametrize("n_in", [4, 16, 32])
@pytest.mark.parametrize("n_out", [1, 5, 16, 41])
def test_weights_are_those_of_antialiased_bicubic_interpolation(n_in, n_out):
    line = torch.rand(1, n_in * n_in, 3)
    expected = resample_abs_pos_embed(line, (n_out, n_in), (n_in, n_in), num_prefix_tokens=0)
    rows = torch.einsum("yi,ijc->yjc", cubic_weights(n_out, n_in), line.reshape(n_in, n_in, 3))
    torch.testing.assert_close(rows.reshape(1, -1, 3), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(cubic_weights(n_out, n_in).sum(1), torch.ones(n_out))


@pytest.mark.parametrize("registers", [0, 4])
def test_tokens_are_those_of_timm_with_and_without_a_prefix_that_has_places(registers):
    torch.manual_seed(0)
    vit = small_vit(registers=registers).eval()
    with torch.no_grad():
        vit.pos_embed.normal_()
        grid = torch.rand(2, 5, 7, 32)
        torch.testing.assert_close(add_positions(vit, grid), vit._pos_embed(grid))
