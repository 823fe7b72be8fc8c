"""StarDist on the same images, where `benchmarks/accuracy.py` has trained one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from peers import material, methods
from peers.runner_files import PREDICTED_FILE, TRAINED_FILE, read_json, write_json
from peers.stages import Plan, runner_environment

from dinomask.measure.matching import mean_scores, score_image
from dinomask.train.evaluate import leave_out_unsupervised

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dinomask.train.datasets import Sample


def find_stardist(work: Path) -> Path | None:
    """Return the folder of the StarDist that was trained last; None if there is none.

    Parameters
    ----------
    work : folder of `benchmarks/accuracy.py`
    """
    found = list((work / "runs").glob(f"stardist-*/{TRAINED_FILE}"))
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def measure_stardist(
    work: Path, trained: Path, samples: Sequence[Sample], folder: Path, threads: int
) -> dict[str, Any]:
    """Segment samples with StarDist, and score and time it as its own benchmark does.

    Parameters
    ----------
    work : of `benchmarks/accuracy.py`, with the environment
    trained : from `find_stardist`
    samples : annotated images
    folder : of its label images; replaced files are timed anew
    threads : of the processor
    """
    method = methods.MAKERS["stardist"]()
    environment = method.environment
    if environment is None:
        return {}
    python = environment.build(work / "environments")
    items = material.convert(samples, folder / "images")
    job = {
        "folder": str(trained),
        "threads": threads,
        "clock": "wall",
        "val": items,
        "predictions": str(folder / "predictions"),
    }
    path = folder / "job.json"
    write_json(path, job)
    plan = Plan(work, (), "", (), (), items, 0, threads, 0, "wall")
    with (folder / "log.txt").open("ab") as log:
        subprocess.run(
            [str(python), str(method.runner), "predict", str(path)],
            env=runner_environment(plan),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
    times = read_json(folder / "predictions" / PREDICTED_FILE)["images"]
    scores, n_px = [], 0
    for sample, item in zip(samples, items, strict=True):
        _, labels, _ = sample.read()
        found = tifffile.imread(folder / "predictions" / f"{item['id']}.tif").astype(np.int32)
        scores.append(score_image(*leave_out_unsupervised(labels, found)))
        n_px += labels.size
    seconds = {clock: sum(t[f"{clock}_s"] for t in times.values()) for clock in ("wall", "cpu")}
    return {
        "ap50": mean_scores(scores).ap[0],
        "px_per_s": n_px / seconds["wall"],
        "px_per_cpu_s": n_px / seconds["cpu"],
        "trained": read_json(trained / TRAINED_FILE).get("steps"),
        "images": len(items),
    }
