"""One row of a table: correct, teach, score; each in a process of its own."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinomask.adapt.finetune import finetune
from dinomask.adapt.taught import limit_images, taught_from_sample
from dinomask.config import SegmentConfig
from dinomask.nets.adapters import TENSORS_FILE
from dinomask.run.predictor import Predictor
from dinomask.train.datasets import find_samples
from dinomask.train.evaluate import evaluate
from teaching.simulated_user import correct, lay_suggested, sit_down

if TYPE_CHECKING:
    from dinomask.adapt.taught import TaughtImage
    from dinomask.config import TeachConfig
    from dinomask.train.samples import Sample


@dataclasses.dataclass(frozen=True)
class Job:
    """One teaching.

    Attributes
    ----------
    row : what the table calls it
    data : folder of a data set
    splits : to learn from, and to judge by
    n_corrected : objects that the simulated user corrects; None takes whole images
    config : settings of the teaching
    seed : of the user and of the choice of images
    modality : beginning of the modalities that are taken; empty for all
    n_images : whole images to learn from; None takes all
    suggested : whether the user corrects where the model suggests, or anywhere
    n_judge : images to judge by, evenly spread; None takes all
    """

    row: str
    data: str
    splits: tuple[str, str]
    n_corrected: int | None
    config: TeachConfig
    seed: int
    modality: str = ""
    n_images: int | None = None
    suggested: bool = False
    n_judge: int | None = None

    def samples(self) -> tuple[list[Sample], list[Sample]]:
        """Return the images to learn from and those to judge by."""
        learn, judge = (
            [
                s
                for s in find_samples([Path(self.data)], split)
                if s.modality.startswith(self.modality)
            ]
            for split in self.splits
        )
        if self.n_judge is not None:
            judge = judge[:: max(1, len(judge) // self.n_judge)][: self.n_judge]
        return learn, judge


def in_own_process(job: Job) -> dict[str, Any]:
    """Do a job in a fresh process, so that peaks of memory don't mix."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(base_row if job.n_corrected == 0 else teach, job).result()


def base_row(job: Job) -> dict[str, Any]:
    """Score the base model."""
    config = SegmentConfig(threads=job.config.threads, model=job.config.model)
    return {"row": job.row, "corrected": 0, **_scores(evaluate(job.samples()[1], config)["mean"])}


def teach(job: Job) -> dict[str, Any]:
    """Correct, teach, and score."""
    learn, judge = job.samples()
    segmenting = SegmentConfig(threads=job.config.threads, model=job.config.model)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        taught, corrected = _material(job, learn, segmenting, folder)
        started = time.perf_counter()
        result = finetune(taught, folder / "work", "few", job.config, folder=folder / "few")
        seconds = time.perf_counter() - started
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        size_mb = (result.folder / TENSORS_FILE).stat().st_size / 1e6
        used = str(result.folder) if result.promoted else None
        scores = evaluate(judge, dataclasses.replace(segmenting, adapter=used))["mean"]
    figures, gate = result.figures, result.figures["gate"]
    before, after = gate["before"], gate["after"]
    return {
        "row": job.row,
        "corrected": corrected,
        "objects": figures["objects"],
        "steps": figures["steps"],
        "trainable_pct": 100 * figures["trainable_weights"] / figures["weights"],
        "seconds_per_step": figures["seconds_per_step"],
        "peak_mb": peak_mb,
        "adapter_mb": size_mb,
        "minutes": seconds / 60,
        "share": gate["share"],
        "promoted": result.promoted,
        "held_out": f"{before['held_out']:.3f} → {after['held_out']:.3f}",
        "reference": f"{before['reference_ap50']:.3f} → {after['reference_ap50']:.3f}",
        **_scores(scores),
    }


def _material(
    job: Job, learn: list[Sample], segmenting: SegmentConfig, folder: Path
) -> tuple[list[TaughtImage], int]:
    """Return what is to be learned, and how many objects were corrected for it."""
    if job.n_corrected is None:
        taught = [taught_from_sample(sample) for sample in learn]
        return taught if job.n_images is None else limit_images(taught, job.n_images, job.seed), 0
    predictor = Predictor.load(segmenting)
    desks = sit_down(learn, predictor, segmenting, folder, job.seed)
    if job.suggested:
        lay_suggested(desks, predictor, segmenting)
    correct(desks, job.n_corrected, in_turn=not job.suggested)
    return [image for d in desks for image in d.taught()], sum(d.n_corrected for d in desks)


def _scores(mean: dict[str, Any]) -> dict[str, Any]:
    picked = {key: mean[key] for key in ("ap50", "ap75", "ap50_95")}
    return picked | {"size": mean["size_within_25pct"]}
