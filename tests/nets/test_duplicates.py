"""Double removal by masks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import DetectConfig
from dinomask.instances import Instances
from dinomask.nets.duplicates import drop_duplicates
from tests.nets.small import masks_of

SHAPE_YX = (60, 70)
CONFIG = DetectConfig()


def full(boxes: list[tuple[float, float, float, float]]) -> Instances:
    """Instances that fill their boxes, scores falling."""
    n = len(boxes)
    return Instances(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, n).astype(np.float32),
        np.zeros(n, np.int32),
        np.full((n, 8, 8), 255, np.uint8),
    )


@st.composite
def crowds(draw: st.DrawFn) -> Instances:
    n = draw(st.integers(0, 12))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    low = rng.uniform(-10, 65, (n, 2))
    high = low + rng.uniform(1, 30, (n, 2))
    found = full([(*a, *b) for a, b in zip(low, high, strict=True)])
    return Instances(
        found.boxes_yxyx_px,
        found.scores,
        found.classes,
        rng.integers(0, 256, (n, 8, 8)).astype(np.uint8),
    )


@given(crowds())
def test_what_is_kept_is_in_order_has_pixels_and_stays(found: Instances) -> None:
    kept = drop_duplicates(found, SHAPE_YX, CONFIG)
    rows = [int(np.flatnonzero(found.scores == score)[0]) for score in kept.scores]
    assert rows == sorted(rows)
    assert all(mask.any() for mask in masks_of(kept, SHAPE_YX))
    again = drop_duplicates(kept, SHAPE_YX, CONFIG)
    assert np.array_equal(again.scores, kept.scores)


@given(crowds())
def test_a_dropped_instance_is_empty_or_overlaps_a_better_one(found: Instances) -> None:
    kept_scores = drop_duplicates(found, SHAPE_YX, CONFIG).scores
    masks = masks_of(found, SHAPE_YX)
    for i in np.flatnonzero(~np.isin(found.scores, kept_scores)):
        better = [j for j in range(i) if found.scores[j] in kept_scores]
        assert not masks[i].any() or any((masks[i] & masks[j]).any() for j in better)


@given(crowds())
def test_no_two_kept_masks_show_the_same_object(found: Instances) -> None:
    masks = masks_of(drop_duplicates(found, SHAPE_YX, CONFIG), SHAPE_YX)
    for i in range(len(masks)):
        for j in range(i):
            shared = np.count_nonzero(masks[i] & masks[j])
            union = np.count_nonzero(masks[i] | masks[j])
            smaller = min(np.count_nonzero(masks[i]), np.count_nonzero(masks[j]))
            assert shared <= CONFIG.duplicate_iomin * smaller
            assert shared <= CONFIG.duplicate_iou * union


def test_a_wide_mask_around_a_kept_one_goes_though_a_third_holds_its_middle() -> None:
    found = full(
        [
            (10, 10, 20, 40),  # holds six tenths of the next one
            (14, 30, 24, 40),
            (13, 26, 30, 44),  # all around that one: drawn, it would be a ring
        ]
    )
    kept = drop_duplicates(found, SHAPE_YX, CONFIG)
    assert np.array_equal(kept.scores, found.scores[:2])


def test_copies_and_nested_instances_go_and_neighbours_stay() -> None:
    found = full(
        [
            (10, 10, 30, 30),
            (11, 10, 31, 30),  # the same, a pixel off
            (15, 15, 20, 20),  # inside
            (10, 28, 30, 48),  # touches: a tenth shared
            (-40, -40, -20, -20),  # out of sight
        ]
    )
    kept = drop_duplicates(found, SHAPE_YX, CONFIG)
    assert np.array_equal(kept.scores, found.scores[[0, 3]])


def test_nothing_in_nothing_out() -> None:
    assert len(drop_duplicates(Instances.empty(), SHAPE_YX, CONFIG)) == 0
