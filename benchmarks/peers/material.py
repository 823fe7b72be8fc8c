"""The images of a comparison: chosen, converted once for all methods, and told apart by hash."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.instances import Array
    from dinomask.train.datasets import Sample

HELD_OUT_SHARE = 0.1
"""Part of each modality's training images on which a method may choose its thresholds."""


def key_of(content: Any) -> str:
    """Return twelve hexadecimal digits that tell settings apart."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def choose(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """Return at most `limit` samples, spread evenly over the modalities in turn."""
    if limit is None or limit >= len(samples):
        return list(samples)
    queues: dict[str, list[Sample]] = {}
    for sample in samples:
        queues.setdefault(sample.modality, []).append(sample)
    chosen: list[Sample] = []
    while len(chosen) < limit:
        for queue in queues.values():
            if queue and len(chosen) < limit:
                chosen.append(queue.pop(0))
    return chosen


def hold_out(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Draw a tenth of each modality, at least one image where it has several.

    Raises
    ------
    DataError
        If no modality has more than one image.
    """
    rng = np.random.default_rng(seed)
    drawn: list[Sample] = []
    for modality in sorted({s.modality for s in samples}):
        group = [s for s in samples if s.modality == modality]
        if len(group) > 1:
            n = max(1, round(HELD_OUT_SHARE * len(group)))
            drawn += [group[i] for i in sorted(rng.choice(len(group), n, replace=False))]
    if not drawn:
        raise DataError(
            expected="a modality with at least two train images, to hold one out",
            got=f"{len(samples)} images of as many modalities",
            remedy="Add images, or raise --limit.",
        )
    return drawn


def to_rgb(image_cyx: Array, is_rgb: bool) -> Array:
    """Return shape (Y, X, 3) of the same dtype: colours as they are, others as their mean."""
    if is_rgb:
        return np.moveaxis(image_cyx, 0, -1)
    grey = image_cyx[0]
    if len(image_cyx) > 1:
        grey = image_cyx.mean(axis=0).astype(image_cyx.dtype)
    return np.repeat(grey[..., None], 3, axis=-1)


def convert(samples: Sequence[Sample], folder: Path) -> list[dict[str, str]]:
    """Write each sample as ``folder/DATASET.NAME.HASH.npz``, unless it is there.

    Pixels without supervision (label -1) become background: the peers have no common
    word for them.

    Returns
    -------
    an entry a sample, as the runners read it
    """
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for sample in samples:
        digest = _digest(sample)
        path = folder / f"{sample.dataset}.{sample.name}.{digest}.npz"
        if not path.is_file():
            image, labels, is_rgb = sample.read()
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            with temporary.open("wb") as file:
                np.savez_compressed(
                    file, image_yxc=to_rgb(image, is_rgb), labels_yx=np.maximum(labels, 0)
                )
            temporary.replace(path)
        items.append(
            {
                "id": f"{sample.dataset}.{sample.name}",
                "name": sample.name,
                "dataset": sample.dataset,
                "modality": sample.modality,
                "image": str(sample.image.resolve()),
                "file": str(path.resolve()),
                "hash": digest,
            }
        )
    return items


def _digest(sample: Sample) -> str:
    found = hashlib.sha256(sample.image.read_bytes())
    labels = sample.labels
    found.update(labels.read_bytes() if isinstance(labels, Path) else repr(labels).encode())
    return found.hexdigest()[:12]


def identity(items: Sequence[dict[str, str]]) -> list[str]:
    """Return what tells one list of images from another, wherever the files lie."""
    return [f"{item['id']}:{item['hash']}" for item in items]
