"""What a model was trained on, as a small statistic that other images are held against.

``reference.safetensors`` beside a checkpoint's weights holds mean and covariance of the
deepest tokens of images like those it was trained on, and how far each of these images
by itself lies from all others. An image that lies farther than nearly all of them is
outside of what the model was trained on. The file names the weights by their hash:
beside other weights it is no reference.

    dinomask explain reference MODEL DATA [DATA …]
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from dinomask.config import SegmentConfig
from dinomask.errors import DataError, ModelError
from dinomask.explain.layer_tokens import sample_tokens
from dinomask.explain.seen import SeenImage
from dinomask.explain.shift import Moments, relative_frechet
from dinomask.image.source import open_image
from dinomask.nets.zoo import write_together
from dinomask.run.progress import OnProgress, Progress
from dinomask.train.datasets import find_data, median_diameter_px
from dinomask.train.generate import KINDS, generate_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dinomask.instances import Array
    from dinomask.run.predictor import Predictor
    from dinomask.train.samples import Sample

REFERENCE_FILE = "reference.safetensors"
N_IMAGES = 160
N_TOKENS = 512
"""Places of each image. As many of an image that is held against them: how far few
tokens seem to lie depends on their number."""

GENERATED_SHARE = 0.1
"""Part of generated images, as in the training of the bundled model."""

GENERATED_PX = 320
EDGE_PCT, OUTSIDE_PCT = 90.0, 99.0
"""Images that lie farther than so many percent of the reference's are at its edge, or
outside of it."""

LEAST_IMAGES = 8
SEED = 20262

Verdict = Literal["inside", "edge", "outside"]


@dataclasses.dataclass(frozen=True)
class Reference:
    """Tokens of images like those a model was trained on.

    Attributes
    ----------
    weights_sha256 : the model's
    moments : of the tokens of all images, each image counting alike
    distances : shape (n,), ascending; how far each image lies from all others
    sources : names of the data and numbers of images
    """

    weights_sha256: str
    moments: Moments
    distances: Array
    sources: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Typicality:
    """How an image lies to what a model was trained on.

    Attributes
    ----------
    verdict : inside, at the edge, or outside
    distance : Fréchet distance, in spreads of the reference
    percentile : percent of the reference's own images that lie nearer
    sentence : the same in words
    """

    verdict: Verdict
    distance: float
    percentile: float
    sentence: str


def make_reference(
    predictor: Predictor,
    folders: Sequence[Path],
    *,
    n_images: int = N_IMAGES,
    generated_share: float = GENERATED_SHARE,
    on_progress: OnProgress | None = None,
) -> Reference:
    """Measure annotated images of a training, and some generated ones.

    Parameters
    ----------
    predictor : the bare model
    folders : data sets it was trained on; of those with splits, the one called train
    n_images : in all, drawn at random with a fixed seed
    generated_share : part of generated images
    on_progress : told after each image; may raise to stop

    Raises
    ------
    DataError
        If there are too few images with objects.
    """
    started = time.monotonic()
    moments: list[Moments] = []
    sources: dict[str, int] = {}
    for name, seen in _images(predictor, folders, n_images, generated_share):
        moments.append(_moments(seen))
        sources[name] = sources.get(name, 0) + 1
        if on_progress:
            elapsed = time.monotonic() - started
            on_progress(Progress("explain", len(moments), n_images, elapsed))
    if len(moments) < LEAST_IMAGES:
        raise DataError(
            expected=f"at least {LEAST_IMAGES} images with objects",
            got=f"{len(moments)}",
            remedy="Name the folders of the data that the model was trained on.",
        )
    distances = [
        relative_frechet(_pool(moments[:i] + moments[i + 1 :]), one)
        for i, one in enumerate(moments)
    ]
    sha256 = predictor.manifest.weights_sha256
    return Reference(sha256, _pool(moments), np.sort(distances), sources)


def write_reference(reference: Reference, folder: Path) -> Path:
    """Put a reference beside a checkpoint's weights.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    tensors = {
        "mean": reference.moments.mean.astype(np.float32),
        "covariance": reference.moments.covariance.astype(np.float32),
        "distances": reference.distances.astype(np.float32),
    }
    about = {"weights_sha256": reference.weights_sha256, "sources": json.dumps(reference.sources)}
    path = folder / REFERENCE_FILE
    write_together({path: safetensors.numpy.save(tensors, about)})
    return path


def read_reference(folder: Path, weights_sha256: str) -> Reference | None:
    """Read the reference of a checkpoint; None if there is none for these weights.

    Raises
    ------
    ModelError
        If the file is damaged.
    """
    path = folder / REFERENCE_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "numpy") as file:
            about: dict[str, Any] = file.metadata() or {}
            if about.get("weights_sha256") != weights_sha256:
                return None
            mean, covariance, distances = (
                np.asarray(file.get_tensor(name), np.float64)
                for name in ("mean", "covariance", "distances")
            )
            sources = json.loads(about["sources"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(
            expected=f"a {REFERENCE_FILE} of DINOmask",
            got=f"{path}: {error}",
            remedy="Delete it, or make it anew: dinomask explain reference.",
        ) from error
    return Reference(weights_sha256, Moments(mean, covariance), distances, sources)


def typicality(reference: Reference, seen: SeenImage) -> Typicality:
    """Hold an image against a reference.

    Parameters
    ----------
    seen : with the model of the reference, without an adapter
    """
    return judge(reference, relative_frechet(reference.moments, _moments(seen)))


def judge(reference: Reference, distance: float) -> Typicality:
    """Say how a distance compares with those of the reference's own images."""
    below = float(100 * np.mean(reference.distances < distance))
    verdict: Verdict
    if below > OUTSIDE_PCT:
        verdict, said = "outside", "This image lies outside what the model was trained on"
    elif below > EDGE_PCT:
        verdict, said = "edge", "This image lies at the edge of what the model was trained on"
    else:
        verdict, said = "inside", "This image is like those the model was trained on"
    times = distance / max(float(np.median(reference.distances)), 1e-12)
    sentence = (
        f"{said}: it lies farther from them than {below:.0f} % of these {len(reference.distances)} "
        f"do from one another ({times:.1f} times the usual distance)."
    )
    return Typicality(verdict, distance, below, sentence)


def _moments(seen: SeenImage) -> Moments:
    sampled = sample_tokens(seen, N_TOKENS, last_only=True, seed=SEED)
    return Moments.of(next(iter(sampled.layers.values())))


def _pool(moments: Sequence[Moments]) -> Moments:
    """Join images, each counting alike: total covariance is within plus between."""
    means = np.array([m.mean for m in moments])
    within = np.mean([m.covariance for m in moments], axis=0)
    return Moments(means.mean(axis=0), within + np.cov(means, rowvar=False, bias=True))


def _images(
    predictor: Predictor, folders: Sequence[Path], n_images: int, generated_share: float
) -> Iterator[tuple[str, SeenImage]]:
    """Yield images as the model sees them, at their objects' true size."""
    rng = np.random.default_rng(SEED)
    samples = list(_training_samples(folders))
    n_generated = round(n_images * generated_share)
    for i in rng.permutation(len(samples))[: n_images - n_generated].tolist():
        image_cyx, labels, is_rgb = samples[i].read()
        seen = _seen(predictor, image_cyx, labels, is_rgb)
        if seen is not None:
            yield samples[i].dataset, seen
    for number in range(n_generated):
        chance = np.random.default_rng((SEED, number))
        kind = list(KINDS)[number % len(KINDS)]
        seen = _seen(predictor, *generate_image(chance, kind, GENERATED_PX))
        if seen is not None:
            yield "generated", seen


def _training_samples(folders: Sequence[Path]) -> Iterator[Sample]:
    for folder in folders:
        found = find_data([folder]).samples
        train = [sample for sample in found if sample.split == "train"]
        yield from train or found


def _seen(
    predictor: Predictor, image_cyx: Array, labels_yx: Array, is_rgb: bool
) -> SeenImage | None:
    diameter_px = median_diameter_px(np.maximum(labels_yx, 0))
    if diameter_px is None or min(image_cyx.shape[1:]) < 4:
        return None
    if is_rgb:
        image = open_image(np.moveaxis(image_cyx, 0, 2), axes="yxs")
    else:
        image = open_image(image_cyx, axes="cyx", channels=tuple(range(len(image_cyx))))
    config = SegmentConfig(diameter_px=max(diameter_px, 1.0))
    return SeenImage.of(image, config, predictor)
