"""Train DINOmask from random weights as `dinomask train` does, or segment with a model."""

from __future__ import annotations

import signal
import types
from pathlib import Path
from typing import Any

import runner_files as files

from dinomask.config import SegmentConfig, TrainConfig
from dinomask.image import open_image
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from dinomask.train import loop
from dinomask.train.datasets import find_samples
from dinomask.train.state import STATE_FILE

PACKAGES = ("napari-dinomask", "torch", "torchvision", "timm", "numpy")


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train within the budget; an interrupted training is gone on with."""
    names = {(item["dataset"], item["name"]) for item in job["train"]}
    samples = find_samples([Path(f) for f in job["folders"]], job["train_split"])
    samples = [s for s in samples if (s.dataset, s.name) in names]
    if job["clock"] == "cpu":
        # the loop reads its time here only; processor time makes budgets comparable where
        # other work disturbs
        clock = files.Clock("cpu", job["threads"])
        loop.time = types.SimpleNamespace(monotonic=clock.elapsed_s)  # type: ignore[attr-defined]
    config = TrainConfig(
        minutes=job["minutes"], threads=job["threads"], seed=job["seed"], device="cpu"
    )
    out = Path(job["folder"]) / "model"
    clock, last = files.Clock(job["clock"], job["threads"]), [0]

    def show(progress: loop.TrainProgress) -> None:
        last[0] = progress.step
        if progress.step % 20 == 0:
            print(f"step {progress.step} {progress.fraction:.1%}", flush=True)

    resume = (out / STATE_FILE).is_file()
    manifest = loop.train(samples, out, config, resume=resume, on_step=show)
    model = Predictor.load(SegmentConfig(model=str(out), device="cpu")).model
    return {
        # the parts before an interruption included
        "minutes": manifest.training["minutes"],
        "steps": manifest.training["steps"],
        "crops": manifest.training["crops"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "times": {"fit": {**clock.times(), "resumed": resume}},
        "chosen": {"score_threshold": manifest.score_threshold},
        "versions": files.versions(*PACKAGES),
    }


def predict(job: dict[str, Any]) -> None:
    """Segment as a user would, with the object size estimated."""

    def load() -> Any:
        config = SegmentConfig(model=job["model"], threads=job["threads"], device="cpu")
        predictor = Predictor.load(config)

        def read_one(item: dict[str, str]) -> Any:
            image = open_image(Path(item["image"]))
            return lambda: segment(image, config=config, predictor=predictor).labels_yx

        return read_one

    files.predict_all(job, load, PACKAGES)


def large(job: dict[str, Any]) -> None:
    """Segment one large image tile by tile, from file to file."""
    config = SegmentConfig(
        model=job["model"], diameter_px=job["diameter_px"], threads=job["threads"], device="cpu"
    )
    predictor = Predictor.load(config)
    image = open_image(Path(job["image"]))

    def run() -> dict[str, Any]:
        report = segment(image, Path(job["labels"]), config, predictor=predictor).report
        return {"objects": report["n_instances"], "timings_s": report["timings_s"]}

    files.measure_large(job, run)


def stop(*_: object) -> None:
    """Let the training save its state before it ends."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    files.main(train, predict, large)
