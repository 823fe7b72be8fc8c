"""Label images as COCO annotations, and small COCO data sets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import skimage.measure
from pycocotools import mask as coco_mask

from tests.train.scenes import image_of, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Segmentation = Any


def to_polygons(mask_yx: np.ndarray) -> Segmentation:
    """Outlines at 0.5, in COCO's coordinates, where a pixel's centre is at +0.5."""
    contours = skimage.measure.find_contours(np.pad(mask_yx, 1).astype(float), 0.5)
    return [(c[:, ::-1] - 0.5).ravel().tolist() for c in contours]


def to_runs(mask_yx: np.ndarray) -> Segmentation:
    """Run lengths down the columns, background first, counted one by one."""
    counts, current = [0], False
    for value in mask_yx.T.ravel().tolist():
        if value != current:
            counts.append(0)
            current = value
        counts[-1] += 1
    return {"size": list(mask_yx.shape), "counts": counts}


def to_compressed(mask_yx: np.ndarray) -> Segmentation:
    runs = coco_mask.encode(np.asfortranarray(mask_yx).astype(np.uint8))
    return {"size": list(mask_yx.shape), "counts": runs["counts"].decode()}


def annotate(labels_yx: np.ndarray, way: Callable[[np.ndarray], Segmentation], image_id: int = 1):
    return [
        {
            "id": 1000 + i,
            "image_id": image_id,
            "category_id": 1,
            "segmentation": way(labels_yx == i),
        }
        for i in np.unique(labels_yx[labels_yx > 0]).tolist()
    ]


def write_coco(
    file: Path, scenes: dict[str, np.ndarray], folder: Path | None = None, **changes: Any
) -> Path:
    """Write images and their annotations as polygons; `changes` replace parts of the json."""
    records, annotations = [], []
    for i, (name, labels) in enumerate(scenes.items()):
        path = (folder or file.parent) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, image_of(labels))
        height, width = labels.shape
        records.append({"id": i, "file_name": name, "height": height, "width": width})
        annotations += annotate(labels, to_polygons, i)
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": records, "annotations": annotations, "categories": [{"id": 1}]}
    file.write_text(json.dumps(content | changes), encoding="utf-8")
    return file
