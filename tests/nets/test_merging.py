"""Token merging: the most similar go, weights add up, every patch gets its token back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dinomask.nets.merging import (
    Matching,
    Tokens,
    match_tokens,
    merge_tokens,
    single_tokens,
    size_bias,
    unmerge_tokens,
)


def test_the_most_similar_neighbours_in_the_bipartition_merge() -> None:
    # after the prefix: even places 1, 3, 5 propose to odd places 2, 4, 6
    angles = torch.tensor([9.0, 0.0, 1.0, 1.1, 2.0, 0.5, 3.0])
    keys = torch.stack([angles.cos(), angles.sin()], dim=-1)[None]
    matching = match_tokens(keys * torch.rand(1, 7, 1).add(0.1), 2, n_prefix=1)
    assert matching is not None
    # 1.1 is next to 1.0, then 0.5 next to 1.0, and 0.0 next to 1.0 comes last
    assert matching.gone.tolist() == [[3, 5]]
    assert matching.into.tolist() == [[2, 2]]


@pytest.mark.parametrize(("n", "n_prefix", "asked", "gone"), [(9, 1, 100, 4), (6, 5, 3, 0)])
def test_at_most_half_the_tokens_go(n: int, n_prefix: int, asked: int, gone: int) -> None:
    matching = match_tokens(torch.randn(2, n, 4), asked, n_prefix)
    if gone == 0:
        assert matching is None
    else:
        assert matching is not None
        assert matching.gone.shape == (2, gone)


def test_a_mean_weighted_by_size_worked_out_by_hand() -> None:
    values = torch.tensor([[[0.0], [1.0], [10.0], [4.0]]])
    tokens = Tokens(values, torch.tensor([[1.0, 1.0, 3.0, 2.0]]), torch.arange(4)[None])
    # the third and the second go into the fourth
    merged = merge_tokens(tokens, Matching(torch.tensor([[2, 1]]), torch.tensor([[3, 3]])))
    assert merged.values.flatten().tolist() == pytest.approx([0, (1 + 30 + 8) / 6])
    assert merged.sizes.tolist() == [[1, 6]]
    assert merged.owners.tolist() == [[0, 1, 1, 1]]


@given(
    st.integers(2, 20), st.integers(0, 3), st.lists(st.integers(1, 6), max_size=4), st.integers(0)
)
def test_merging_again_and_again_keeps_means_and_shape(
    n: int, n_prefix: int, rounds: list[int], seed: int
) -> None:
    torch.manual_seed(seed % 2**31)
    first = torch.randn(2, n_prefix + n, 3, dtype=torch.float64)
    tokens = single_tokens(first)
    for n_merged in rounds:
        matching = match_tokens(torch.randn(2, tokens.values.shape[1], 4), n_merged, n_prefix)
        if matching is not None:
            tokens = merge_tokens(tokens, matching)
    dense = unmerge_tokens(tokens.values, tokens.owners)
    assert dense.shape == first.shape
    assert torch.equal(dense[:, :n_prefix], first[:, :n_prefix])
    assert tokens.sizes.sum(1).tolist() == [n_prefix + n] * 2
    for b in range(2):
        for token, size in enumerate(tokens.sizes[b]):
            own = first[b, tokens.owners[b] == token]
            assert len(own) == size
            torch.testing.assert_close(tokens.values[b, token], own.mean(0))


def test_tokens_that_take_none_in_are_untouched() -> None:
    tokens = single_tokens(torch.randn(1, 30, 4))
    matching = match_tokens(torch.randn(1, 30, 4), 5, 0)
    assert matching is not None
    merged = merge_tokens(tokens, matching)
    alone = merged.sizes[0] == 1
    assert 15 < alone.sum() < 25
    dense = unmerge_tokens(merged.values, merged.owners)[0]
    single = alone[merged.owners[0]]
    assert torch.equal(dense[single], tokens.values[0, single])


def test_attention_weighted_by_size_sees_the_copies() -> None:
    # attending to a token of size 3 is attending to three of them
    q, k, v = torch.randn(3, 1, 2, 5, 4)
    tokens = Tokens(torch.zeros(1, 5, 8), torch.tensor([[1.0, 3, 1, 2, 1]]), torch.zeros(1, 5))
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=size_bias(tokens))
    times = torch.tensor([1, 3, 1, 2, 1])
    expected = F.scaled_dot_product_attention(
        q, k.repeat_interleave(times, 2), v.repeat_interleave(times, 2)
    )
    torch.testing.assert_close(found, expected)


def test_gradients_are_shared_by_weight() -> None:
    values = torch.randn(1, 4, 2, requires_grad=True)
    merged = merge_tokens(single_tokens(values), Matching(torch.tensor([[0]]), torch.tensor([[1]])))
    merged.values[0, 0].sum().backward()
    assert values.grad is not None
    assert values.grad[0, :, 0].tolist() == [0.5, 0.5, 0, 0]
