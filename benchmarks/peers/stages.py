"""Trainings and predictions in processes of their own, each done once and kept."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinomask.errors import CancelledError, DinomaskError
from peers.material import identity, key_of
from peers.runner_files import PREDICTED_FILE, TRAINED_FILE, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peers.methods import Method

STOP_WAIT_S = 60.0
"""Time a stopped process gets to save its state."""


class StageError(DinomaskError):
    """A training or prediction that failed."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What all methods share.

    Attributes
    ----------
    work : folder of everything that is kept
    folders, train_split : where DINOmask finds the training images itself
    train, held_out, val : images as `dinomask`'s converted list has them
    minutes : budget of a training
    threads : of the processor, for each method
    seed : of weights and augmentation
    clock : what the budget and the seconds are counted in, ``wall`` or ``cpu``
    """

    work: Path
    folders: tuple[Path, ...]
    train_split: str
    train: Sequence[dict[str, str]]
    held_out: Sequence[dict[str, str]]
    val: Sequence[dict[str, str]]
    minutes: float
    threads: int
    seed: int
    clock: str

    def training_folder(self, method: Method) -> Path:
        """Return where a method's model stands: a new place for other settings or images."""
        settings: dict[str, Any] = {"recipe": method.recipe}
        if method.is_trained_here:
            settings |= {
                "train": identity(self.train),
                "held_out": identity(self.held_out),
                "minutes": self.minutes,
                "threads": self.threads,
                "seed": self.seed,
                "clock": self.clock,
            }
        if method.environment is not None:
            settings["requirements"] = method.environment.requirements
        return self.work / "runs" / f"{method.name}-{key_of(settings)}"

    def predictions_folder(self, method: Method) -> Path:
        """Return where a method's label images of the val split stand."""
        settings = {
            "val": identity(self.val),
            "recipe": method.predict_recipe,
            "threads": self.threads,
            "clock": self.clock,
        }
        return self.training_folder(method) / f"predictions-{key_of(settings)}"

    def job(self, method: Method) -> dict[str, Any]:
        """Return what the runner is told."""
        folder = self.training_folder(method)
        return {
            "method": method.name,
            "folder": str(folder),
            "folders": [str(f.resolve()) for f in self.folders],
            "train_split": self.train_split,
            "recipe": method.recipe,
            "minutes": self.minutes,
            "threads": self.threads,
            "seed": self.seed,
            "clock": self.clock,
            "model": method.trained_model or str(folder / "model"),
            "train": list(self.train),
            "held_out": list(self.held_out),
            "val": list(self.val),
            "predictions": str(self.predictions_folder(method)),
        }


def train(plan: Plan, method: Method, python: Path) -> dict[str, Any]:
    """Train a method unless that is done; return what its runner stored."""
    if not method.is_trained_here:
        return {}
    folder = plan.training_folder(method)
    trained = read_json(folder / TRAINED_FILE)
    if not trained:
        if method.environment is not None and folder.exists():
            # a peer's unfinished training can't be resumed
            shutil.rmtree(folder)
        print(f"{method.name}: training for {plan.minutes:g} minutes", flush=True)
        _run(plan, method, python, "train")
        trained = read_json(folder / TRAINED_FILE)
    return trained


def predict(plan: Plan, method: Method, python: Path) -> dict[str, Any]:
    """Segment what isn't yet; return the times of every image."""
    folder = plan.predictions_folder(method)
    missing = missing_predictions(plan, method)
    if missing:
        print(f"{method.name}: segmenting {missing} images", flush=True)
        _run(plan, method, python, "predict")
    return read_json(folder / PREDICTED_FILE)


def missing_predictions(plan: Plan, method: Method) -> int:
    """Count the images without a finished prediction."""
    done = read_json(plan.predictions_folder(method) / PREDICTED_FILE).get("images", {})
    return sum(item["id"] not in done for item in plan.val)


def forget_predictions(plan: Plan, method: Method) -> None:
    """Delete a method's label images, so that they are made again."""
    shutil.rmtree(plan.predictions_folder(method), ignore_errors=True)


def runner_environment(plan: Plan) -> dict[str, str]:
    """Return the variables that keep a runner to its threads, to the processor and offline."""
    threads = dict.fromkeys(
        (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "NUMBA_NUM_THREADS",
            "NUMEXPR_NUM_THREADS",
        ),
        str(plan.threads),
    )
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        **threads,
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "Agg",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "CELLPOSE_LOCAL_MODELS_PATH": str(plan.work / "cellpose_models"),
    }


def _run(plan: Plan, method: Method, python: Path, stage: str) -> None:
    folder = plan.training_folder(method)
    folder.mkdir(parents=True, exist_ok=True)
    job, log = folder / f"{stage}.job.json", folder / f"{stage}.log"
    write_json(job, plan.job(method))
    print(f"{method.name}: log in {log}", flush=True)
    command = [str(python), str(method.runner), stage, str(job)]
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=runner_environment(plan),
            start_new_session=True,
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            _stop(process)
            raise CancelledError(
                expected=f"{method.name} to finish its stage {stage!r}",
                got="a request to stop",
                remedy="Run the same command again; finished trainings and images are kept.",
            ) from None
    if code:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise StageError(
            expected=f"{method.name} to finish its stage {stage!r}",
            got=f"exit status {code}: " + " / ".join(last),
            remedy=f"See {log}.",
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a runner; DINOmask's saves its state first."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WAIT_S)
    if process.poll() is None:
        process.kill()
        process.wait()


def stop_like_ctrl_c() -> None:
    """Let a termination, and an interruption where a shell had it ignored, end as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def own_python() -> Path:
    """Return the Python that runs this."""
    return Path(sys.executable)
