"""Part what is known into what is learned from and what judges the result."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinomask.instances import UNSUPERVISED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.adapt.taught import TaughtImage
    from dinomask.instances import Array

FEWEST = 5
"""With fewer objects in all, none is held out: the same ones are learned and judge."""

ENOUGH_PLACES = 4
"""So many groups, or images, are parted as a whole; of fewer, each image is cut in two."""


def part_places(
    images: Sequence[TaughtImage], share: float, seed: int = 0
) -> tuple[list[TaughtImage], list[TaughtImage]]:
    """Hold out about a share of the objects, those of one place together.

    Neighbouring objects look alike; held out at random they would flatter. So whole
    groups are held out, or whole images, or one end of each image.

    Parameters
    ----------
    images : what is known
    share : of the objects to hold out, in (0, 1)
    seed : of the choice

    Returns
    -------
    learned, held out; both all images where there are too few objects to part
    """
    total = sum(image.n_objects for image in images)
    if total < FEWEST:
        return list(images), list(images)
    rng = np.random.default_rng(seed)
    places = _places(images)
    if len(places) < ENOUGH_PLACES:
        cut = [_cut(image, share, bool(rng.integers(2))) for image in images]
        learned = [a for a, _ in cut]
        held = [b for _, b in cut if b is not None]
        return (learned, held) if held else (list(images), list(images))
    held_rows: set[int] = set()
    n_held = 0
    for place in rng.permutation(len(places)):
        n = sum(images[i].n_objects for i in places[place])
        if n and n_held < share * total and n_held + n <= 2 * share * total + 1:
            held_rows |= set(places[place])
            n_held += n
    if not held_rows:
        cut = [_cut(image, share, bool(rng.integers(2))) for image in images]
        return [a for a, _ in cut], [b for _, b in cut if b is not None]
    learned = [image for i, image in enumerate(images) if i not in held_rows]
    return learned, [image for i, image in enumerate(images) if i in held_rows]


def _places(images: Sequence[TaughtImage]) -> list[list[int]]:
    """Return the rows of images that belong together: by group, or each by itself."""
    by_group: dict[str, list[int]] = {}
    for i, image in enumerate(images):
        by_group.setdefault(image.group or f"image {i}", []).append(i)
    if len(by_group) >= ENOUGH_PLACES:
        return list(by_group.values())
    return [[i] for i in range(len(images))]


def _cut(
    image: TaughtImage, share: float, at_start: bool
) -> tuple[TaughtImage, TaughtImage | None]:
    """Cut an image across the longer spread of its objects; None if one side would be empty."""
    labels = image.labels_yx
    ids = np.unique(labels[labels > 0])
    n_held = max(1, round(share * len(ids)))
    if len(ids) < 2 or n_held == len(ids):
        return image, None
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, ids))
    axis = int(np.ptp(centres[:, 1]) > np.ptp(centres[:, 0]))
    along = centres[:, axis] if at_start else -centres[:, axis]
    order = np.argsort(along, kind="stable")
    edge = (along[order[n_held - 1]] + along[order[n_held]]) / 2
    place = np.arange(labels.shape[axis]) + 0.5
    beyond = (place if at_start else -place) < edge
    held_side = beyond[:, None] if axis == 0 else beyond[None, :]
    held_side = np.broadcast_to(held_side, labels.shape)
    held_ids = ids[order[:n_held]]
    return (
        dataclasses.replace(image, labels_yx=_keep(labels, ~held_side, held_ids, invert=True)),
        dataclasses.replace(image, labels_yx=_keep(labels, held_side, held_ids, invert=False)),
    )


def _keep(labels_yx: Array, side: Array, held_ids: Array, *, invert: bool) -> Array:
    """Forget what lies beyond a side, and the objects that belong to the other one."""
    own = np.isin(labels_yx, held_ids, invert=invert) & (labels_yx > 0)
    ground = side & (labels_yx <= 0)
    kept: Array = np.where(own | ground, labels_yx, UNSUPERVISED).astype(np.int32)
    return kept
