"""What a model was trained on, as a small file that other images are held against.

``reference.safetensors`` beside a checkpoint's weights holds the mean token of each of many
images like those it was trained on, and how far each real one of these lies from the others
most like it. An image that lies farther from its nearest than nearly all of them do is
outside of what the model was trained on. The file names the weights by their hash: beside
other weights it is no reference.

Distance to the nearest neighbours in features: Sun et al., arXiv 2204.06507. One mean and
covariance of all would not do: images of several kinds span a space in which anything lies.
Generated images are all different by design, so they are no measure of what is usual.

    dinomask explain reference MODEL DATA [DATA …]
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from dinomask.config import SegmentConfig
from dinomask.errors import DataError, ModelError
from dinomask.explain.layer_tokens import sample_tokens
from dinomask.explain.seen import SeenImage
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
DEPTH = 0.5
"""How deep the layer lies. The deepest ones keep what tells objects from background and
little of the rest, so that images of other kinds come to lie among those of the training."""

N_NEIGHBOURS = 5
N_IMAGES = 600
"""At most."""

N_TOKENS = 512
"""Places of each image."""

GENERATED_SHARE = 0.1
"""Part of generated images, as in the training of the bundled model."""

GENERATED_PX = 320
_GENERATED = "generated"
EDGE_PCT, OUTSIDE_PCT = 90.0, 99.0
"""Images that lie farther than so many percent of the reference's are at its edge, or
outside of it."""

LEAST_IMAGES = 8
SEED = 20262

Verdict = Literal["inside", "edge", "outside"]


@dataclasses.dataclass(frozen=True)
class Reference:
    """Images like those a model was trained on, as it sees them.

    Attributes
    ----------
    weights_sha256 : the model's
    directions : shape (n, D); mean token of each image, of length 1
    distances : shape (m,), ascending; of each real image from those most like it
    sources : names of the data and numbers of images
    """

    weights_sha256: str
    directions: Array
    distances: Array
    sources: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Typicality:
    """How an image lies to what a model was trained on.

    Attributes
    ----------
    verdict : inside, at the edge, or outside
    distance : mean distance from the most similar images, 0 to 2
    percentile : percent of the reference's own images that lie nearer to theirs
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
    """Look at annotated images of a training, and some generated ones.

    Parameters
    ----------
    predictor : the bare model
    folders : data sets it was trained on; of those with splits, the one called train
    n_images : at most, drawn at random with a fixed seed
    generated_share : part of generated images
    on_progress : told after each image; may raise to stop

    Raises
    ------
    DataError
        If there are too few images with objects.
    """
    started = time.monotonic()
    samples = list(_training_samples(folders))
    n_real = min(len(samples), n_images - round(n_images * generated_share))
    n_generated = round(n_real * generated_share / (1 - generated_share))
    directions: list[Array] = []
    names: list[str] = []
    for name, seen in _images(predictor, samples, n_real, n_generated):
        directions.append(_direction(seen))
        names.append(name)
        if on_progress:
            elapsed = time.monotonic() - started
            on_progress(Progress("explain", len(names), n_real + n_generated, elapsed))
    is_real = np.array([name != _GENERATED for name in names], bool)
    if is_real.sum() < LEAST_IMAGES:
        raise DataError(
            expected=f"at least {LEAST_IMAGES} images with objects",
            got=f"{is_real.sum()}",
            remedy="Name the folders of the data that the model was trained on.",
        )
    all_nd = np.array(directions)
    apart = np.linalg.norm(all_nd[is_real][:, None] - all_nd[None], axis=2)
    apart[np.arange(len(apart)), np.flatnonzero(is_real)] = np.inf
    sha256 = predictor.manifest.weights_sha256
    return Reference(sha256, all_nd, np.sort(_nearest(apart)), dict(Counter(names)))


def write_reference(reference: Reference, folder: Path) -> Path:
    """Put a reference beside a checkpoint's weights.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    tensors: dict[str, Array] = {
        # half precision: errors are a thousandth of the distances
        "directions": reference.directions.astype(np.float16),
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
            directions, distances = (
                np.asarray(file.get_tensor(name), np.float64)
                for name in ("directions", "distances")
            )
            sources = json.loads(about["sources"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(
            expected=f"a {REFERENCE_FILE} of DINOmask",
            got=f"{path}: {error}",
            remedy="Delete it, or make it anew: dinomask explain reference.",
        ) from error
    return Reference(weights_sha256, directions, distances, sources)


def typicality(reference: Reference, seen: SeenImage) -> Typicality:
    """Hold an image against a reference.

    Parameters
    ----------
    seen : with the model of the reference, without an adapter
    """
    apart = np.linalg.norm(reference.directions - _direction(seen), axis=1)
    return judge(reference, float(_nearest(apart[None])[0]))


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
        f"{said}: {below:.0f} % of {len(reference.distances)} of these are more like their nearest "
        f"ones than it is ({times:.1f} times the usual distance)."
    )
    return Typicality(verdict, distance, below, sentence)


def _direction(seen: SeenImage) -> Array:
    """Return the mean token of some places of an image, of length 1, shape (D,)."""
    layer = max(round(DEPTH * seen.predictor.model.backbone.n_layers) - 1, 0)
    tokens_nd = sample_tokens(seen, N_TOKENS, layer=layer, seed=SEED).layers[layer]
    mean: Array = np.asarray(tokens_nd, np.float64).mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _nearest(distances_mn: Array) -> Array:
    """Return the mean of the smallest distances of each row, shape (M,)."""
    nearest: Array = np.sort(distances_mn, axis=1)[:, :N_NEIGHBOURS].mean(axis=1)
    return nearest


def _images(
    predictor: Predictor, samples: Sequence[Sample], n_real: int, n_generated: int
) -> Iterator[tuple[str, SeenImage]]:
    """Yield images as the model sees them, at their objects' true size."""
    rng = np.random.default_rng(SEED)
    for i in rng.permutation(len(samples))[:n_real].tolist():
        image_cyx, labels, is_rgb = samples[i].read()
        seen = _seen(predictor, image_cyx, labels, is_rgb)
        if seen is not None:
            yield samples[i].dataset, seen
    for number in range(n_generated):
        chance = np.random.default_rng((SEED, number))
        kind = list(KINDS)[number % len(KINDS)]
        seen = _seen(predictor, *generate_image(chance, kind, GENERATED_PX))
        if seen is not None:
            yield _GENERATED, seen


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
