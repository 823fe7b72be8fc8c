"""How good the label images of each variant are, and what became of each object."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.measure.boundary import boundary_ious
from dinomask.measure.changes import compare
from dinomask.measure.coco import coco_scores, score_instances
from dinomask.measure.matching import mean_scores, score_image
from dinomask.train.evaluate import leave_out_unsupervised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.compress.material import Source
    from dinomask.instances import Array
    from dinomask.measure.changes import Changes
    from dinomask.measure.coco import ScoredImage
    from dinomask.measure.matching import Scores

SIZES = ("small", "medium", "large")
"""As LIVECell parts cells: below 18², from there to 31², above, in pixels of the image."""


@dataclasses.dataclass(frozen=True)
class ImageQuality:
    """One variant's result on one image.

    Attributes
    ----------
    image : name
    kind : data set and modality
    scores : against the reference
    instances : what COCO AP needs
    boundary : boundary IoU of each matched pair
    changes : against the uncompressed model
    against_labels : whether the reference is the image's labels, or what the uncompressed
        model finds
    """

    image: str
    kind: str
    scores: Scores
    instances: ScoredImage
    boundary: Array
    changes: Changes
    against_labels: bool


def judge(
    source: Source,
    true_yx: Array | None,
    original_yx: Array,
    found_yx: Array,
    scores: dict[int, float],
) -> ImageQuality:
    """Compare a variant's label image with the truth and with the uncompressed model's.

    Parameters
    ----------
    source : the image
    true_yx : its labels; None if it has none
    original_yx, found_yx : label images of the uncompressed model and of the variant
    scores : of the variant's objects, by label
    """
    reference, judged = (original_yx, found_yx)
    if true_yx is not None:
        reference, judged = leave_out_unsupervised(true_yx, found_yx)
    return ImageQuality(
        source.name,
        source.kind,
        score_image(reference, judged),
        score_instances(reference, judged, scores),
        boundary_ious(reference, judged),
        compare(original_yx, found_yx),
        true_yx is not None,
    )


def summarise(images: Sequence[ImageQuality]) -> dict[str, Any]:
    """Average over images, each with the same weight; sizes pool objects as COCO does."""
    scores = mean_scores(image.scores for image in images)
    areas = coco_scores([image.instances for image in images]).area_ap
    boundary = np.concatenate([image.boundary for image in images])
    counts = {
        name: sum(len(getattr(image.changes, name)) for image in images)
        for name in ("lost", "gained", "changed")
    }
    same = sum(image.changes.n_same for image in images)
    together = same + sum(counts.values())
    return {
        "against": "labels" if images[0].against_labels else "the original",
        "images": len(images),
        "objects": scores.n_reference,
        "ap50": scores.ap[0],
        "ap50_95": scores.mean_ap,
        **{f"ap_{size}": areas[f"livecell_{size}"] for size in SIZES},
        "boundary_iou": float(boundary.mean()) if len(boundary) else None,
        "same": same,
        **counts,
        "agreement": same / together if together else 1.0,
    }


def by_data_set(images: Sequence[ImageQuality]) -> dict[str, float]:
    """Return AP at IoU 0.5 of each data set, or of each modality where there is one set only."""
    sets = {image.kind.split("/")[0] for image in images}
    groups: dict[str, list[float]] = {}
    for image in images:
        name = image.kind.split("/")[0] if len(sets) > 1 else image.kind
        groups.setdefault(name, []).append(image.scores.ap[0])
    return {name: statistics.mean(values) for name, values in groups.items()}


def list_changes(image: ImageQuality) -> dict[str, Any]:
    """Return what changed in an image as plain values, to jump to."""
    return {
        "image": image.image,
        "same": image.changes.n_same,
        **{
            name: [dataclasses.asdict(change) for change in getattr(image.changes, name)]
            for name in ("lost", "gained", "changed")
        },
    }
