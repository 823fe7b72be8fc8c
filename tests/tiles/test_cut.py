"""Objects larger than the halo: seen in parts, joined, drawn as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dinomask.config import TileConfig
from dinomask.instances import Instances
from dinomask.tiles.advice import cut_findings, halo_for
from dinomask.tiles.plan import TilePlan, owned, plan_tiles
from dinomask.tiles.render import render_image, render_window
from dinomask.tiles.sight import is_cut, mask_extents
from dinomask.tiles.stitch import stitch
from tests.tiles.scenes import disks

if TYPE_CHECKING:
    from random import Random

    from dinomask.instances import Array

MASK_PX = 28


def sight_of(mask_yx: Array, window: tuple[int, int, int, int], score: float) -> Instances:
    """What a network makes of the part of an object in a window: a 28 × 28 mask on a loose frame.

    Each connected part of it is an instance of its own, as in one tile nothing shows
    that they belong together.
    """
    y0, x0, y1, x1 = window
    parts, n = ndimage.label(mask_yx[y0:y1, x0:x1])
    boxes, masks = [], []
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
        part = np.pad(parts[rows, columns] == number, 1).astype(float)
        top, left = rows.start - 1, columns.start - 1
        height, width = part.shape
        grid = [(np.arange(MASK_PX) + 0.5) / MASK_PX * side - 0.5 for side in (height, width)]
        smooth = [max(side / MASK_PX / 2, 0.3) for side in (height, width)]
        values = ndimage.map_coordinates(
            ndimage.gaussian_filter(part, smooth), np.meshgrid(*grid, indexing="ij"), order=1
        )
        boxes.append([y0 + top, x0 + left, y0 + top + height, x0 + left + width])
        masks.append(np.round(values * 255))
    return Instances(
        np.array(boxes, np.float32).reshape(n, 4),
        np.full(n, score, np.float32),
        np.zeros(n, np.int32),
        np.array(masks, np.uint8).reshape(n, MASK_PX, MASK_PX),
    )


def records_of(plan: TilePlan, labels: Array, seed: int) -> list[tuple[int, Instances]]:
    rng = np.random.default_rng(seed)
    height, width = plan.shape_yx
    records = []
    for i in range(len(plan)):
        y0, x0, y1, x1 = (round(v) for v in plan.read_image_yxyx(plan[i]))
        window = (max(y0, 0), max(x0, 0), min(y1, height), min(x1, width))
        here = labels[window[0] : window[2], window[1] : window[3]]
        found = [
            sight_of(labels == k, window, rng.uniform(0.5, 1)) for k in np.unique(here[here > 0])
        ]
        records.append((i, owned(plan, plan[i], Instances.concatenate(found))))
    return records


def blob(shape_yx: tuple[int, int], rng: np.random.Generator, radius: float) -> Array:
    """A smooth random shape, star-shaped about its centre, which may lie by the image's edge."""
    y, x = np.mgrid[: shape_yx[0], : shape_yx[1]]
    centre = rng.uniform(0.1, 0.9, 2) * shape_yx
    angle = np.arctan2(y - centre[0], x - centre[1])
    phases = rng.uniform(0, 2 * np.pi, 3)
    waves = [0.12 * np.sin(k * angle + phases[k - 2]) for k in (2, 3, 4)]
    stretch = rng.uniform(0.6, 1)
    far = np.hypot((y - centre[0]) / stretch, x - centre[1])
    return far < radius * (1 + np.sum(waves, axis=0))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[TilePlan, Array, int]:
    """Objects from a third of a halo to several tiles, a few pixels apart."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(150, 420)), draw(st.integers(150, 420)))
    tile = 14 * draw(st.integers(8, 12))
    config = TileConfig(tile_px=tile, halo_px=draw(st.integers(24, tile // 2 - 20)), seam_px=8)
    labels = np.zeros(shape, np.int32)
    for k in range(1, draw(st.integers(1, 6)) + 1):
        mask = blob(shape, rng, rng.uniform(14, 160))
        mask &= ~ndimage.binary_dilation(labels > 0, iterations=4)
        mask = ndimage.binary_opening(mask, iterations=5)
        parts, n = ndimage.label(mask)
        if n:
            sizes = np.bincount(parts.ravel())[1:]
            labels[parts == sizes.argmax() + 1] = k if sizes.max() >= 300 else 0
    return plan_tiles(shape, 1.0, config), labels, draw(st.integers(0, 2**31))


@given(scenes())
def test_objects_of_any_size_are_found_once_and_whole(case: tuple[TilePlan, Array, int]) -> None:
    plan, planted, seed = case
    stitched = stitch(plan, records_of(plan, planted, seed))
    labels = render_window(stitched, (0, 0, *plan.shape_yx))
    ids = np.unique(planted[planted > 0])
    assert len(stitched) == len(ids)
    for k in ids:
        mine = planted == k
        found, counts = np.unique(labels[mine & (labels > 0)], return_counts=True)
        drawn = labels == found[counts.argmax()]
        assert (mine & drawn).sum() / (mine | drawn).sum() >= 0.9


def wide_bar(length: int, n_tiles: int = 3) -> tuple[TilePlan, Array]:
    """A bar through a row of tiles of 112 px with a halo of 28 px."""
    width = 112 + 56 * (n_tiles - 1)
    plan = plan_tiles((112, width), 1.0, TileConfig(tile_px=112, halo_px=28, seam_px=8))
    assert len(plan) == n_tiles
    labels = np.zeros(plan.shape_yx, np.int32)
    labels[40:70, 20 : 20 + length] = 1
    return plan, labels


def test_pieces_are_joined_and_reported() -> None:
    plan, planted = wide_bar(190)
    stitched = stitch(plan, records_of(plan, planted, 0))
    assert (len(stitched), stitched.n_cut_objects, stitched.n_merged_objects) == (1, 1, 1)
    assert stitched.n_seam_duplicates == 0
    labels, table = render_image(stitched, plan.shape_yx)
    assert table["cut"].tolist() == [True]
    row = table.iloc[0]
    assert abs(row["x0"] - 20) <= 2
    assert abs(row["x1"] - 210) <= 2
    assert (labels > 0).sum() == row["area_px"]
    (finding,) = cut_findings(stitched, plan)
    assert finding.what.startswith("1 object is too large for the halo of 28 px")
    assert "--tile" in finding.remedy


def test_an_object_that_one_tile_sees_whole_is_not_put_together() -> None:
    # centred on the seam at x = 84, 70 px wide: larger than the halo to either side
    plan, planted = wide_bar(0, 2)
    planted[40:70, 30:100] = 1
    records = records_of(plan, planted, 0)
    assert is_cut(plan, np.array([1]), dict(records)[1]).tolist() == [True]
    stitched = stitch(plan, records)
    assert (len(stitched), stitched.n_cut_objects, stitched.n_seam_duplicates) == (1, 0, 1)
    assert cut_findings(stitched, plan) == []


def test_the_whole_stays_whatever_the_scores() -> None:
    plan, planted = wide_bar(0, 2)
    planted[40:70, 30:100] = 1
    whole, part = dict(records_of(plan, planted, 0)).values()
    low = Instances(whole.boxes_yxyx_px, whole.scores * 0.1, whole.classes, whole.masks)
    stitched = stitch(plan, [(0, low), (1, part)])
    assert stitched.tile_index.tolist() == [0]
    assert stitched.instances.scores[0] == low.scores[0]


def test_two_long_neighbours_stay_two() -> None:
    plan, planted = wide_bar(190)
    planted[72:100, 20:210] = 2
    stitched = stitch(plan, records_of(plan, planted, 0))
    assert (len(stitched), stitched.n_merged_objects) == (2, 2)


def test_a_small_object_at_the_end_of_a_read_region_is_the_neighbours() -> None:
    plan = plan_tiles((112, 168), 1.0, TileConfig(tile_px=112, halo_px=28, seam_px=8))
    assert len(plan) == 2
    # tile 0 reads up to x = 112 and owns up to 84
    small = disks([(50, 108)], [12], [0.9])
    assert len(owned(plan, plan[0], small)) == 0
    assert len(owned(plan, plan[1], small)) == 1


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.randoms(use_true_random=False), st.integers(5, 90))
def test_order_and_windows_change_nothing(seed: int, random: Random, side_px: int) -> None:
    plan, planted = wide_bar(190, 4)
    planted[75:95, 5:150] = 2
    records = records_of(plan, planted, seed)
    shuffled = [(i, found.take(np.arange(len(found))[::-1])) for i, found in records]
    random.shuffle(shuffled)
    one, other = stitch(plan, records), stitch(plan, shuffled)
    whole = render_window(one, (0, 0, *plan.shape_yx))
    np.testing.assert_array_equal(render_window(other, (0, 0, *plan.shape_yx)), whole)
    np.testing.assert_array_equal(one.instances.masks, other.instances.masks)
    np.testing.assert_array_equal(one.pieces.clips_yxyx_px, other.pieces.clips_yxyx_px)
    height, width = plan.shape_yx
    for y0 in range(0, height, side_px):
        for x0 in range(0, width, side_px):
            window = (y0, x0, min(y0 + side_px, height), min(x0 + side_px, width))
            here = whole[window[0] : window[2], window[1] : window[3]]
            np.testing.assert_array_equal(render_window(one, window), here)


def test_the_coarse_mask_and_box_stand_for_the_pieces() -> None:
    plan, planted = wide_bar(190)
    stitched = stitch(plan, records_of(plan, planted, 0))
    y0, x0, y1, x1 = mask_extents(stitched.instances)[0]
    assert [y0, x0, y1, x1] == pytest.approx([40, 20, 70, 210], abs=8)


def test_taking_and_scaling_take_the_pieces_along() -> None:
    plan, planted = wide_bar(190)
    planted[80:100, 30:50] = 2
    stitched = stitch(plan, records_of(plan, planted, 0))
    assert stitched.is_cut.tolist() == [True, False]
    labels = render_window(stitched, (0, 0, *plan.shape_yx))
    for i in range(2):
        alone = stitched.take(np.array([i]))
        assert alone.n_cut_objects == (i == 0)
        np.testing.assert_array_equal(
            render_window(alone, (0, 0, *plan.shape_yx)) > 0, labels == i + 1
        )
    height, width = plan.shape_yx
    double = render_window(stitched.scaled(2.0), (0, 0, 2 * height, 2 * width))
    area = np.bincount(double.ravel())[1:] / np.bincount(labels.ravel())[1:]
    assert area == pytest.approx([4, 4], rel=0.05)


def test_the_halo_asked_for_is_enough() -> None:
    """With it, the owner of an object of that size sees it whole wherever it lies."""
    size = 60
    config = TileConfig(tile_px=224, halo_px=halo_for(size), seam_px=8)
    plan = plan_tiles((224, 500), 1.0, config)
    for x in range(30, 470, 3):
        found = disks([(100, x)], [size], [0.9])
        tile = int(plan.tiles_at(np.array([[100.0, float(x)]]))[0])
        assert not is_cut(plan, np.array([tile]), found)[0]
