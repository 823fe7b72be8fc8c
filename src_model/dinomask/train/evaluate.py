"""Segment annotated images as a user would, and compare with their labels."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from dinomask.config import SegmentConfig, as_dict
from dinomask.errors import OutputError
from dinomask.image.source import open_image
from dinomask.measure.coco import ScoredImage, coco_scores, score_instances
from dinomask.measure.matching import Scores, mean_scores, score_image
from dinomask.measure.overlaps import ids_of
from dinomask.run.predictor import Predictor
from dinomask.run.progress import OnProgress, Progress
from dinomask.run.report import header
from dinomask.run.segment import segment
from dinomask.tiles.outputs import output_error, replacing
from dinomask.train.datasets import Sample, median_diameter_px

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dinomask.instances import Array

SIZE_TOLERANCE = 0.25
"""An estimated diameter within this share of the true median counts as right."""


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """One image's result.

    Attributes
    ----------
    sample : which image
    scores : against its labels
    instances : what COCO AP needs of it
    diameter_px, true_diameter_px : used and true median; None without objects
    seconds : for segmenting, without loading the model
    n_px : pixels of the image
    """

    sample: Sample
    scores: Scores
    instances: ScoredImage
    diameter_px: float | None
    true_diameter_px: float | None
    seconds: float
    n_px: int

    @property
    def size_right(self) -> bool | None:
        """Whether the diameter is within the tolerance; None without objects."""
        if self.true_diameter_px is None:
            return None
        if self.diameter_px is None:
            return False
        return abs(self.diameter_px / self.true_diameter_px - 1) <= SIZE_TOLERANCE


def evaluate(
    samples: Sequence[Sample],
    config: SegmentConfig | None = None,
    *,
    save: Path | None = None,
    predictor: Predictor | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Segment and score every sample.

    Parameters
    ----------
    samples : annotated images
    config : settings of the segmentation
    save : folder for the predicted label images, ``NAME.tif``; made if missing
    predictor : a loaded model; None loads the one of `config`
    on_progress : called after each image

    Returns
    -------
    report with the figures of every image, every modality and their mean

    Raises
    ------
    OutputError
        If `save` holds a result already, or can't be written.
    """
    config = config or SegmentConfig()
    predictor = Predictor.of(config, predictor)
    if save is not None:
        _prepare_folder(save, samples)
    started = time.monotonic()
    results = []
    for i, sample in enumerate(samples):
        results.append(_evaluate_one(sample, config, predictor, save))
        if on_progress:
            on_progress(Progress("evaluate", i + 1, len(samples), time.monotonic() - started))
    modalities = sorted({r.sample.modality for r in results})
    return {
        **header(predictor),
        "settings": as_dict(config),
        "data": sorted({r.sample.dataset for r in results}),
        "mean": summarise(results),
        "modalities": {
            m: summarise([r for r in results if r.sample.modality == m]) for m in modalities
        },
        "images": [_row(r) for r in results],
    }


def _evaluate_one(
    sample: Sample, config: SegmentConfig, predictor: Predictor, save: Path | None
) -> Evaluated:
    _, labels, _ = sample.read()
    image = open_image(sample.image, channels=config.channels)
    started = time.perf_counter()
    result = segment(image, config=config, predictor=predictor)
    seconds = time.perf_counter() - started
    predicted = result.labels_yx
    if predicted is None:  # drawn in memory whenever there is no output
        predicted = np.zeros(image.shape_yx, np.uint32)
    if save is not None:
        _save_labels(save / f"{sample.name}.tif", predicted)
    labels, predicted = leave_out_unsupervised(labels, predicted)
    return Evaluated(
        sample,
        score_image(labels, predicted),
        score_instances(labels, predicted, result.table),
        result.diameter_px,
        median_diameter_px(labels),
        seconds,
        labels.size,
    )


def leave_out_unsupervised(labels_yx: Array, predicted_yx: Array) -> tuple[Array, Array]:
    """Drop what can't be judged: pixels of label -1, and the objects found there.

    A predicted object is dropped if more than half of it lies on such pixels.

    Parameters
    ----------
    labels_yx : shape (Y, X); 0 background, -1 unsupervised
    predicted_yx : shape (Y, X), not negative

    Returns
    -------
    Both, of non-negative integers; the same arrays where all is supervised
    """
    unsupervised = labels_yx < 0
    if not unsupervised.any():
        return labels_yx, predicted_yx
    ids, rows = ids_of(predicted_yx)
    areas = np.bincount(rows.ravel(), minlength=len(ids))
    hidden = np.bincount(rows[unsupervised], minlength=len(ids))
    kept = np.where(2 * hidden > areas, 0, ids)
    return np.maximum(labels_yx, 0), kept[rows]


def summarise(results: Sequence[Evaluated]) -> dict[str, Any]:
    """Average over images; COCO AP pools their objects, speed is all pixels over all seconds."""
    scores = mean_scores(r.scores for r in results)
    at = {round(tau, 2): i for i, tau in enumerate(scores.taus)}
    right = [r.size_right for r in results if r.size_right is not None]
    return {
        "images": len(results),
        "objects": scores.n_reference,
        "ap50": scores.ap[at[0.5]],
        "ap75": scores.ap[at[0.75]],
        "ap90": scores.ap[at[0.9]],
        "ap50_95": scores.mean_ap,
        "f1_50": scores.f1[at[0.5]],
        "seg": scores.seg,
        **coco_scores([r.instances for r in results]).as_dict(),
        "size_within_25pct": sum(right) / len(right) if right else None,
        "px_per_s": sum(r.n_px for r in results) / sum(r.seconds for r in results),
        "median_seconds": statistics.median(r.seconds for r in results),
    }


def _row(result: Evaluated) -> dict[str, Any]:
    sample = result.sample
    return {
        "name": sample.name,
        "dataset": sample.dataset,
        "modality": sample.modality,
        "diameter_px": result.diameter_px,
        "true_diameter_px": result.true_diameter_px,
        "seconds": round(result.seconds, 3),
        **result.scores.as_dict(),
    }


def _prepare_folder(folder: Path, samples: Sequence[Sample]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    taken = [s.name for s in samples if (folder / f"{s.name}.tif").exists()]
    if taken:
        raise OutputError(
            expected="a folder without these results",
            got=f"{taken[0]}.tif in {folder} ({len(taken)} in all)",
            remedy="Choose another folder for --save, or delete the old results.",
        )


def _save_labels(path: Path, labels_yx: Any) -> None:
    fits = labels_yx.max(initial=0) <= np.iinfo(np.uint16).max
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary, labels_yx.astype(np.uint16 if fits else np.uint32), compression="zlib"
        )
