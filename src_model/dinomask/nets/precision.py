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


def processor_abilities() -> dict[str, bool]:
    """Tell what this machine's processor can do, by the names that artefacts ask for.

    ``vnni`` multiplies 8-bit integers and adds the products up without overflow;
    ``amx_int8`` and ``amx_bf16`` are matrix units; ``avx512_bf16`` multiplies pairs of bfloat16.
    """
    found = torch.cpu.get_capabilities()

    def has(*names: str) -> bool:
        return any(bool(found.get(name, False)) for name in names)

    x86 = found.get("architecture", "x86_64") == "x86_64"
    return {
        # ARM's dot products don't overflow
        "vnni": has("avx512_vnni", "avx_vnni", "avx_vnni_int8") or not x86,
        "amx_int8": has("amx_int8"),
        "amx_bf16": has("amx_bf16"),
        "avx512_bf16": has("avx512_bf16"),
    }
