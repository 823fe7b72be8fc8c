"""The methods that are compared, each with the settings that decide its result.

The recipes follow each method's own documentation; what differs from it, because the
time is short, is said where it is done (``run_stardist.py``, ``run_cellpose.py``).
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import Any

import dinomask
from dinomask.config import ModelConfig, SegmentConfig, TrainConfig, as_dict
from dinomask.nets.catalogue import find_model, read_manifest
from peers.environments import Environment

RUNNERS = Path(__file__).parent

BUNDLED_MODEL = SegmentConfig().model
"""The checkpoint that users get without asking for another."""

STARDIST_RECIPE = {
    "rays": 32,
    "grid": [2, 2],
    "crop_px": 256,
    "batch": 4,
    "learning_rate": 3e-4,
    "steps_per_epoch": 100,
    "most_epochs": 10_000,
}
"""Its defaults; the grid is the one of its 2-D example."""

CELLPOSE_RECIPE = {
    "diameter_px": 30.0,
    "crop_px": 224,
    "batch": 8,
    "learning_rate": 0.005,
    "weight_decay": 1e-5,
    "most_epochs": 10_000,
    # its default of 5 would leave out images that the others train on
    "fewest_objects": 1,
    # its defaults (10 rounds over crops of 512 px) would take longer than the training itself
    "size_epochs": 2,
    "size_batch": 16,
}
"""The defaults of its `train_seg`."""


@dataclasses.dataclass(frozen=True)
class Method:
    """One method of the comparison.

    Attributes
    ----------
    name : as on the command line
    runner : script that trains and predicts
    recipe : settings that belong to the identity of a trained model
    predict_recipe : settings that decide predictions only
    environment : where the runner runs; None is DINOmask's own
    trained_model : a model that needs no training; None trains one
    """

    name: str
    runner: Path
    recipe: dict[str, Any]
    predict_recipe: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: Environment | None = None
    trained_model: str | None = None

    @property
    def is_trained_here(self) -> bool:
        """Whether the comparison trains it."""
        return self.trained_model is None


def _stardist() -> Method:
    requirements = (
        "stardist==0.9.2",
        "csbdeep==0.8.2",
        "tensorflow-cpu==2.15.1",
        "numpy==1.26.4",
    )
    environment = Environment("stardist", "3.11", requirements)
    runner = RUNNERS / "run_stardist.py"
    return Method("stardist", runner, STARDIST_RECIPE, environment=environment)


def _cellpose() -> Method:
    torch = importlib.metadata.version("torch").split("+")[0]
    # version 4 is a fine-tuned SAM: it has no random start and must be downloaded;
    # the torch is DINOmask's, so that both compute with the same kernels
    requirements = ("cellpose==3.1.1.3", f"torch=={torch}", "numpy==2.0.2", "numba==0.68.1")
    environment = Environment("cellpose", "3.11", requirements)
    runner = RUNNERS / "run_cellpose.py"
    return Method("cellpose", runner, CELLPOSE_RECIPE, environment=environment)


def _dinomask() -> Method:
    recipe = {
        "train": as_dict(TrainConfig()),
        "model": as_dict(ModelConfig()),
        "version": dinomask.__version__,
    }
    return Method("dinomask", RUNNERS / "run_dinomask.py", recipe, as_dict(SegmentConfig()))


def _bundled() -> Method:
    manifest = read_manifest(find_model(BUNDLED_MODEL))
    recipe = {
        "sha256": manifest.weights_sha256,
        "score_threshold": manifest.score_threshold,
        "version": dinomask.__version__,
    }
    return Method(
        "bundled",
        RUNNERS / "run_dinomask.py",
        recipe,
        as_dict(SegmentConfig()),
        trained_model=BUNDLED_MODEL,
    )


MAKERS = {"dinomask": _dinomask, "bundled": _bundled, "stardist": _stardist, "cellpose": _cellpose}
"""The methods by name, in the order of the tables."""


def describe_training(
    method: Method, trained: dict[str, Any], clock: str, threads: int
) -> dict[str, Any]:
    """Return what a reader must know of a training: minutes, steps, crops, parameters, versions.

    Parameters
    ----------
    trained : what the runner stored; empty for a model that came trained
    clock, threads : what the minutes were counted in; one that was trained elsewhere has
        wall time
    """
    if method.trained_model is None:
        fit = trained["times"]["fit"]
        seconds = fit["cpu_s"] / threads if clock == "cpu" else fit["wall_s"]
        return {"minutes": seconds / 60, **trained}
    manifest = read_manifest(find_model(method.trained_model))
    return {
        "minutes": manifest.training["minutes"],
        "steps": manifest.training["steps"],
        "crops": manifest.training["crops"],
        "settings": manifest.training["settings"],
        "trained_on": manifest.trained_on,
    }
