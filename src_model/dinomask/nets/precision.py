"""In which arithmetic a network runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from dinomask.nets.catalogue import Precision


def has_fast_bf16(device: torch.device) -> bool:
    """Tell whether matrix products in bfloat16 are faster than in float32.

    On CPUs without matrix units (AMX) they are slower.
    """
    return device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """Resolve a choice of precision on a device; ``auto`` takes what is faster."""
    return choose_dtype(precision, device) == torch.bfloat16


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type of matrix products; ``auto`` takes what is faster on the device.

    Half precision needs CUDA: on a CPU ``fp16`` is ``auto``.
    """
    if precision == "fp16" and device.type == "cuda":
        return torch.float16
    if precision in ("auto", "fp16"):
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
