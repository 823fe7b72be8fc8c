"""Zeros are where they cost least; two of four is two of four."""

from __future__ import annotations

import pytest
import torch

from dinomask.compress.adapters import most_effective
from dinomask.compress.sparsify import SPARSE_24, largest, sparse_24_paths, two_of_four
from dinomask.compress.subject import Subject
from dinomask.nets.catalogue import Manifest
from tests.compress.small import compressible_model


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_largest_share_stays(share):
    weight = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    mask = largest(weight, share).bool()
    assert int(mask.sum()) == round(share * weight.numel())
    assert weight.abs()[mask].min() >= weight.abs()[~mask].max()


def test_two_of_each_four_stay_and_they_are_the_larger_ones():
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    groups = two_of_four(weight).view(-1, 4)
    assert bool((groups.sum(1) == 2).all())
    own = weight.abs().view(-1, 4)
    assert bool(((own * groups).sum(1) >= (own * (1 - groups)).sum(1)).all())


def test_two_of_four_is_for_layers_whose_sides_fit():
    model = compressible_model()
    assert len(sparse_24_paths(model)) == 4 * len(model.backbone.block_paths)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine can do it")
def test_without_cuda_two_of_four_says_why_not():
    model = compressible_model()
    reason = SPARSE_24.reason_against(Subject(model, Manifest("small", model.config)), None)
    assert "NVIDIA" in reason


def test_entries_of_lora_that_change_the_update_least_go_first():
    chance = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, 30, generator=chance), torch.randn(20, 4, generator=chance)
    # a direction that is hardly used: its entries of A are large and do nothing
    down[3] *= 10
    up[:, 3] *= 1e-4
    keep_down, keep_up = most_effective(down, up, 0.5)
    assert keep_down[3].sum() == 0
    update, sparse = up @ down, (up * keep_up) @ (down * keep_down)
    by_size = (up * largest(up, 0.5)) @ (down * largest(down, 0.5))
    assert (sparse - update).norm() < (by_size - update).norm()
