"""Object-wise scores of one label image against another: AP, F1, SEG.

AP of an image is TP / (TP + FP + FN) with one-to-one matches of IoU >= tau, as
in the Data Science Bowl 2018, StarDist (Schmidt et al. 2018) and Cellpose
(Stringer et al. 2021). It is not COCO's area under a precision-recall curve.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import DataError
from dinomask.measure.overlaps import Counts, Matching, match

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dinomask.instances import Array

__all__ = [
    "TAUS",
    "Counts",
    "Matching",
    "Scores",
    "average_precision",
    "match",
    "mean_scores",
    "score_image",
    "seg_score",
]

TAUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""IoU thresholds of the usual averages."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of one image, or their mean over images; one value a tau.

    Attributes
    ----------
    taus : IoU thresholds
    ap, f1, precision, recall, mean_iou : as in `Counts`, shape (len(taus),)
    seg : as `seg_score`
    n_reference, n_prediction : objects; their sum in a mean over images
    n_images : 1, or the number of images averaged
    """

    taus: tuple[float, ...]
    ap: tuple[float, ...]
    f1: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    mean_iou: tuple[float, ...]
    seg: float
    n_reference: int
    n_prediction: int
    n_images: int = 1

    @property
    def mean_ap(self) -> float:
        """Mean of AP over the taus."""
        return float(np.mean(self.ap))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a json report, with the mean AP."""
        return dataclasses.asdict(self) | {"mean_ap": self.mean_ap}


def average_precision(
    reference_yx: Array, prediction_yx: Array, taus: Sequence[float] = TAUS
) -> Array:
    """Return TP / (TP + FP + FN) at each IoU threshold, shape (len(taus),).

    Where neither image has an object it is 1, where only one has it is 0.
    """
    matching = match(reference_yx, prediction_yx)
    return np.array([matching.counts(tau).ap for tau in taus], np.float64)


def seg_score(matching: Matching) -> float:
    """Return SEG of the Cell Tracking Challenge (Maška et al. 2014) for one image.

    A reference object R is matched to the predicted object S that covers more
    than half of it, |R ∩ S| > 0.5 |R|; several R may share one S. SEG is the
    mean over all R of the Jaccard index of R and S, 0 for an unmatched R.

    Where there is no R, which the challenge leaves undefined, it is 1 without
    and 0 with predicted objects.
    """
    if not len(matching.reference_ids):
        return float(not len(matching.prediction_ids))
    areas = matching.reference_areas_px[matching.reference_index]
    covers = 2 * matching.overlap_px > areas
    return float(matching.iou[covers].sum() / len(matching.reference_ids))


def score_image(reference_yx: Array, prediction_yx: Array, taus: Sequence[float] = TAUS) -> Scores:
    """Score one label image.

    Parameters
    ----------
    reference_yx, prediction_yx : as in `match`
    taus : IoU thresholds in (0, 1]
    """
    matching = match(reference_yx, prediction_yx)
    counts = [matching.counts(tau) for tau in taus]
    return Scores(
        taus=tuple(taus),
        ap=tuple(c.ap for c in counts),
        f1=tuple(c.f1 for c in counts),
        precision=tuple(c.precision for c in counts),
        recall=tuple(c.recall for c in counts),
        mean_iou=tuple(c.mean_iou for c in counts),
        seg=seg_score(matching),
        n_reference=len(matching.reference_ids),
        n_prediction=len(matching.prediction_ids),
    )


def mean_scores(scores: Iterable[Scores]) -> Scores:
    """Average over images, each with the same weight.

    SEG is averaged over reference objects instead, as the Cell Tracking
    Challenge does: images weigh by their number, and those without any only
    count where no image has one.

    Raises
    ------
    DataError
        If there is no image, or images were scored at different taus.
    """
    every = list(scores)
    if len({s.taus for s in every}) != 1:
        raise DataError(
            expected="at least one image, all scored at the same IoU thresholds",
            got=f"{len(every)} images with {len({s.taus for s in every})} sets of thresholds",
            remedy="Check that the folder and the split hold images.",
        )
    n_reference = sum(s.n_reference for s in every)
    weights = [s.n_reference for s in every] if n_reference else None
    means = {
        name: tuple(np.mean([getattr(s, name) for s in every], axis=0).tolist())
        for name in ("ap", "f1", "precision", "recall", "mean_iou")
    }
    return Scores(
        taus=every[0].taus,
        **means,
        seg=float(np.average([s.seg for s in every], weights=weights)),
        n_reference=n_reference,
        n_prediction=sum(s.n_prediction for s in every),
        n_images=sum(s.n_images for s in every),
    )
