"""Tiles: cores partition the image, reads hold cores and halo."""

from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import TileConfig
from dinomask.errors import InputError, SettingsError
from dinomask.instances import Instances
from dinomask.tiles.plan import TilePlan, owned, plan_tiles


@st.composite
def plans(draw: st.DrawFn) -> TilePlan:
    tile = 14 * draw(st.integers(8, 20))
    halo = draw(st.integers(0, tile // 2 - 14))
    config = TileConfig(tile_px=tile, halo_px=halo, seam_px=draw(st.integers(0, min(8, halo))))
    side = st.integers(1, 1500)
    shape = (draw(side), draw(side))
    return plan_tiles(shape, draw(st.floats(0.1, 2.0)), config, draw(st.sampled_from([28, 56])))


@given(plans())
def test_cores_partition_the_scaled_image(plan: TilePlan) -> None:
    covered = np.zeros(plan.shape_scaled_yx, np.int32)
    for i in range(len(plan)):
        y0, x0, y1, x1 = plan[i].core_yxyx_px
        assert 0 <= y0 < y1 <= plan.shape_scaled_yx[0]
        assert 0 <= x0 < x1 <= plan.shape_scaled_yx[1]
        covered[y0:y1, x0:x1] += 1
    assert np.all(covered == 1)


@given(plans())
def test_read_holds_core_and_halo(plan: TilePlan) -> None:
    halo = plan.config.halo_px
    for i in range(len(plan)):
        tile = plan[i]
        for axis in (0, 1):
            side, size = plan.tile_yx_px[axis], plan.shape_scaled_yx[axis]
            core_low, core_high = tile.core_yxyx_px[axis], tile.core_yxyx_px[axis + 2]
            low, high = tile.read_yxyx_px[axis], tile.read_yxyx_px[axis + 2]
            assert high - low == side
            assert low >= 0
            assert high <= max(size, side)
            assert low <= max(0, core_low - halo)
            assert high >= min(size, core_high + halo)


@given(plans())
def test_tiles_are_no_larger_than_they_need_be(plan: TilePlan) -> None:
    for side, n, size in zip(plan.tile_yx_px, plan.grid_yx, plan.shape_scaled_yx, strict=True):
        assert side % plan.side_step_px == 0 or side == plan.config.tile_px
        assert 112 <= side <= plan.config.tile_px
        # tiles of a step less would not cover the image with two halos where they overlap
        shorter = side - (side % plan.side_step_px or plan.side_step_px)
        assert side == 112 or n * shorter - 2 * plan.config.halo_px * (n - 1) < size


def test_with_a_coarser_step_images_of_many_sizes_share_shapes() -> None:
    scales = np.linspace(0.5, 2.0, 60)
    fine, coarse = (
        {plan_tiles((256, 256), scale, TileConfig(), step).tile_yx_px for scale in scales}
        for step in (28, 56)
    )
    assert len(coarse) <= 0.6 * len(fine)


@given(plans())
def test_no_tile_is_a_sliver(plan: TilePlan) -> None:
    step = plan.config.tile_px - 2 * plan.config.halo_px
    n_x = plan.grid_yx[1]
    for axis, tiles in ((0, range(0, len(plan), n_x)), (1, range(n_x))):
        cores = [plan[i].core_yxyx_px for i in tiles]
        sizes = [core[axis + 2] - core[axis] for core in cores]
        if len(sizes) == 2:
            assert abs(sizes[0] - sizes[1]) <= 1
        if len(sizes) > 2:
            assert min(sizes) >= step // 2
            assert max(sizes[1:-1]) - min(sizes[1:-1]) <= 2


def test_an_image_that_fits_is_one_tile() -> None:
    plan = plan_tiles((300, 448), 1.0, TileConfig(448))
    assert len(plan) == 1
    assert plan[0].core_yxyx_px == (0, 0, 300, 448)
    assert plan[0].read_yxyx_px == (0, 0, 308, 448)


def test_one_pixel_more_makes_two_even_tiles() -> None:
    plan = plan_tiles((449, 448), 1.0, TileConfig(448))
    assert [plan[i].core_yxyx_px for i in range(len(plan))] == [
        (0, 0, 224, 448),
        (224, 0, 449, 448),
    ]


@pytest.mark.parametrize(
    ("size", "scale", "scaled"),
    [(1000, 0.07, 70), (100, 0.325, 33), (1, 0.01, 1), (7, 2.0, 14), (3, 1 / 3, 1)],
)
def test_scaled_size_rounds_up_but_not_for_rounding_errors(
    size: int, scale: float, scaled: int
) -> None:
    assert plan_tiles((size, size), scale, TileConfig()).shape_scaled_yx == (scaled, scaled)


def test_a_huge_image_is_planned_at_once() -> None:
    start = time.perf_counter()
    plan = plan_tiles((1_000_000, 1_000_000), 1.0, TileConfig())
    last = plan[len(plan) - 1]
    elapsed_s = time.perf_counter() - start
    assert last.core_yxyx_px[2:] == (1_000_000, 1_000_000)
    assert last.read_yxyx_px[2:] == (1_000_000, 1_000_000)
    assert len(plan) == math.ceil((1_000_000 - 128) / 432) ** 2
    # listing ten million tiles would take seconds
    assert elapsed_s < 0.1


def test_a_huge_plan_takes_no_memory() -> None:
    tracemalloc.start()
    plan = plan_tiles((1_000_000, 1_000_000), 1.0, TileConfig())
    last = plan[len(plan) - 1]
    near = list(plan.tiles_touching((500_000, 500_000, 502_000, 502_000)))
    at = plan.tiles_at(np.random.default_rng(0).uniform(0, 1e6, (1000, 2)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last.index == len(plan) - 1
    assert len(near) < 100
    assert at.max() < len(plan)
    assert peak_bytes < 1e6


@given(plans(), st.integers(0, 2**31))
def test_many_at_once_are_as_one_by_one(plan: TilePlan, seed: int) -> None:
    indices = np.random.default_rng(seed).integers(0, len(plan), 20)
    cores, reads = plan.cores_image_yxyx(indices), plan.reads_image_yxyx(indices)
    ends = plan.ends_image_yxyx(indices)
    size = plan.shape_scaled_yx * 2
    for row, index in enumerate(indices.tolist()):
        tile = plan[index]
        assert tuple(cores[row]) == plan.core_image_yxyx(tile)
        assert tuple(reads[row]) == plan.read_image_yxyx(tile)
        for side in range(4):
            seen = tile.read_yxyx_px[side]
            inside = seen > 0 if side < 2 else seen < size[side]
            assert ends[row, side] == (reads[row, side] if inside else (-1) ** (side < 2) * np.inf)


@given(plans(), st.integers(0, 2**31))
def test_a_point_is_in_the_core_of_its_tile(plan: TilePlan, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (30, 2)) * plan.shape_scaled_yx / plan.scale * (1 - 1e-9)
    for point, index in zip(points, plan.tiles_at(points).tolist(), strict=True):
        y0, x0, y1, x1 = plan.core_image_yxyx(plan[index])
        assert y0 - 1e-6 <= point[0] <= y1 + 1e-6
        assert x0 - 1e-6 <= point[1] <= x1 + 1e-6


@given(plans(), st.tuples(*[st.integers(0, 1400)] * 2), st.tuples(*[st.integers(1, 300)] * 2))
def test_tiles_of_a_window_are_those_of_a_search(
    plan: TilePlan, first: tuple[int, int], size: tuple[int, int]
) -> None:
    y0, x0 = (min(a, n - 1) for a, n in zip(first, plan.shape_yx, strict=True))
    y1, x1 = (min(a + s, n) for a, s, n in zip((y0, x0), size, plan.shape_yx, strict=True))
    cores = plan.cores_image_yxyx(np.arange(len(plan)))
    # borders that meet the window's but for the last bits count as meeting
    sides = np.minimum(cores[:, 2:], (y1, x1)) - np.maximum(cores[:, :2], (y0, x0))
    sure, perhaps = (np.flatnonzero(np.all(sides > e, axis=1)).tolist() for e in (1e-6, -1e-6))
    found = list(plan.tiles_touching((y0, x0, y1, x1)))
    assert set(sure) <= set(found) <= set(perhaps)
    assert found == sorted(found)


def test_an_index_outside_is_refused() -> None:
    plan = plan_tiles((10, 10), 1.0, TileConfig())
    for index in (-1, 1):
        with pytest.raises(IndexError):
            plan[index]


@given(plans(), st.integers(0, 2**31))
def test_without_a_seam_margin_every_centre_has_one_owner(plan: TilePlan, seed: int) -> None:
    config = TileConfig(plan.config.tile_px, plan.config.halo_px, seam_px=0)
    plan = plan_tiles(plan.shape_yx, plan.scale, config)
    rng = np.random.default_rng(seed)
    # some centres lie beyond the image: objects that its edge cuts
    centres = rng.uniform(-0.1, 1.1, (40, 2)) * plan.shape_yx
    boxes = np.hstack([centres - 3, centres + 3]).astype(np.float32)
    found = _boxes_only(boxes)
    owners = np.zeros(len(boxes), int)
    for i in range(len(plan)):
        owners += np.isin(found.scores, owned(plan, plan[i], found).scores)
    assert np.all(owners == 1)


def test_seam_margin_is_in_model_pixels() -> None:
    # scale 1/2: the seam between two tiles lies at image pixel 600, the margin is 16
    plan = plan_tiles((100, 1200), 0.5, TileConfig())
    assert len(plan) == 2
    assert plan.core_image_yxyx(plan[0])[3] == 600
    centres_x = np.array([583.0, 585.0, 599.0, 600.0, 615.0, 616.0])
    boxes = np.stack([centres_x * 0, centres_x - 5, centres_x * 0 + 9, centres_x + 5], axis=1)
    found = _boxes_only(boxes.astype(np.float32))
    assert owned(plan, plan[0], found).scores.tolist() == [0, 1, 2, 3, 4]
    assert owned(plan, plan[1], found).scores.tolist() == [1, 2, 3, 4, 5]


def _boxes_only(boxes: np.ndarray) -> Instances:
    """Instances whose score is their number."""
    n = len(boxes)
    return Instances(
        boxes,
        np.arange(n, dtype=np.float32),
        np.zeros(n, np.int32),
        np.zeros((n, 4, 4), np.uint8),
    )


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="at least 1 x 1"):
        plan_tiles(shape, 1.0, TileConfig())


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(SettingsError, match="scale above 0"):
        plan_tiles((5, 5), scale, TileConfig())
