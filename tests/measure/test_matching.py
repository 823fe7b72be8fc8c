"""Scores of label images: by hand, by brute force, by other libraries' values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.errors import DataError
from dinomask.measure.matching import (
    TAUS,
    average_precision,
    match,
    mean_scores,
    score_image,
    seg_score,
)


@st.composite
def label_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A few rectangles, and the same moved, dropped, split, added or repainted."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(1, 16)), draw(st.integers(1, 16)))
    reference, prediction = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for i in range(draw(st.integers(0, 6))):
        y, x = rng.integers(0, shape)
        h, w = rng.integers(1, 8, 2)
        dy, dx = rng.integers(0, 3, 2)
        reference[y : y + h, x : x + w] = i + 1
        prediction[y + dy : y + dy + h, x + dx : x + dx + w] = rng.integers(0, 8)
    return reference, prediction


def brute_force_tp(reference: np.ndarray, prediction: np.ndarray, tau: float) -> int:
    """Most pairs with IoU >= tau of all one-to-one assignments, tried one by one."""
    sets = [
        [frozenset(map(tuple, np.argwhere(image == i))) for i in sorted(set(image.flat) - {0})]
        for image in (reference, prediction)
    ]
    few, many = sorted(sets, key=len)
    hits = [[len(a & b) >= tau * len(a | b) for b in many] for a in few]
    return max(
        sum(hits[i][j] for i, j in enumerate(order))
        for order in itertools.permutations(range(len(many)), len(few))
    )


def brute_force_seg(reference: np.ndarray, prediction: np.ndarray) -> float:
    jaccards = []
    for r in sorted(set(reference.flat) - {0}):
        jaccards.append(0.0)
        for p in sorted(set(prediction.flat) - {0}):
            shared = np.sum((reference == r) & (prediction == p))
            if shared > 0.5 * np.sum(reference == r):
                jaccards[-1] = shared / np.sum((reference == r) | (prediction == p))
    return float(np.mean(jaccards))


@given(label_pairs(), st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0]))
def test_counts_are_those_of_every_assignment_tried(
    case: tuple[np.ndarray, np.ndarray], tau: float
) -> None:
    counts = match(*case).counts(tau)
    n_reference, n_prediction = (len(set(image.flat) - {0}) for image in case)
    assert counts.tp == brute_force_tp(*case, tau)
    assert counts.tp + counts.fn == n_reference
    assert counts.tp + counts.fp == n_prediction


@given(label_pairs())
def test_seg_is_the_definition_read_aloud(case: tuple[np.ndarray, np.ndarray]) -> None:
    if case[0].any():
        assert seg_score(match(*case)) == pytest.approx(brute_force_seg(*case))


def sixty_four_cells() -> tuple[np.ndarray, np.ndarray]:
    """Reference and prediction with shifts, losses, merges and inventions; no chance in it."""
    reference, prediction = np.zeros((120, 120), np.int32), np.zeros((120, 120), np.int32)
    for i in range(64):
        y, x, h, w = i // 8 * 15, i % 8 * 15, 6 + i * 5 % 8, 6 + i * 11 % 8
        dy, dx = max(y + i * 7 % 5 - 2, 0), max(x + i * 3 % 7 - 3, 0)
        reference[y : y + h, x : x + w] = i + 1
        if i % 9:
            prediction[dy : dy + h, dx : dx + w + i % 3] = i + 1 - (i % 11 == 3)
        if i % 8 == 5:
            prediction[dy : dy + 3, dx : dx + 3] = 100 + i
    return reference, prediction


STARDIST_AP = (0.708333333, 0.684931507, 0.322580645, 0.078947368, 0.016528926)
STARDIST_F1 = (0.829268293, 0.81300813, 0.487804878, 0.146341463, 0.032520325)
STARDIST_PRECISION = (0.86440678, 0.847457627, 0.508474576, 0.152542373, 0.033898305)
STARDIST_RECALL = (0.796875, 0.78125, 0.46875, 0.140625, 0.03125)
STARDIST_MEAN_IOU = (0.549562716, 0.555848083, 0.654838244, 0.820560137, 0.908333302)
CTCMETRICS_SEG = 0.444756305


def test_values_of_other_libraries() -> None:
    """StarDist 0.9.2 `matching` (float32) and py-ctcmetrics 1.3.3 on the same arrays."""
    scores = score_image(*sixty_four_cells(), (0.1, 0.3, 0.5, 0.7, 0.9))
    assert scores.ap == pytest.approx(STARDIST_AP)
    assert scores.f1 == pytest.approx(STARDIST_F1)
    assert scores.precision == pytest.approx(STARDIST_PRECISION)
    assert scores.recall == pytest.approx(STARDIST_RECALL)
    assert scores.mean_iou == pytest.approx(STARDIST_MEAN_IOU, rel=1e-5)
    assert scores.seg == pytest.approx(CTCMETRICS_SEG)


@given(label_pairs(), st.sampled_from([0.2, 0.5, 0.8]))
def test_matched_pairs_are_one_to_one_and_good(
    case: tuple[np.ndarray, np.ndarray], tau: float
) -> None:
    matching = match(*case)
    pairs = matching.matched(tau)
    assert len(set(matching.reference_index[pairs])) == len(pairs)
    assert len(set(matching.prediction_index[pairs])) == len(pairs)
    assert np.all(matching.iou[pairs] >= tau)


@given(label_pairs())
def test_ap_is_symmetric(case: tuple[np.ndarray, np.ndarray]) -> None:
    taus = (0.1, 0.3, *TAUS)
    np.testing.assert_allclose(average_precision(*case, taus), average_precision(*case[::-1], taus))


@given(label_pairs())
def test_a_label_image_scores_one_against_itself(case: tuple[np.ndarray, np.ndarray]) -> None:
    for image in case:
        scores = score_image(image, image)
        for name in ("ap", "f1", "precision", "recall", "mean_iou"):
            assert getattr(scores, name) == (1.0,) * len(TAUS)
        assert scores.seg == 1


@given(
    label_pairs(),
    st.sampled_from([np.int8, np.uint16, np.int64, np.uint64]),
    st.permutations([5, 17, 100, 101, 3, 90, 44, 127]),
)
def test_names_of_labels_do_not_matter(
    case: tuple[np.ndarray, np.ndarray], dtype: type, names: list[int]
) -> None:
    lookup = np.array([0, *names], dtype)
    reference, prediction = case
    renamed = score_image(lookup[reference], lookup[prediction]).as_dict()
    original = score_image(reference, prediction).as_dict()
    # sums of IoU may differ in the last bit: they run in the order of the ids
    for name in ("mean_iou", "seg"):
        assert renamed.pop(name) == pytest.approx(original.pop(name))
    assert renamed == original


def test_large_ids_of_64_bits_are_kept_apart() -> None:
    reference = np.array([[2**63 + 1, 2**63 + 2, 0]], np.uint64)
    matching = match(reference, np.array([[1, 2, 0]], np.int8))
    assert matching.reference_ids.tolist() == [2**63 + 1, 2**63 + 2]
    assert matching.counts(0.5).tp == 2


def test_worked_by_hand() -> None:
    reference = np.array(
        [
            [1, 1, 1, 1, 0, 0, 0, 0],
            [2, 2, 2, 2, 0, 0, 3, 3],
            [4, 4, 4, 4, 0, 0, 3, 3],
        ]
    )
    prediction = np.array(
        [
            [7, 7, 7, 0, 0, 0, 0, 0],
            [8, 8, 9, 9, 0, 0, 0, 5],
            [6, 6, 6, 6, 6, 0, 0, 5],
        ]
    )
    # 1-7: 3/4; 2-8 and 2-9: 2/4 each, one counts; 4-6: 4/5; 3-5: 2/4
    matching = match(reference, prediction)
    pairs = zip(
        matching.reference_ids[matching.reference_index].tolist(),
        matching.prediction_ids[matching.prediction_index].tolist(),
        matching.overlap_px.tolist(),
        matching.iou.tolist(),
        strict=True,
    )
    assert list(pairs) == [
        (1, 7, 3, 0.75),
        (2, 8, 2, 0.5),
        (2, 9, 2, 0.5),
        (3, 5, 2, 0.5),
        (4, 6, 4, 0.8),
    ]
    scores = score_image(reference, prediction, (0.5, 0.6, 0.8, 0.9))
    # tau 0.5: 4 hits, 1 superfluous; 0.6: 2 hits, 3 and 2 left; 0.8: 1, 4 and 3; 0.9: none
    assert scores.ap == pytest.approx((4 / 5, 2 / 7, 1 / 8, 0))
    assert scores.precision == pytest.approx((4 / 5, 2 / 5, 1 / 5, 0))
    assert scores.recall == pytest.approx((1, 2 / 4, 1 / 4, 0))
    assert scores.f1 == pytest.approx((8 / 9, 4 / 9, 2 / 9, 0))
    assert scores.mean_iou == pytest.approx((2.55 / 4, 1.55 / 2, 0.8, 0))
    # SEG: halves of 2 and 3 are not more than one half; 1 gives 0.75, 4 gives 0.8
    assert scores.seg == pytest.approx((0.75 + 0.8) / 4)
    assert (scores.n_reference, scores.n_prediction) == (4, 5)
    assert scores.mean_ap == pytest.approx((4 / 5 + 2 / 7 + 1 / 8) / 4)


def test_more_pairs_are_worth_more_than_a_better_pair() -> None:
    # IoU: 1-1 4/6, 1-2 2/6, 2-1 2/8; taking 1-1 alone would give one match, not two
    reference = np.array([[1, 1, 1, 1, 1, 1, 2, 2, 0, 0]])
    prediction = np.array([[2, 2, 1, 1, 1, 1, 1, 1, 0, 0]])
    matching = match(reference, prediction)
    assert sorted(matching.iou) == pytest.approx([2 / 6, 2 / 6, 4 / 8])
    assert matching.counts(0.3).tp == 2
    assert matching.counts(0.3).iou_sum == pytest.approx(4 / 6)
    assert matching.counts(0.5).tp == 1


def test_images_without_objects() -> None:
    nothing, something = np.zeros((4, 4), int), np.ones((4, 4), int)
    assert score_image(nothing, nothing).ap == (1.0,) * 10
    assert score_image(nothing, nothing).seg == 1
    for pair in ((nothing, something), (something, nothing)):
        scores = score_image(*pair)
        for name in ("ap", "f1", "precision", "recall", "mean_iou"):
            assert getattr(scores, name) == (0.0,) * 10
        assert scores.seg == 0
    assert score_image(np.zeros((0, 4), int), np.zeros((0, 4), int)).ap == (1.0,) * 10


def test_ap_is_averaged_over_images_and_seg_over_objects() -> None:
    two = np.array([[1, 0, 2, 0, 0]])
    # both found, both twice too large
    twice = np.array([[1, 1, 2, 2, 0]])
    nothing = np.zeros((1, 5), int)
    scores = [
        score_image(two, twice, (0.5, 0.6)),
        score_image(two[:, :2], nothing[:, :2], (0.5, 0.6)),
        score_image(nothing, nothing, (0.5, 0.6)),
    ]
    mean = mean_scores(scores)
    assert mean.ap == pytest.approx((2 / 3, 1 / 3))
    assert mean.seg == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert (mean.n_images, mean.n_reference, mean.n_prediction) == (3, 3, 2)
    assert mean_scores(scores[2:]).seg == 1
    assert mean.as_dict()["mean_ap"] == pytest.approx(0.5)


def test_what_can_not_be_averaged_is_refused() -> None:
    with pytest.raises(DataError, match="at least one image"):
        mean_scores([])
    image = np.ones((2, 2), int)
    with pytest.raises(DataError, match="same IoU thresholds"):
        mean_scores([score_image(image, image, (0.5,)), score_image(image, image, (0.6,))])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.ones((2, 2), float), "dtype float64"),
        (np.ones((2, 2), bool), "dtype bool"),
        (np.full((2, 2), -1), "the label -1"),
        (np.ones((2, 3), int), r"\(2, 3\) and \(2, 2\)"),
    ],
)
def test_what_is_no_label_image_is_refused(reference: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        match(reference, np.ones((2, 2), int))


def test_thousands_of_objects_need_no_dense_table() -> None:
    side = 1500
    ids = np.arange(side * side // 9).reshape(side // 3, side // 3) + 1
    reference = np.kron(ids, np.ones((3, 3), int))
    # 250,000 objects: a dense table would have 6e10 entries
    counts = match(reference, np.roll(reference, 1, axis=0)).counts(0.4)
    assert (counts.tp, counts.iou_sum) == (ids.size, ids.size / 2)
