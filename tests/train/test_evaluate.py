"""What an evaluation counts, and how it is summed up."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dinomask.measure.coco import score_instances
from dinomask.measure.matching import score_image
from dinomask.terminal import accuracy_table, print_table
from dinomask.train.datasets import Sample
from dinomask.train.evaluate import Evaluated, leave_out_unsupervised, summarise


def evaluated(labels: np.ndarray, predicted: np.ndarray, scores: dict[int, float]) -> Evaluated:
    return Evaluated(
        Sample("x", Path("x.png"), Path("y.png"), "all", "fluo", "here"),
        score_image(labels, predicted),
        score_instances(labels, predicted, scores),
        10.0,
        11.0,
        0.5,
        labels.size,
    )


def test_unsupervised_ground_counts_for_nothing() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[:, 10:], labels[:5, :5] = -1, 1
    predicted = np.zeros((20, 20), np.uint32)
    predicted[:5, :5] = 2  # on an object
    predicted[8, 7:13] = 3  # half on either side
    predicted[12, 7:14] = 4  # mostly beyond
    predicted[15:18, 15:18] = 9  # wholly beyond
    kept_labels, kept = leave_out_unsupervised(labels, predicted)
    assert np.array_equal(kept_labels, np.maximum(labels, 0))
    assert np.array_equal(kept, np.where(predicted <= 3, predicted, 0))
    scores = score_image(kept_labels, kept)
    assert (scores.n_reference, scores.n_prediction, scores.ap[0]) == (1, 2, 0.5)


def test_supervised_images_pass_untouched() -> None:
    labels, predicted = np.eye(5, dtype=np.int32), np.ones((5, 5), np.uint32)
    kept_labels, kept = leave_out_unsupervised(labels, predicted)
    assert kept_labels is labels
    assert kept is predicted


def test_coco_ap_pools_the_objects_of_all_images() -> None:
    found, nothing = np.ones((4, 4), np.int32), np.zeros((4, 4), np.int32)
    results = [evaluated(found, found, {1: 0.4}), evaluated(nothing, found, {1: 0.6})]
    summary = summarise(results)
    # right with a lower score than the wrong one: precision 1/2 at every recall
    assert summary["coco_ap"] == summary["coco_ap50"] == pytest.approx(0.5)
    assert summary["coco_ap75"] == pytest.approx(0.5)
    assert summary["coco_ap_by_area"]["coco_small"] == pytest.approx(0.5)
    assert summary["ap50"] == 0.5
    assert summarise(results[1:])["coco_ap"] is None


def test_the_table_shows_coco_ap() -> None:
    right = np.ones((4, 4), np.int32)
    wrong = np.pad(right, ((0, 0), (0, 4)))
    summary = summarise([evaluated(wrong, np.roll(wrong, 1, axis=1), {1: 0.4})])
    # narrower than the table, as in a log
    printed = io.StringIO()
    print_table(
        Console(width=40, file=printed), accuracy_table({"modalities": {}, "mean": summary})
    )
    lines = printed.getvalue().splitlines()
    header = next(line for line in lines if "COCO" in line).replace("±25 %", "±25%").split()
    figures = next(line for line in lines if "mean" in line).split()
    # IoU 12 / 20: right at the thresholds 0.5, 0.55 and 0.6
    assert dict(zip(header, figures, strict=True))["COCO"] == "0.300"
