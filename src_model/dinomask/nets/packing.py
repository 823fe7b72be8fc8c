"""How tensors get smaller in a file: zeros left out, and numbers in eight bits.

A tensor of many zeros is stored as its other values and a bit a place; one that was
quantised as whole numbers from −127 to 127 with a scale a row. Both come back to the last
bit: only what has these values already is stored so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from dinomask.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

MASK, VALUES, SHAPE = "|mask", "|values", "|shape"
WHOLE, SCALE = "|int8", "|scale"
"""What the names of a packed tensor's parts end with."""

WORTH_ZEROS = 0.2
"""Share of zeros from which leaving them out pays."""

SMALLEST = 1024
"""Matrices and kernels of fewer numbers, and all vectors, are stored as they are."""

LARGEST = 127
"""Largest whole number of eight bits that is used; symmetric, so that zero is zero."""


def pack(tensors: Mapping[str, Tensor], int8: Collection[str] = ()) -> dict[str, Tensor]:
    """Return what is stored for tensors.

    Parameters
    ----------
    tensors : on the CPU
    int8 : names of those that `quantised` made
    """
    packed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name in int8:
            whole, scale = _to_whole(value)
            packed |= _without_zeros(f"{name}{WHOLE}", whole)
            packed[f"{name}{SCALE}"] = scale
        else:
            packed |= _without_zeros(name, value)
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of which `pack` made these.

    Raises
    ------
    ModelError
        If a part is missing.
    """
    try:
        dense: dict[str, Tensor] = {}
        for name, value in packed.items():
            if name.endswith(MASK):
                plain = name.removesuffix(MASK)
                shape = packed[plain + SHAPE].tolist()
                dense[plain] = _with_zeros(value, packed[plain + VALUES], shape)
            elif not name.endswith((VALUES, SHAPE, SCALE)):
                dense[name] = value
        for name in [n for n in dense if n.endswith(WHOLE)]:
            plain = name.removesuffix(WHOLE)
            dense[plain] = _from_whole(dense.pop(name), packed[plain + SCALE])
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            expected="all parts of a packed tensor",
            got=str(error),
            remedy="Get the file again from where it came; it is damaged.",
        ) from error
    return dense


def quantised(value: Tensor) -> Tensor:
    """Return the values nearest to these that eight bits and a scale a row can hold.

    Doing it twice changes nothing.
    """
    return _from_whole(*_to_whole(value))


def _to_whole(value: Tensor) -> tuple[Tensor, Tensor]:
    rows = value.detach().float().flatten(1) if value.ndim > 1 else value.detach().float()[None]
    scale = rows.abs().amax(1) / LARGEST
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    whole = (rows / scale[:, None]).round().clamp(-LARGEST, LARGEST).to(torch.int8)
    return whole.reshape(value.shape), scale


def _from_whole(whole: Tensor, scale: Tensor) -> Tensor:
    rows = whole.flatten(1) if whole.ndim > 1 else whole[None]
    return (rows.float() * scale[:, None]).reshape(whole.shape)


def _without_zeros(name: str, value: Tensor) -> dict[str, Tensor]:
    value = value.detach().contiguous()
    filled = value != 0
    small = value.ndim < 2 or value.numel() < SMALLEST
    if small or float(filled.float().mean()) > 1 - WORTH_ZEROS:
        return {name: value}
    bits = torch.from_numpy(np.packbits(filled.flatten().numpy()))
    shape = torch.tensor(value.shape, dtype=torch.int64)
    return {f"{name}{MASK}": bits, f"{name}{VALUES}": value[filled], f"{name}{SHAPE}": shape}


def _with_zeros(bits: Tensor, values: Tensor, shape: list[int]) -> Tensor:
    n = int(np.prod(shape))
    filled = torch.from_numpy(np.unpackbits(bits.numpy(), count=n).astype(bool))
    dense = torch.zeros(n, dtype=values.dtype)
    dense[filled] = values
    return dense.reshape(shape)
