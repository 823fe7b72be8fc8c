"""Packed tensors come back to the last bit, and take less room."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from dinomask.errors import ModelError
from dinomask.nets.packing import pack, quantised, unpack


@given(
    shape=st.lists(st.integers(1, 9), min_size=0, max_size=4),
    zeros=st.floats(0, 1),
    seed=st.integers(0, 100),
    half=st.booleans(),
    int8=st.booleans(),
)
def test_what_is_packed_comes_back_to_the_last_bit(shape, zeros, seed, half, int8):
    chance = np.random.default_rng(seed)
    values = torch.from_numpy(np.asarray(chance.normal(size=shape), np.float32))
    values = values * torch.from_numpy(np.asarray(chance.random(shape) >= zeros))
    values = quantised(values) if int8 and values.ndim else values.half() if half else values
    names = ["w"] if int8 and values.ndim else []
    back = unpack(pack({"w": values}, int8=names))["w"]
    assert back.dtype == values.dtype and back.shape == values.shape
    assert torch.equal(back, values)


def test_zeros_and_eight_bits_make_files_smaller():
    dense = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)).half()
    sparse = dense * (dense.abs() > dense.abs().median())
    plain = len(save(pack({"w": dense})))
    assert len(save(pack({"w": sparse}))) < 0.6 * plain
    assert len(save(pack({"w": quantised(dense)}, int8=["w"]))) < 0.55 * plain


def test_quantising_twice_changes_nothing_and_errs_by_half_a_step():
    values = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    once = quantised(values)
    assert torch.equal(quantised(once), once)
    step = values.abs().amax(1, keepdim=True) / 127
    assert bool(((once - values).abs() <= 0.5001 * step).all())


def test_a_part_that_is_missing_is_noticed():
    packed = pack({"w": torch.eye(64)})
    packed.pop("w|values")
    with pytest.raises(ModelError, match="all parts"):
        unpack(packed)
