"""Small works that the process of a teaching can do in place of a training."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt.progress import TeachProgress, TeachResult
from dinomask.config import FitConfig
from dinomask.nets.adapter_manifest import AdapterManifest, adapters_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dinomask.adapt.taught import TaughtImage
    from dinomask.config import TeachConfig

SAVE_EVERY = 10
STEP_S = 0.02


def count(
    taught: Sequence[TaughtImage],
    *,
    out: Path,
    name: str,
    config: TeachConfig,
    on_progress: Callable[[TeachProgress], None],
) -> TeachResult:
    """Count to `config.steps`, busily, with a state that is saved now and then."""
    out.mkdir(parents=True, exist_ok=True)
    state = out / "step.txt"
    first = step = int(state.read_text()) if state.exists() else 0
    total = config.steps or 0
    try:
        while step < total:
            end = time.perf_counter() + STEP_S
            while time.perf_counter() < end:
                pass
            step += 1
            if step % SAVE_EVERY == 0:
                state.write_text(str(step))
            on_progress(TeachProgress("train", step, step / total, 0.0, 0.0, 1 / step))
    finally:
        state.write_text(str(step))
    (out / name).mkdir(exist_ok=True)
    return TeachResult(out / name, True, "It counted.", _figures(taught, first))


def _figures(taught: Sequence[TaughtImage], first: int) -> dict[str, object]:
    return {
        "first": first,
        "objects": sum(image.n_objects for image in taught),
        "dtypes": [str(image.image_cyx.dtype) for image in taught],
        "nice": os.nice(0) if hasattr(os, "nice") else None,
        "threads": os.environ["OMP_NUM_THREADS"],
        "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    }


def shelve(*_: object, name: str, config: TeachConfig, **__: object) -> TeachResult:
    """Put an adapter on the shelf, good or not by its mode."""
    folder = adapters_folder() / name
    folder.mkdir(parents=True)
    manifest = AdapterManifest(name, "base", "b" * 64, FitConfig("frozen"), f"{len(name):064}")
    (folder / "adapter.json").write_bytes(manifest.as_json())
    return TeachResult(folder, config.mode == "lora", "So it is.")


def dawdle(*_: object, on_progress: Callable[[TeachProgress], None], **__: object) -> TeachResult:
    """Take very long for a step."""
    on_progress(TeachProgress("train", 1, 0.0, 0.0, 0.0))
    time.sleep(60)
    raise AssertionError


def stumble(taught: Sequence[TaughtImage], **_: object) -> TeachResult:
    """Fail as a program does."""
    return TeachResult(taught[0].no_such_field, True, "")  # type: ignore[attr-defined]


def starve(*_: object, **__: object) -> TeachResult:
    """Ask for more memory than any machine has."""
    np.empty(2**55)
    raise AssertionError


def fill(
    taught: object, *, out: Path, on_progress: Callable[[TeachProgress], None], **_: object
) -> TeachResult:
    """Report until the disk is full."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    for step in range(1, 1000):
        on_progress(TeachProgress("train", step, 0.0, 0.0, 0.0, 1.0, held_out=0.5))
    raise AssertionError(json.dumps(str(out)))
