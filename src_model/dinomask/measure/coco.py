"""COCO's average precision of instance masks, over a data set.

The area under the precision-recall curve of all images' objects together, as
in COCO's detection challenge (Lin et al. 2014): objects are taken by falling
score, each is matched to the free reference object of highest IoU, precision
is made monotonous and read at 101 recalls. It is another figure than
`dinomask.measure.matching`'s AP, which needs no scores and is averaged over
images.

Masks come from label images, so no two objects of one image share a pixel.
What a segmentation left out by its score threshold is missing from the end of
the curve: with a lower threshold the figure can only gain.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dinomask.errors import DataError
from dinomask.measure.overlaps import match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dinomask.instances import Array
    from dinomask.measure.overlaps import Matching

TAUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""COCO's IoU thresholds, computed as there: an IoU right on one falls to the same side."""

RECALLS = np.linspace(0, 1, 101)
"""Where the precision-recall curve is read."""

MAX_DETECTIONS = 2000
"""Objects an image that count, best scores first, as in LIVECell; COCO's 100 are too few."""

AREAS_PX: Mapping[str, tuple[float, float]] = {
    "coco_small": (0, 32**2),
    "coco_medium": (32**2, 96**2),
    "coco_large": (96**2, math.inf),
    "livecell_small": (0, 18**2),
    "livecell_medium": (18**2, 31**2),
    "livecell_large": (31**2, math.inf),
}
"""Smallest and largest area of the named sizes; both ends belong to the range."""


@dataclasses.dataclass(frozen=True)
class ScoredImage:
    """What COCO AP needs of one image: some bytes an object, no pixels.

    Attributes
    ----------
    scores : shape (Q,), float64, falling; the Q predicted objects that count
    areas_px : shape (Q,)
    reference_areas_px : shape (R,)
    index, reference_index : shape (P,); predicted and reference object of
        each pair that may match
    iou : shape (P,), float64, at least the lowest of `TAUS`
    """

    scores: Array
    areas_px: Array
    reference_areas_px: Array
    index: Array
    reference_index: Array
    iou: Array


@dataclasses.dataclass(frozen=True)
class CocoScores:
    """COCO AP of a data set; None where there is no reference object to find.

    Attributes
    ----------
    ap : mean over IoU 0.5 to 0.95
    ap50, ap75 : at one IoU
    area_ap : as `ap`, by size of the objects; the keys of `AREAS_PX`
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    area_ap: dict[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a json report, under names that begin with coco_ap."""
        return {
            "coco_ap": self.ap,
            "coco_ap50": self.ap50,
            "coco_ap75": self.ap75,
            "coco_ap_by_area": self.area_ap,
        }


def score_instances(
    reference_yx: Array,
    prediction_yx: Array,
    scores: pd.DataFrame | Mapping[int, float],
    max_detections: int = MAX_DETECTIONS,
) -> ScoredImage:
    """Reduce one image to what COCO AP needs.

    Parameters
    ----------
    reference_yx, prediction_yx : label images, as in `match`
    scores : of each predicted id, in a table with the columns ``id`` and
        ``score``, or by id; ids without a pixel don't count
    max_detections : predicted objects that count, best scores first

    Raises
    ------
    DataError
        If a predicted id has no score, or the label images don't fit.
    """
    matching = match(reference_yx, prediction_yx)
    found = _scores_of(matching, scores)
    # stable, as in COCO: the lower id comes first among equals
    kept = np.argsort(-found, kind="stable")[:max_detections]
    rank = np.full(len(found), -1)
    rank[kept] = np.arange(len(kept))
    iou, index = matching.iou, rank[matching.prediction_index]
    pairs = (iou >= TAUS[0]) & (index >= 0)
    return ScoredImage(
        scores=found[kept],
        areas_px=matching.prediction_areas_px[kept],
        reference_areas_px=matching.reference_areas_px,
        index=index[pairs],
        reference_index=matching.reference_index[pairs],
        iou=iou[pairs],
    )


def _scores_of(matching: Matching, scores: pd.DataFrame | Mapping[int, float]) -> Array:
    if isinstance(scores, pd.DataFrame):
        scores = dict(zip(scores["id"].tolist(), scores["score"].tolist(), strict=True))
    ids = matching.prediction_ids.tolist()
    found = np.array([scores.get(i, math.nan) for i in ids], np.float64)
    if np.isnan(found).any():
        raise DataError(
            expected="a score for every predicted object",
            got=f"none for the id {ids[int(np.argmax(np.isnan(found)))]}"
            f" ({int(np.isnan(found).sum())} in all)",
            remedy="Take label image and table from one run.",
        )
    return found


def coco_scores(images: Sequence[ScoredImage]) -> CocoScores:
    """Pool images and compute COCO AP, over all objects and by their size.

    For a size, objects outside it are neither to be found nor wrong: reference
    objects outside may be matched without gain, and predicted ones that match
    nothing are passed over.

    Parameters
    ----------
    images : from `score_instances`, in any order; the order only matters among
        equal scores
    """
    pool = _pool(images)
    order = np.argsort(-pool.scores, kind="stable")
    matches = [_match_greedily(pool, tau) for tau in TAUS]

    def by_tau(low: float, high: float) -> list[float] | None:
        wanted = (pool.reference_areas_px >= low) & (pool.reference_areas_px <= high)
        fits = (pool.areas_px >= low) & (pool.areas_px <= high)
        if not wanted.any():
            return None
        n_wanted = int(wanted.sum())
        return [_area_under_curve(_gains(m, wanted, fits)[order], n_wanted) for m in matches]

    area_ap = {name: _mean(by_tau(*limits)) for name, limits in AREAS_PX.items()}
    every = by_tau(0, math.inf)
    if every is None:
        return CocoScores(None, None, None, area_ap)
    return CocoScores(_mean(every), every[0], every[5], area_ap)


def _mean(values: list[float] | None) -> float | None:
    return None if values is None else float(np.mean(values))


def _pool(images: Sequence[ScoredImage]) -> ScoredImage:
    """Join images to one; its scores fall within each image only."""
    parts: dict[str, list[Array]] = {f.name: [] for f in dataclasses.fields(ScoredImage)}
    n = n_reference = 0
    for image in images:
        for name, values in parts.items():
            values.append(getattr(image, name))
        parts["index"][-1] = image.index + n
        parts["reference_index"][-1] = image.reference_index + n_reference
        n += len(image.scores)
        n_reference += len(image.reference_areas_px)
    # the empty array lets no images at all pass
    return ScoredImage(**{k: np.concatenate([*v, np.zeros(0, int)]) for k, v in parts.items()})


def _match_greedily(pool: ScoredImage, tau: float) -> Array:
    """Match by falling score; the row of each one's reference object, -1 for none.

    Objects of one label image don't overlap, so from an IoU of 0.5 on there
    are rivals in two cases only, both at 0.5 itself: two halves of one
    reference object, of which the better score gets it, or two reference
    objects that are the halves of one, equal in area and wanted by no other,
    so that either may be taken.
    """
    pairs = np.flatnonzero(pool.iou >= tau)
    index, first = np.unique(pool.index[pairs], return_index=True)
    # in the order of the index, so within an image the best score comes first
    reference, first = np.unique(pool.reference_index[pairs][first], return_index=True)
    matched = np.full(len(pool.scores), -1)
    matched[index[first]] = reference
    return matched


def _gains(matched: Array, wanted: Array, fits: Array) -> Array:
    """Return 1 for each right object, -1 for each wrong one, 0 for those passed over."""
    gains = np.where(fits, -1, 0)
    gains[matched >= 0] = wanted[matched[matched >= 0]]
    return gains


def _area_under_curve(gains: Array, n_wanted: int) -> float:
    right, wrong = np.cumsum(gains > 0), np.cumsum(gains < 0)
    precision = right / np.maximum(right + wrong, 1)
    # the best precision at this recall or any higher one
    precision = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(precision[np.searchsorted(right / n_wanted, RECALLS, side="left")].mean())
