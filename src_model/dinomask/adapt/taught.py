"""What a user vouches for, in the form that training takes.

Sparse supervision: corrected and accepted objects are to be found; where a false
positive was deleted, and elsewhere in reviewed regions, there is nothing to be
found; the rest of the image teaches nothing.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinomask.instances import REFUTED, UNSUPERVISED
from dinomask.train.annotated import AnnotatedImage
from dinomask.train.datasets import equivalent_diameters_px

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.instances import Array
    from dinomask.train.samples import Sample

HANDFUL = 4
"""Objects that are reviewed in an image at least, where few are to be spread over many."""

ENOUGH_FOR_SIZE = 5
"""An image with fewer objects is scaled by the median of all images'."""

ENOUGH_FOR_RATIO = 20
"""From fewer objects nobody can tell how different their sizes are."""


@dataclasses.dataclass(frozen=True, eq=False)
class TaughtImage:
    """A piece of an image with what is known of it.

    Attributes
    ----------
    name : of the image
    image_cyx : shape (C, Y, X), native dtype
    is_rgb : whether the channels are colours
    labels_yx : shape (Y, X), int32; 1.. objects to learn, 0 background, -1 unknown, -2 where
        a false positive was deleted
    classes : shape (max label + 1,), int64; class of each label; None: all of class 0
    group : pieces of one group, such as one dish, are never parted into learned and held out
    samples_cn : shape (C, N); pixels of the whole image, by which intensities are
        normalised; None takes those of the piece
    """

    name: str
    image_cyx: Array
    is_rgb: bool
    labels_yx: Array
    classes: Array | None = None
    group: str | None = None
    samples_cn: Array | None = None

    @property
    def n_objects(self) -> int:
        """Objects to learn."""
        return int(np.count_nonzero(np.bincount(self.labels_yx[self.labels_yx > 0])))

    def object_classes(self) -> Array:
        """Return the class of each object to learn, shape (N,), int64."""
        ids = np.unique(self.labels_yx[self.labels_yx > 0])
        if self.classes is None:
            return np.zeros(len(ids), np.int64)
        classes: Array = self.classes[ids]
        return classes

    @property
    def n_refuted(self) -> int:
        """Places where a false positive was deleted."""
        return int(ndimage.label(self.labels_yx == REFUTED)[1])

    @property
    def reviewed_px(self) -> int:
        """Pixels of known background."""
        return int((self.labels_yx == 0).sum())

    def annotated(self, typical_px: float | None = None) -> AnnotatedImage:
        """Return it ready to be cropped.

        Parameters
        ----------
        typical_px : diameter of the objects where this piece has too few to tell
        """
        small = self.labels_yx
        if small.max(initial=0) <= np.iinfo(np.int16).max:
            small = small.astype(np.int16)
        image = AnnotatedImage(
            self.image_cyx, small, self.is_rgb, self.classes, samples_cn=self.samples_cn
        )
        if self.n_objects < ENOUGH_FOR_SIZE and typical_px is not None:
            image.diameter_px = typical_px
        refuted = _centres(ndimage.label(self.labels_yx == REFUTED)[0])
        image.centres_yx = np.concatenate([image.centres_yx, refuted])
        if (self.labels_yx == UNSUPERVISED).mean() > 0.2 and len(image.centres_yx):
            # elsewhere a crop would mostly show what teaches nothing
            image.centred_share = 1.0
        return image


def taught_from_sample(sample: Sample, classes: tuple[str, ...] = ()) -> TaughtImage:
    """Take a whole annotated image for reviewed.

    Raises
    ------
    DataError, InputError
        As `Sample.read_annotated`.
    """
    read = sample.read_annotated(classes)
    return TaughtImage(
        sample.name,
        read.image_cyx,
        read.is_rgb,
        read.labels_yx.astype(np.int32),
        read.classes if classes else None,
        sample.group,
    )


def class_list(
    images: Sequence[TaughtImage], given: Sequence[str], known: Sequence[str], n_known: int
) -> tuple[str, ...]:
    """Return the names of all classes; empty if there is one only.

    Parameters
    ----------
    images : what is known
    given : names the user gave, in order
    known, n_known : of the checkpoint; names may be missing
    """
    used = max((int(image.object_classes().max(initial=0)) for image in images), default=0)
    names = list(given or known)
    for number in range(len(names), max(n_known, used + 1)):
        name = f"class {number}"
        names.append(name if name not in names else f"class {number} (new)")
    return tuple(names) if len(names) > 1 or known else ()


def limit_images(images: list[TaughtImage], n: int, seed: int = 0) -> list[TaughtImage]:
    """Keep `n` images drawn at random, in their order."""
    rows = np.random.default_rng(seed).permutation(len(images))[:n]
    return [images[i] for i in sorted(rows.tolist())]


def limit_objects(images: list[TaughtImage], n: int, seed: int = 0) -> list[TaughtImage]:
    """Keep about `n` objects, as a user would who reviews a patch of every image.

    Each image gives an equal share: the objects nearest to a place drawn at random,
    and the background in the square around it that holds no others.

    Parameters
    ----------
    images : whole ones
    n : objects to keep; images without a share are left out
    seed : of the places, and of which images come first where `n` is small
    """
    rng = np.random.default_rng(seed)
    # a handful an image: patches of one cell teach no background
    chosen = rng.permutation(len(images))[: max(1, n // HANDFUL)]
    shares = dict.fromkeys(chosen.tolist(), 0)
    while sum(shares.values()) < n:
        open_ = [i for i in shares if shares[i] < images[i].n_objects]
        if not open_:
            break
        for i in open_[: n - sum(shares.values())]:
            shares[i] += 1
    return [_patch(images[i], share, rng) for i, share in shares.items() if share]


def _patch(image: TaughtImage, n: int, rng: np.random.Generator) -> TaughtImage:
    """Return the image with only the `n` objects around a random one known."""
    labels = image.labels_yx
    if n >= image.n_objects:
        return image
    ids = np.unique(labels[labels > 0])
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, ids))
    middle = centres[rng.integers(len(ids))]
    reach = np.abs(centres - middle).max(axis=1)
    order = np.argsort(reach, kind="stable")
    kept = ids[order[:n]]
    edge = float(reach[order[n - 1]] + reach[order[n]]) / 2
    y, x = np.ogrid[: labels.shape[0], : labels.shape[1]]
    inside = np.maximum(np.abs(y - middle[0]), np.abs(x - middle[1])) <= edge
    known = np.where(inside & (labels == 0), 0, UNSUPERVISED)
    known = np.where(np.isin(labels, kept), labels, known)
    return dataclasses.replace(image, labels_yx=known.astype(np.int32))


def typical_diameter_px(images: Sequence[TaughtImage]) -> float | None:
    """Return the median diameter of all objects; None without any."""
    parts = [equivalent_diameters_px(image.labels_yx) for image in images]
    diameters = np.concatenate([np.zeros(0), *parts])
    return float(np.median(diameters)) if len(diameters) else None


def diameter_spread(images: Sequence[TaughtImage]) -> float | None:
    """Return the standard deviation of the log of the median diameter between images.

    What the medians of few objects vary by chance, π/2 · σ² / n, is taken off. Images with
    too few objects don't count; None if they are fewer than two.
    """
    logs = [np.log(equivalent_diameters_px(image.labels_yx)) for image in images]
    logs = [log for log in logs if len(log) >= ENOUGH_FOR_SIZE]
    if len(logs) < 2:
        return None
    between = float(np.var([np.median(log) for log in logs], ddof=1))
    by_chance = float(np.mean([np.pi / 2 * np.var(log, ddof=1) / len(log) for log in logs]))
    return math.sqrt(max(between - by_chance, 0.0))


def diameter_ratio(images: Sequence[TaughtImage]) -> float | None:
    """Return the 90th percentile of the diameters in an image divided by the 10th.

    Images with too few objects don't count; None if the others have fewer than
    `ENOUGH_FOR_RATIO` together.
    """
    logs = [np.log(equivalent_diameters_px(image.labels_yx)) for image in images]
    parts = [log - np.median(log) for log in logs if len(log) >= ENOUGH_FOR_SIZE]
    if sum(len(part) for part in parts) < ENOUGH_FOR_RATIO:
        return None
    low, high = np.percentile(np.concatenate(parts), [10, 90])
    return math.exp(high - low)


def _centres(labels_yx: Array) -> Array:
    boxes = [box for box in ndimage.find_objects(labels_yx) if box is not None]
    centres: Array = np.array([[(s.start + s.stop) / 2 for s in b] for b in boxes]).reshape(-1, 2)
    return centres
