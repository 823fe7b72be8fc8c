"""Train StarDist 2D from random weights, or segment with it; run in its own environment.

As in StarDist's own 2-D training example (Schmidt et al. 2018): percentiles 1 and
99.8 to 0 and 1, holes in labels filled, flips, 90° turns and intensity changes,
a part of the training images held out for the choice of the best weights and of the
two thresholds. All images are RGB, grey ones three times the same, so that one net
knows all of them. Two things differ because the time is short: the
learning rate is constant in the first half and falls along a cosine in the second
(the example halves it when 40 epochs bring nothing, which no short training sees),
and training ends when the time is up.
"""

from __future__ import annotations

import math
import os
from typing import Any

import csbdeep.data
import numpy as np
import runner_files as files
import tensorflow as tf
from csbdeep.utils import normalize
from stardist import fill_label_holes
from stardist.models import Config2D, StarDist2D
from tensorflow import keras

PACKAGES = ("stardist", "csbdeep", "tensorflow-cpu", "numpy")
NAME = "model"


def to_unit(image_yxc: Any) -> Any:
    """Map the percentiles 1 and 99.8 of all channels together to 0 and 1, as float32."""
    return normalize(image_yxc, 1, 99.8, axis=(0, 1, 2), dtype=np.float32)


def augment(image_yxc: Any, labels_yx: Any) -> tuple[Any, Any]:
    """Turn, flip, scale and shift intensities, add noise, as StarDist's example does."""
    turns, flip = np.random.randint(4), np.random.rand() < 0.5  # noqa: NPY002 seeded by StarDist
    image, labels = np.rot90(image_yxc, turns), np.rot90(labels_yx, turns)
    if flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)  # noqa: NPY002
    noise = 0.02 * np.random.uniform(0, 1) * np.random.normal(0, 1, image.shape)  # noqa: NPY002
    return (image + noise).astype(np.float32), labels


class Budget(keras.callbacks.Callback):
    """Sets the learning rate by the part of the time that is gone, and ends the training."""

    def __init__(self, clock: files.Clock, budget_s: float, peak: float) -> None:
        super().__init__()
        self.clock, self.budget_s, self.peak = clock, budget_s, peak
        self.steps = 0

    def rate(self, fraction: float) -> float:
        """Constant, then a cosine down to a hundredth."""
        phase = max(0.0, min(1.0, 2 * fraction - 1))
        return self.peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate of this step."""
        rate = self.rate(self.clock.elapsed_s() / self.budget_s)
        keras.backend.set_value(self.model.optimizer.learning_rate, rate)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop when the time is up; the epoch's validation still runs and keeps the best."""
        self.steps += 1
        if self.clock.elapsed_s() >= self.budget_s:
            self.model.stop_training = True


def read(items: list[dict[str, str]]) -> tuple[list[Any], list[Any]]:
    """Return normalised images and labels without holes."""
    pairs = [files.read_annotated(item) for item in items]
    return [to_unit(image) for image, _ in pairs], [fill_label_holes(y) for _, y in pairs]


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train within the budget, then choose the thresholds on the held-out images."""
    recipe = job["recipe"]
    clock = files.Clock(job["clock"], job["threads"])
    held_out = {item["id"] for item in job["held_out"]}
    images, labels = read([item for item in job["train"] if item["id"] not in held_out])
    validation = read(job["held_out"])
    prepared = clock.times()
    tf.keras.utils.set_random_seed(job["seed"])
    config = Config2D(
        n_rays=recipe["rays"],
        grid=tuple(recipe["grid"]),
        n_channel_in=3,
        train_batch_size=recipe["batch"],
        train_patch_size=(recipe["crop_px"], recipe["crop_px"]),
        train_learning_rate=recipe["learning_rate"],
        train_reduce_lr=None,
        train_tensorboard=False,
    )
    model = StarDist2D(config, name=NAME, basedir=job["folder"])
    model.prepare_for_training()
    clock = files.Clock(job["clock"], job["threads"])
    budget = Budget(clock, job["minutes"] * 60, recipe["learning_rate"])
    model.callbacks.append(budget)
    model.train(
        images,
        labels,
        validation_data=validation,
        augmenter=augment,
        seed=job["seed"],
        epochs=recipe["most_epochs"],
        steps_per_epoch=recipe["steps_per_epoch"],
        workers=0,
    )
    fitted = clock.times()
    clock = files.Clock(job["clock"], job["threads"])
    thresholds = model.optimize_thresholds(*validation)
    return {
        "steps": budget.steps,
        "crops": budget.steps * recipe["batch"],
        "parameters": model.keras_model.count_params(),
        "times": {"prepare": prepared, "fit": fitted, "thresholds": clock.times()},
        "chosen": thresholds,
        "versions": files.versions(*PACKAGES),
    }


def predict(job: dict[str, Any]) -> None:
    """Segment with the trained model and its chosen thresholds."""

    def load() -> Any:
        model = StarDist2D(None, name=NAME, basedir=job["folder"])

        def read_one(item: dict[str, str]) -> Any:
            image, _ = files.read_annotated(item)

            def segment() -> Any:
                unit = to_unit(image)
                tiles = model._guess_n_tiles(unit)
                return model.predict_instances(unit, n_tiles=tiles, show_tile_progress=False)[0]

            return segment

        return read_one

    files.predict_all(job, load, PACKAGES)


def large(job: dict[str, Any]) -> None:
    """Segment one large grey image in blocks, with one normalisation for all of it."""
    model = StarDist2D(None, name=NAME, basedir=job["folder"])
    grey = np.load(job["image"], mmap_mode="r")
    low, high = np.percentile(grey[:: job["stride"], :: job["stride"]], (1, 99.8))

    class Normaliser(csbdeep.data.Normalizer):
        """The same percentiles for every block."""

        do_after = False

        def before(self, x: Any, axes: str) -> Any:
            return ((x - low) / (high - low)).astype(np.float32)

        def after(self, mean: Any, scale: Any, axes: str) -> Any:
            raise NotImplementedError

    def run() -> dict[str, Any]:
        labels = np.lib.format.open_memmap(
            job["labels"], mode="w+", dtype=np.int32, shape=grey.shape
        )
        model.predict_instances_big(
            # no copy: every channel is the same memory
            np.broadcast_to(grey[..., None], (*grey.shape, 3)),
            "YXC",
            block_size=job["block_px"],
            min_overlap=job["overlap_px"],
            context=job["context_px"],
            labels_out=labels,
            normalizer=Normaliser(),
            show_progress=False,
        )
        labels.flush()
        return {"objects": int(labels.max())}

    files.measure_large(job, run)


if __name__ == "__main__":
    # OpenMP and BLAS are limited by the environment, TensorFlow's own threads are not
    tf.config.threading.set_intra_op_parallelism_threads(int(os.environ["OMP_NUM_THREADS"]))
    tf.config.threading.set_inter_op_parallelism_threads(1)
    files.main(train, predict, large)
