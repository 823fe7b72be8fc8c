"""What every report carries beside its figures."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch

import dinomask
from dinomask.config import as_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.config import SegmentConfig
    from dinomask.image.doctor import Finding
    from dinomask.run.detect import Detected
    from dinomask.run.engines import Engine
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


class Stopwatch:
    """Seconds that the stages of a run took."""

    def __init__(self) -> None:
        self.timings_s: dict[str, float] = {}
        self._started_s = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Note the time since the last lap."""
        now_s = time.perf_counter()
        self.timings_s[stage] = round(now_s - self._started_s, 4)
        self._started_s = now_s


def run_report(
    predictor: Predictor,
    config: SegmentConfig,
    engine: Engine,
    tiles: Detected,
    watch: Stopwatch,
    failed: Sequence[Any],
    findings: Sequence[Finding],
) -> dict[str, Any]:
    """Return what reports of an image and of a stack have in common.

    Parameters
    ----------
    failed : a record, a dataclass, a tile that failed
    """
    return {
        **header(predictor),
        "settings": as_dict(config),
        "engine": engine.describe(config),
        **dataclasses.asdict(tiles),
        "failed_tiles": [dataclasses.asdict(tile) for tile in failed],
        "timings_s": watch.timings_s,
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }


def px_per_s(shape: tuple[int, ...], tiles: Detected, watch: Stopwatch) -> int:
    """Return the speed of what was done in this run, without tiles of an earlier one.

    Parameters
    ----------
    shape : of all that was to be segmented, in pixels
    """
    stages = ("size", "detect", "stitch", "render")
    work_s = sum(watch.timings_s.get(stage, 0.0) for stage in stages)
    share = 1 - tiles.n_resumed / tiles.n_tiles
    return round(float(np.prod(shape)) * share / max(work_s, 1e-9))
