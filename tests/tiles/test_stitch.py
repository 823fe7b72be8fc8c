"""Planted instances, cut into tiles and stitched, are the planted instances."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import TileConfig
from dinomask.instances import Instances
from dinomask.tiles.plan import TilePlan, owned, plan_tiles
from dinomask.tiles.render import render_window
from dinomask.tiles.stitch import Stitched, stitch
from tests.tiles.scenes import disks, planted_disks

if TYPE_CHECKING:
    from random import Random

    from dinomask.instances import Array


def seen_by_tiles(
    plan: TilePlan, planted: Instances, seed: int, jitter_px: float
) -> list[tuple[int, Instances]]:
    """What each tile reports: its own slightly different sight of what it reads."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(len(plan)):
        y0, x0, y1, x1 = plan.read_image_yxyx(plan[i])
        boxes = planted.boxes_yxyx_px
        whole = np.all((boxes[:, 2:] > (y0, x0)) & (boxes[:, :2] < (y1, x1)), axis=1)
        seen = planted.take(whole)
        shift = rng.uniform(-jitter_px, jitter_px, (len(seen), 4)).astype(np.float32)
        scores = seen.scores - rng.uniform(0.01, 0.2, len(seen)).astype(np.float32)
        seen = dataclasses.replace(seen, boxes_yxyx_px=seen.boxes_yxyx_px + shift, scores=scores)
        records.append((i, owned(plan, plan[i], seen)))
    return records


def draw_all(stitched: Stitched, shape_yx: tuple[int, int]) -> Array:
    return render_window(stitched, (0, 0, *shape_yx))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[TilePlan, Instances, int]:
    shape = (draw(st.integers(20, 420)), draw(st.integers(20, 420)))
    diameter = draw(st.floats(10, 36))
    scale = draw(st.floats(0.6, 1.6))
    config = TileConfig(
        tile_px=14 * draw(st.integers(12, 16)), halo_px=draw(st.integers(40, 70)), seam_px=8
    )
    seed = draw(st.integers(0, 2**31))
    return plan_tiles(shape, scale, config), planted_disks(seed, shape, diameter), seed


@given(scenes())
def test_exact_sights_give_back_exactly_what_was_planted(
    case: tuple[TilePlan, Instances, int],
) -> None:
    plan, planted, seed = case
    stitched = stitch(plan, seen_by_tiles(plan, planted, seed, jitter_px=0))
    assert len(stitched) == len(planted)
    wanted = stitch(plan_tiles(plan.shape_yx, 1e-3, plan.config), [(0, planted)])
    labels, truth = (draw_all(s, plan.shape_yx) for s in (stitched, wanted))
    np.testing.assert_array_equal(labels > 0, truth > 0)
    joint = np.unique(np.stack([labels.ravel(), truth.ravel()]), axis=1)
    # one to one: no id of either image meets two of the other
    assert joint.shape[1] == len(np.unique(labels)) == len(np.unique(truth))


@given(scenes())
def test_differing_sights_give_every_object_once(case: tuple[TilePlan, Instances, int]) -> None:
    plan, planted, seed = case
    # tiles disagree by up to a tenth of a diameter, well within the seam margin
    sides = planted.boxes_yxyx_px[:, 2:] - planted.boxes_yxyx_px[:, :2]
    jitter = 0.1 * float(sides.min()) if len(planted) else 0.0
    stitched = stitch(plan, seen_by_tiles(plan, planted, seed, min(jitter, 3 / plan.scale)))
    found = stitched.instances.boxes_yxyx_px
    centres = (found[:, :2] + found[:, 2:]) / 2
    wanted = (planted.boxes_yxyx_px[:, :2] + planted.boxes_yxyx_px[:, 2:]) / 2
    assert len(centres) == len(wanted)
    if len(wanted):
        distance = np.linalg.norm(centres[:, None] - wanted[None], axis=2)
        assert sorted(distance.argmin(axis=1)) == list(range(len(wanted)))
        assert distance.min(axis=1).max() <= 1.5 * jitter


@given(scenes(), st.randoms(use_true_random=False))
def test_the_order_of_records_and_rows_changes_nothing(
    case: tuple[TilePlan, Instances, int], random: Random
) -> None:
    plan, planted, seed = case
    records = seen_by_tiles(plan, planted, seed, jitter_px=1.0)
    shuffled = [(i, found.take(np.arange(len(found))[::-1])) for i, found in records]
    random.shuffle(shuffled)
    one, other = stitch(plan, records), stitch(plan, iter(shuffled))
    for field in dataclasses.fields(Instances):
        np.testing.assert_array_equal(
            getattr(one.instances, field.name), getattr(other.instances, field.name)
        )
    np.testing.assert_array_equal(one.tile_index, other.tile_index)
    assert one.n_seam_duplicates == other.n_seam_duplicates


@pytest.fixture
def plan() -> TilePlan:
    """Two tiles that meet at x = 300."""
    return plan_tiles((100, 600), 1.0, TileConfig())


def test_the_better_sight_stays_and_is_counted(plan: TilePlan) -> None:
    left = disks([(50, 299)], [30], [0.6])
    right = disks([(50, 301)], [30], [0.9])
    stitched = stitch(plan, [(0, left), (1, right)])
    assert stitched.tile_index.tolist() == [1]
    assert stitched.instances.scores.tolist() == [np.float32(0.9)]
    assert stitched.n_seam_duplicates == 1


def test_equal_scores_go_to_the_lower_tile(plan: TilePlan) -> None:
    left = disks([(50, 299)], [30], [0.6])
    right = disks([(50, 301)], [30], [0.6])
    assert stitch(plan, [(1, right), (0, left)]).tile_index.tolist() == [0]


def test_a_part_inside_the_whole_is_one_object(plan: TilePlan) -> None:
    # IoU is 1/9 only, but the small one lies inside the large one
    stitched = stitch(
        plan, [(0, disks([(50, 295)], [60], [0.9])), (1, disks([(50, 301)], [20], [0.5]))]
    )
    assert len(stitched) == 1
    assert stitched.n_seam_duplicates == 1


def test_neighbours_that_overlap_a_little_stay_two(plan: TilePlan) -> None:
    # centres 24 apart, diameter 30: an overlap of about a tenth
    stitched = stitch(
        plan, [(0, disks([(50, 288)], [30], [0.9])), (1, disks([(50, 312)], [30], [0.5]))]
    )
    assert len(stitched) == 2
    assert stitched.n_seam_duplicates == 0


def test_doubles_within_one_tile_are_the_detectors_matter(plan: TilePlan) -> None:
    both = disks([(50, 299), (50, 300)], [30, 30], [0.9, 0.8])
    assert len(stitch(plan, [(0, both)])) == 2


def test_a_chain_keeps_what_the_dropped_one_would_have_dropped(plan: TilePlan) -> None:
    # the middle one is dropped by the best, so it can't drop the third
    left = disks([(50, 290), (50, 310)], [30, 30], [0.9, 0.5])
    right = disks([(50, 300)], [30], [0.7])
    stitched = stitch(plan, [(0, left), (1, right)])
    assert stitched.instances.scores.tolist() == [np.float32(0.9), np.float32(0.5)]


def test_ids_follow_tiles_then_boxes(plan: TilePlan) -> None:
    left = disks([(80, 20), (20, 60), (20, 20)], [20, 20, 20], [0.5, 0.6, 0.7])
    right = disks([(50, 500)], [20], [0.9])
    stitched = stitch(plan, [(1, right), (0, left)])
    assert stitched.ids.tolist() == [1, 2, 3, 4]
    assert stitched.ids.dtype == np.uint32
    assert stitched.tile_index.tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(stitched.instances.scores, [0.7, 0.6, 0.5, 0.9])
    np.testing.assert_array_equal(stitched.instances.classes, [0, 1, 0, 0])


def test_nothing_found_is_nothing_stitched(plan: TilePlan) -> None:
    for records in ([], [(0, Instances.empty()), (1, Instances.empty())]):
        stitched = stitch(plan, records)
        assert len(stitched) == 0
        assert stitched.instances.masks.shape == (0, 28, 28)
        assert not draw_all(stitched, plan.shape_yx).any()
