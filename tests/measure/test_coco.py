"""COCO AP: by hand, and against the reference implementation."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dinomask.errors import DataError
from dinomask.measure.coco import AREAS_PX, TAUS, ScoredImage, coco_scores, score_instances

Scene = tuple[np.ndarray, np.ndarray, dict[int, float]]


def strips(*lengths: int) -> np.ndarray:
    """One object a row, of so many pixels."""
    labels = np.zeros((len(lengths), 20), np.int32)
    for i, length in enumerate(lengths):
        labels[i, :length] = i + 1
    return labels


def draw_scene(rng: np.random.Generator, side_px: int, n: int) -> Scene:
    """Rectangles, and the same moved, split, dropped or added; scores with ties."""
    reference, prediction = (np.zeros((side_px, side_px), np.int32) for _ in range(2))
    for i in range(n):
        y, x = rng.integers(0, side_px, 2)
        h, w = rng.integers(1, max(2, side_px // rng.integers(2, 12)), 2)
        dy, dx = rng.integers(-2, 3, 2)
        reference[y : y + h, x : x + w] = i + 1
        if rng.random() < 0.8:
            top, left = max(y + dy, 0), max(x + dx, 0)
            cut = top + h // 2 if rng.random() < 0.2 else top + h
            prediction[top:cut, left : left + w] = 2 * i + 1
            prediction[cut : top + h, left : left + w] = 2 * i + 2
    ids = [int(i) for i in np.unique(prediction) if i]
    return reference, prediction, {i: float(rng.choice([0.2, 0.5, rng.random()])) for i in ids}


def annotations(labels: np.ndarray, image_id: int, first_id: int) -> list[dict[str, Any]]:
    found = []
    for i in np.unique(labels[labels > 0]).tolist():
        runs = coco_mask.encode(np.asfortranarray(labels == i).astype(np.uint8))
        found.append(
            {
                "id": first_id + len(found),
                "image_id": image_id,
                "category_id": 1,
                "segmentation": runs,
                "bbox": coco_mask.toBbox(runs).tolist(),
                "area": int((labels == i).sum()),
                "iscrowd": 0,
                "label": i,
            }
        )
    return found


def coco_of(images: list[dict[str, Any]], found: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {"images": images, "annotations": found, "categories": [{"id": 1}]}
    coco.createIndex()
    return coco


def reference_figures(scenes: list[Scene], max_detections: int) -> dict[str, float]:
    """The figures of pycocotools; -1 where there is nothing to find."""
    images = [
        {"id": k, "height": r.shape[0], "width": r.shape[1]} for k, (r, _, _) in enumerate(scenes)
    ]
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for k, (reference, prediction, scores) in enumerate(scenes):
        truth += annotations(reference, k, len(truth) + 1)
        mine = annotations(prediction, k, len(found) + 1)
        found += [a | {"score": scores[a["label"]]} for a in mine]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco_of(images, truth), coco_of(images, found), "segm")
        evaluation.params.maxDets = [max_detections]
        evaluation.params.areaRng = [(0, 1e10), *(tuple(v) for v in AREAS_PX.values())]
        evaluation.params.areaRngLbl = ["all", *AREAS_PX]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, :, 0]

    def mean(part: np.ndarray) -> float:
        return float(np.mean(part[part > -1])) if (part > -1).any() else -1.0

    return {
        "ap": mean(precision[:, :, 0]),
        "ap50": mean(precision[0, :, 0]),
        "ap75": mean(precision[5, :, 0]),
        **{name: mean(precision[:, :, 1 + i]) for i, name in enumerate(AREAS_PX)},
    }


def our_figures(scenes: list[Scene], max_detections: int) -> dict[str, float]:
    scores = coco_scores([score_instances(*scene, max_detections) for scene in scenes])
    figures = {"ap": scores.ap, "ap50": scores.ap50, "ap75": scores.ap75, **scores.area_ap}
    return {name: -1.0 if value is None else value for name, value in figures.items()}


@given(
    st.integers(0, 2**31),
    st.lists(st.tuples(st.integers(4, 130), st.integers(0, 25)), min_size=1, max_size=4),
    st.sampled_from([3, 1000]),
)
def test_figures_are_those_of_pycocotools(
    seed: int, sizes: list[tuple[int, int]], max_detections: int
) -> None:
    rng = np.random.default_rng(seed)
    scenes = [draw_scene(rng, side_px, n) for side_px, n in sizes]
    assert our_figures(scenes, max_detections) == pytest.approx(
        reference_figures(scenes, max_detections), abs=1e-9
    )


@given(st.integers(0, 2**31))
def test_figures_are_those_of_pycocotools_where_objects_compete(seed: int) -> None:
    """Halves have an IoU of exactly 0.5 with the whole, so two want one."""
    rng = np.random.default_rng(seed)
    scenes = []
    for _ in range(2):
        reference, prediction = strips(*[10] * 8), strips(*[10] * 8)
        reference[:, 5:10] += 100 * rng.integers(0, 2, (8, 1))
        prediction[:, 5:10] += 100 * rng.integers(0, 2, (8, 1))
        ids = [int(i) for i in np.unique(prediction) if i]
        scenes.append((reference, prediction, {i: float(rng.choice([0.3, 0.6])) for i in ids}))
    assert our_figures(scenes, 1000) == pytest.approx(reference_figures(scenes, 1000), abs=1e-9)


def test_the_better_score_of_two_halves_is_right() -> None:
    halves = np.repeat([[1, 2]], 5, axis=1)
    for scores in ({1: 0.9, 2: 0.5}, {1: 0.5, 2: 0.9}):
        image = score_instances(np.ones((1, 10), int), halves, scores)
        # the other half is wrong, but comes after full recall
        assert coco_scores([image]).ap50 == pytest.approx(1)
        assert coco_scores([image]).ap75 == 0


def test_a_curve_worked_out_by_hand() -> None:
    """Right, wrong, right of four: precision 1, then 2/3, up to recalls 1/4 and 1/2."""
    reference, prediction = strips(10, 10, 10, 10, 0), strips(10, 9, 0, 0, 10)
    scores = coco_scores([score_instances(reference, prediction, {1: 0.9, 5: 0.8, 2: 0.7})])
    # of the 101 recalls 0.00 to 0.25 are 26, 0.26 to 0.50 are 25
    both = (26 + 25 * 2 / 3) / 101
    assert scores.ap50 == scores.ap75 == pytest.approx(both, abs=1e-12)
    # the second has IoU 0.9, so at 0.95 only the first is right
    assert scores.ap == pytest.approx((9 * both + 26 / 101) / 10, abs=1e-12)
    assert scores.area_ap["coco_small"] == scores.area_ap["livecell_small"] == scores.ap
    assert scores.area_ap["coco_large"] is None


def test_images_are_pooled_and_not_averaged() -> None:
    right = score_instances(strips(10), strips(10), {1: 0.4})
    wrong = score_instances(strips(0), strips(5), {1: 0.6})
    # alone AP would be 1 and undefined; the better score of the wrong one costs half
    assert coco_scores([right, wrong]).ap == pytest.approx(0.5)
    assert coco_scores([right]).ap == pytest.approx(1)
    assert coco_scores([wrong]).ap is None


def test_more_than_a_hundred_objects_count() -> None:
    labels = np.kron(np.arange(1, 1601).reshape(40, 40), np.ones((3, 3), int))
    scores = dict.fromkeys(range(1, 1601), 0.5)
    assert coco_scores([score_instances(labels, labels, scores)]).ap == pytest.approx(1)
    # 100 of 1600: recall 0.0625, so the recalls 0.00 to 0.06 are reached
    limited = coco_scores([score_instances(labels, labels, scores, 100)]).ap
    assert limited == pytest.approx(7 / 101)


def test_nothing_at_all() -> None:
    nothing = score_instances(strips(0), strips(0), {})
    for images in ([], [nothing], [nothing, nothing]):
        assert coco_scores(images).as_dict() == {
            "coco_ap": None,
            "coco_ap50": None,
            "coco_ap75": None,
            "coco_ap_by_area": dict.fromkeys(AREAS_PX),
        }
    missed = score_instances(strips(10), strips(0), {})
    assert coco_scores([missed]).ap == 0


def test_scores_from_a_table() -> None:
    table = pd.DataFrame({"id": [9, 2, 1], "score": np.float32([0.1, 0.5, 0.75]), "area_px": 3})
    image = score_instances(strips(10, 10), strips(10, 8), table)
    assert image.scores.tolist() == [0.75, 0.5]
    assert image.areas_px.tolist() == [10, 8]
    assert image.iou.tolist() == [1.0, 0.8]


@pytest.mark.parametrize("scores", [{1: 0.5}, {1: 0.5, 2: float("nan")}])
def test_every_object_needs_a_score(scores: dict[int, float]) -> None:
    with pytest.raises(DataError, match=r"id 2 \(1 in all\)"):
        score_instances(strips(10, 10), strips(10, 10), scores)


def test_an_image_costs_some_bytes_an_object() -> None:
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((30, 30), int))
    image = score_instances(labels, labels, dict.fromkeys(range(1, 401), 0.5))
    parts = [getattr(image, name) for name in ScoredImage.__dataclass_fields__]
    # views into larger arrays would keep them alive
    held = sum(p.nbytes if p.base is None else p.base.nbytes for p in parts)
    assert held < 100 * 400


def test_thresholds_are_named_right() -> None:
    assert TAUS[0] == 0.5
    assert TAUS[5] == pytest.approx(0.75)
    assert len(TAUS) == 10
