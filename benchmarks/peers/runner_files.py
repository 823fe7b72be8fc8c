"""What the runners share: their job, two clocks, and files that are whole or not there.

The runners work in environments of their own and know nothing of DINOmask; they
are given a ``job.json`` and answer with label images and a json beside them.
Only numpy, tifffile and the standard library are needed here.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Callable

TRAINED_FILE = "trained.json"
"""In a training's folder once it is finished."""

PREDICTED_FILE = "predicted.json"
"""In a folder of label images; lists those that are finished."""


class Clock:
    """Wall and processor time since it was made; one of the two fills the budget.

    Attributes
    ----------
    kind : ``wall``, or ``cpu`` for the processor time of all threads divided by their
        number, which other work on the machine hardly changes
    threads : how many threads work
    """

    def __init__(self, kind: str, threads: int) -> None:
        self.kind = kind
        self.threads = threads
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def times(self) -> dict[str, float]:
        """Return both times in seconds."""
        return {
            "wall_s": round(time.perf_counter() - self._wall_s, 4),
            "cpu_s": round(time.process_time() - self._cpu_s, 4),
        }

    def elapsed_s(self) -> float:
        """Return the time that counts against a budget."""
        if self.kind == "cpu":
            return (time.process_time() - self._cpu_s) / self.threads
        return time.perf_counter() - self._wall_s


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a json file at one stroke."""
    _replace(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a json file; nothing where there is none."""
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_labels(path: Path, labels_yx: Any) -> None:
    """Write a label TIFF at one stroke, 16 bits where the ids fit."""
    fits = int(np.max(labels_yx, initial=0)) <= np.iinfo(np.uint16).max
    temporary = _temporary(path)
    labels = np.asarray(labels_yx).astype(np.uint16 if fits else np.uint32)
    tifffile.imwrite(temporary, labels, compression="zlib")
    _move(temporary, path)


def read_annotated(item: dict[str, str]) -> tuple[Any, Any]:
    """Return an image, shape (Y, X, 3), and its labels, shape (Y, X), int32."""
    with np.load(item["file"]) as arrays:
        return arrays["image_yxc"], arrays["labels_yx"]


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of packages."""
    found = {"python": sys.version.split()[0]}
    return found | {name: importlib.metadata.version(name) for name in packages}


def predict_all(
    job: dict[str, Any],
    load: Callable[[], Callable[[dict[str, str]], Callable[[], Any]]],
    packages: tuple[str, ...],
) -> None:
    """Segment every image of a job that isn't yet; one label TIFF each.

    Parameters
    ----------
    job : with ``val`` and ``predictions``
    load : loads the model and returns a function; that reads an image and returns
        another, which segments it and is timed
    packages : whose versions to store
    """
    folder = Path(job["predictions"])
    folder.mkdir(parents=True, exist_ok=True)
    report = read_json(folder / PREDICTED_FILE) or {"images": {}}
    pending = [item for item in job["val"] if item["id"] not in report["images"]]
    if not pending:
        return
    read = load()
    report["versions"] = versions(*packages)
    read(pending[0])()  # the first call also sets up libraries; nobody's time counts that
    for done, item in enumerate(pending, start=1):
        segment = read(item)
        clock = Clock(job["clock"], job["threads"])
        labels = segment()
        times = clock.times()
        write_labels(folder / f"{item['id']}.tif", labels)
        report["images"][item["id"]] = times
        write_json(folder / PREDICTED_FILE, report)
        print(f"{done}/{len(pending)} {item['id']} {times['wall_s']:.1f} s", flush=True)


def measure_large(job: dict[str, Any], run: Callable[[], dict[str, Any]]) -> None:
    """Time a run over one large image, and note the memory it takes beyond what is loaded.

    Parameters
    ----------
    job : with ``report``, where the figures go
    run : segments and writes the labels; returns what else is to be noted
    """
    before_kib = _memory_kib("VmRSS")
    # from here on the kernel's note of the peak counts anew
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    clock = Clock("wall", job["threads"])
    noted = run()
    times = clock.times()
    peak_mb = (_memory_kib("VmHWM") - before_kib) * 1024 / 1e6
    # the largest of the processes it started, all that they loaded included; they have ended
    worker_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    figures = {**times, "peak_mb": round(peak_mb), "worker_mb": round(worker_mb), **noted}
    write_json(Path(job["report"]), figures)


def _memory_kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def main(
    train: Callable[[dict[str, Any]], dict[str, Any]],
    predict: Callable[[dict[str, Any]], None],
    large: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Do what the command line says: ``train``, ``predict`` or ``large``, and a ``JOB.json``.

    `train` returns what is stored as the sign that the training is finished.
    """
    stage, path = sys.argv[1:]
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    if stage == "predict":
        predict(job)
        return
    if stage == "large" and large is not None:
        large(job)
        return
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / TRAINED_FILE, train(job))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _replace(path: Path, content: bytes) -> None:
    temporary = _temporary(path)
    temporary.write_bytes(content)
    _move(temporary, path)


def _move(temporary: Path, path: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
