"""In which arithmetic a network runs."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


def has_fast_bf16(device: torch.device) -> bool:
    """Tell whether matrix products in bfloat16 are faster than in float32.

    On CPUs without matrix units (AMX) they are slower.
    """
    return device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """Resolve a choice of precision on a device; ``auto`` takes what is faster."""
    return has_fast_bf16(device) if precision == "auto" else precision == "bf16"
