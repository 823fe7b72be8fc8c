"""Train Cellpose 3 and its size model from random weights, or segment with them.

Run in an environment of its own. Cellpose's functions do the work: `train_seg` with its
augmentation and AdamW at its default rate, `train_size` for the linear size model (Stringer
et al. 2021), and the two steps of `Cellpose.eval` at test time, so that no true diameter is
needed. All images are RGB with ``nchan=3`` ("all channels"), grey ones three times the same.

`train_seg` counts epochs, not minutes. So it is given more epochs than it can finish and an
AdamW that sets the rate by the part of the time that is gone, along the curve that `train_seg`
has for 200 epochs: warm-up in the first 5 %, constant, ten halvings in the last 25 %.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import runner_files as files
import torch
from cellpose import dynamics, models, utils
from cellpose import train as cellpose_train

PACKAGES = ("cellpose", "torch", "numpy", "numba", "opencv-python-headless")
NAME = "model"


class TimeUpError(Exception):
    """The budget is spent."""


class BoundedSizeModel(models.SizeModel):
    """A size model that stays within the median diameters of the training images.

    After a short training its line can run far off; an image taken for one of 5-px objects
    would be enlarged sixfold, to no one's use.

    Attributes
    ----------
    bounds_px : smallest and largest diameter
    """

    bounds_px: tuple[float, float]

    def _size_estimation(self, style: Any) -> Any:
        return np.clip(super()._size_estimation(style), *self.bounds_px)

    def diameter_px(self, image_yxc: Any) -> float:
        """Estimate the median diameter in Cellpose's two steps: from style, then from masks."""
        diameter, _ = self.eval(image_yxc, channels=None, channel_axis=-1)
        return float(np.clip(np.squeeze(diameter), *self.bounds_px))


def rate_factor(fraction: float) -> float:
    """Return the learning rate over its peak, by the part of the training that is done."""
    if fraction < 0.05:
        return fraction / 0.05
    if fraction < 0.75:
        return 1.0
    return float(0.5 ** min(10, 1 + int((fraction - 0.75) / 0.025)))


def timed_adamw(job: dict[str, Any], state: dict[str, Any]) -> type[torch.optim.AdamW]:
    """Return an AdamW that ends the training when the time is up; it notes steps in `state`."""
    budget_s = job["minutes"] * 60

    class TimedAdamW(torch.optim.AdamW):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            state["clock"], state["steps"] = files.Clock(job["clock"], job["threads"]), 0

        def step(self, closure: Any = None) -> Any:
            fraction = state["clock"].elapsed_s() / budget_s
            if fraction >= 1:
                raise TimeUpError
            for group in self.param_groups:
                group["lr"] = job["recipe"]["learning_rate"] * rate_factor(fraction)
            state["steps"] += 1
            if state["steps"] % 20 == 0:
                print(f"step {state['steps']} {fraction:.1%}", flush=True)
            return super().step(closure)

    return TimedAdamW


def new_model(job: dict[str, Any], weights: Path | None) -> Any:
    """Build a network of three channels, random or with weights."""
    return models.CellposeModel(
        gpu=False,
        pretrained_model=str(weights) if weights else False,
        diam_mean=job["recipe"]["diameter_px"],
        nchan=3,
    )


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train the network within the budget, then the size model."""
    recipe, times = job["recipe"], {}
    clock = files.Clock(job["clock"], job["threads"])
    pairs = [files.read_annotated(item) for item in job["train"]]
    images = [np.moveaxis(image, -1, 0).astype(np.float32) for image, _ in pairs]
    flows = dynamics.labels_to_flows([labels for _, labels in pairs], device=torch.device("cpu"))
    times["prepare"] = clock.times()
    diameters = [utils.diameters(labels)[0] for _, labels in pairs if labels.any()]
    torch.manual_seed(job["seed"])
    model = new_model(job, None)
    state = fit(job, model.net, images, flows)
    times["fit"] = state["clock"].times()
    weights = Path(job["folder"]) / NAME
    model.net.save_model(str(weights))
    clock = files.Clock(job["clock"], job["threads"])
    cellpose_train.train_size(
        model.net,
        weights,
        images,
        flows,
        channels=None,
        min_train_masks=recipe["fewest_objects"],
        batch_size=recipe["size_batch"],
        bsize=recipe["crop_px"],
        n_epochs=recipe["size_epochs"],
    )
    times["size_model"] = clock.times()
    return {
        "steps": state["steps"],
        "crops": state["steps"] * recipe["batch"],
        "parameters": sum(p.numel() for p in model.net.parameters()),
        "times": times,
        "chosen": {"bounds_px": [float(min(diameters)), float(max(diameters))]},
        "versions": files.versions(*PACKAGES),
    }


def fit(job: dict[str, Any], net: Any, images: list[Any], flows: list[Any]) -> dict[str, Any]:
    """Run `train_seg` until the time is up."""
    recipe = job["recipe"]
    state: dict[str, Any] = {}
    optimiser = mock.patch.object(torch.optim, "AdamW", timed_adamw(job, state))
    try:
        with optimiser:
            cellpose_train.train_seg(
                net,
                images,
                flows,
                channels=None,
                batch_size=recipe["batch"],
                learning_rate=recipe["learning_rate"],
                weight_decay=recipe["weight_decay"],
                SGD=False,
                n_epochs=recipe["most_epochs"],
                bsize=recipe["crop_px"],
                min_train_masks=recipe["fewest_objects"],
                save_every=recipe["most_epochs"],
                save_path=job["folder"],
                model_name="unfinished",
            )
    except TimeUpError:
        return state
    raise RuntimeError("the epochs were spent before the time")  # noqa: EM101


def predict(job: dict[str, Any]) -> None:
    """Segment in Cellpose's two steps: estimate the diameter, then segment with it."""
    weights = Path(job["folder"]) / NAME

    def load() -> Any:
        model = new_model(job, weights)
        # `train_size` shows images at their own scale, so the styles must be taken there too;
        # else a model that isn't built in would see them scaled by its mean diameter
        model.diam_labels = model.diam_mean
        sizes = BoundedSizeModel(model, pretrained_size=f"{weights}_size.npy")
        trained = files.read_json(weights.with_name(files.TRAINED_FILE))
        sizes.bounds_px = tuple(trained["chosen"]["bounds_px"])

        def read_one(item: dict[str, str]) -> Any:
            image, _ = files.read_annotated(item)

            def segment() -> Any:
                diameter = sizes.diameter_px(image)
                return model.eval(image, channels=None, channel_axis=-1, diameter=diameter)[0]

            return segment

        return read_one

    files.predict_all(job, load, PACKAGES)


def large(job: dict[str, Any]) -> None:
    """Segment one large grey image in one call, as Cellpose tiles its network by itself.

    Its distributed run (`cellpose.contrib.distributed_segmentation`) joins blocks of volumes
    alone: with planes it ends in an error.
    """
    model = new_model(job, Path(job["folder"]) / NAME)
    grey = np.load(job["image"], mmap_mode="r")

    def run() -> dict[str, Any]:
        # as the RGB that the network was trained on
        image = np.repeat(np.asarray(grey)[..., None], 3, axis=-1)
        diameter = job["diameter_px"]
        labels = model.eval(image, channels=None, channel_axis=-1, diameter=diameter)[0]
        np.save(job["labels"], labels.astype(np.int32))
        return {"objects": int(labels.max())}

    files.measure_large(job, run)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    files.main(train, predict, large)
