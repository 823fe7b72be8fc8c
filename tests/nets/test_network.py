"""Masks drawn in groups: of few sizes, and each as if it were drawn alone."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dinomask.nets.network import GROUP, GROUP_STEP, draw_in_groups

SIDE = 4


def heads(pooled, detail):
    assert len(pooled) == len(detail)
    sizes.append(len(pooled))
    # what a mask is made of comes from its own RoI alone
    return pooled.mean(1) + detail.amax(1), pooled.flatten(1).sum(1, keepdim=True)


sizes: list[int] = []


@given(n=st.integers(1, 3 * GROUP))
@settings(deadline=None, max_examples=50)
def test_groups_are_of_few_sizes_and_keep_every_mask_in_order(n):
    sizes.clear()
    generator = torch.Generator().manual_seed(n)
    pooled = torch.rand(n, 3, SIDE, SIDE, generator=generator)
    detail = torch.rand(n, 2, SIDE, SIDE, generator=generator)
    logits, iou = draw_in_groups(heads, pooled, detail)
    assert all(size % GROUP_STEP == 0 and size <= GROUP for size in sizes)
    assert sum(sizes) < n + GROUP_STEP
    whole = heads(pooled, detail)
    torch.testing.assert_close(logits, whole[0])
    torch.testing.assert_close(iou, whole[1])
