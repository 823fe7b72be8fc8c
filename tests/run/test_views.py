"""Views of a tile: there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import DetectConfig
from dinomask.errors import SettingsError
from dinomask.instances import Instances, paste_probability
from dinomask.run.views import SYMMETRIES, View, plan_views

SHAPE_YX = (42, 56)
symmetries = st.sampled_from(SYMMETRIES["full"])
scales = st.sampled_from([0.5, 0.8, 1.0, 1.25, 2.0])


def objects(seed: int, shape_yx: tuple[int, int] = SHAPE_YX, n: int = 3) -> Instances:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-5, np.array(shape_yx) - 10, (n, 2))
    size = rng.uniform(4, 20, (n, 2))
    return Instances(
        np.concatenate([low, low + size], 1).astype(np.float32),
        rng.random(n).astype(np.float32),
        np.zeros(n, np.int32),
        rng.integers(0, 256, (n, 6, 6)).astype(np.uint8),
    )


def drawn(found: Instances, shape_yx: tuple[int, int]) -> np.ndarray:
    """Probabilities of each instance as planes of shape (N, H, W)."""
    planes = np.zeros((len(found), *shape_yx), np.float32)
    for plane, mask, box in zip(planes, found.masks, found.boxes_yxyx_px, strict=True):
        part, (y, x) = paste_probability(mask, box, (0, 0, *shape_yx))
        plane[y : y + part.shape[0], x : x + part.shape[1]] = part
    return planes


@given(symmetries, st.integers(0, 10_000))
def test_what_is_found_in_a_view_lies_where_the_tile_shows_it(
    symmetry: tuple[bool, bool, bool], seed: int
) -> None:
    # the view's own picture of the objects must be the tile's picture, moved
    view = View(*symmetry)
    in_view = SHAPE_YX[::-1] if view.swap else SHAPE_YX
    found = objects(seed, in_view)
    restored = drawn(view.restore(found, SHAPE_YX), SHAPE_YX)
    np.testing.assert_allclose(view.apply(restored), drawn(found, in_view), atol=1e-4)


@given(symmetries, scales)
def test_a_scaled_view_keeps_places(symmetry: tuple[bool, bool, bool], scale: float) -> None:
    # a smooth blob's centre of mass is the same in the tile and, put back, in the view
    y, x = np.mgrid[:112, :140] + 0.5
    tile = np.exp(-((y - 40) ** 2 + (x - 90) ** 2) / 200)[None].astype(np.float32)
    view = View(*symmetry, scale=scale)
    seen = view.apply(tile)
    assert all(side % 14 == 0 for side in seen.shape[1:])
    rows, columns = np.indices(seen.shape[1:]) + 0.5
    centre = [float((seen[0] * axis).sum() / seen.sum()) for axis in (rows, columns)]
    found = objects(0, n=1)
    box = np.array([[centre[0] - 3, centre[1] - 3, centre[0] + 3, centre[1] + 3]], np.float32)
    back = view.restore(Instances(box, found.scores, found.classes, found.masks), (112, 140))
    y0, x0, y1, x1 = back.boxes_yxyx_px[0]
    np.testing.assert_allclose([(y0 + y1) / 2, (x0 + x1) / 2], [40, 90], atol=0.02)
    expected = np.array([112, 140]) / (seen.shape[1:] if not view.swap else seen.shape[:0:-1]) * 6
    np.testing.assert_allclose([y1 - y0, x1 - x0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["flips", "full"])
def test_the_views_of_a_moved_tile_are_the_moved_tiles_views(name: str) -> None:
    tile = np.random.default_rng(0).random((3, 28, 28), np.float32)
    views = [View(*symmetry) for symmetry in SYMMETRIES[name]]
    seen = {view.apply(tile).tobytes() for view in views}
    assert len(seen) == len(views) == {"flips": 4, "full": 8}[name]
    for move in views:
        assert {view.apply(move.apply(tile)).tobytes() for view in views} == seen


def test_full_holds_the_quarter_turns() -> None:
    tile = np.random.default_rng(0).random((3, 28, 42), np.float32)
    seen = {View(*symmetry).apply(tile).tobytes() for symmetry in SYMMETRIES["full"]}
    for turns in range(4):
        assert np.ascontiguousarray(np.rot90(tile, turns, (1, 2))).tobytes() in seen


def test_views_follow_the_settings_and_the_plain_one_comes_first() -> None:
    assert plan_views(DetectConfig()) == (View(),)
    assert len(plan_views(DetectConfig(tta="full", tta_scales=(0.8, 1.25)))) == 24
    views = plan_views(DetectConfig(tta="flips", tta_scales=(0.5,)))
    assert views[0] == View()
    assert [v.scale for v in views] == [1.0] * 4 + [0.5] * 4


@pytest.mark.parametrize("scales", [(1.0,), (0.8, 0.8), (0.1,), (5.0,), (float("nan"),)])
def test_scales_that_make_no_sense_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="scales"):
        DetectConfig(tta_scales=scales)
