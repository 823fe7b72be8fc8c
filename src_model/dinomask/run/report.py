"""What every report carries beside its figures."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch

import dinomask

if TYPE_CHECKING:
    from dinomask.run.predictor import Predictor


DECISIVE_FEATURES = ("amx", "avx2", "avx512", "avx_vnni", "bf16", "i8mm", "dot", "neon", "sve")
"""How names of features begin that networks run faster with."""


def machine() -> dict[str, Any]:
    """Describe the machine and the libraries that decide speed and results."""
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "processor_features": processor_features(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def processor_features() -> list[str]:
    """Name what the processor can do that decides which arithmetic is fast, such as avx512_vnni."""
    known = torch.cpu.get_capabilities()
    return sorted(n for n, v in known.items() if v is True and n.startswith(DECISIVE_FEATURES))


def header(predictor: Predictor) -> dict[str, Any]:
    """Return version, model, adapter and machine, for the top of a json report."""
    manifest, adapter = predictor.manifest, predictor.adapter
    return {
        "dinomask_version": dinomask.__version__,
        "model": {"name": manifest.name, "sha256": manifest.weights_sha256},
        "adapter": adapter and {"name": adapter.name, "sha256": predictor.adapter_sha256},
        "device": str(predictor.device),
        "precision": predictor.precision,
        "machine": machine(),
    }
