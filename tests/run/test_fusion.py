"""Fusion of views: one instance an object, a mean score, places kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import DetectConfig, SegmentConfig
from dinomask.image import fit_normaliser, open_image
from dinomask.image.resample import read_scaled
from dinomask.instances import Instances
from dinomask.run.fusion import SIZE_SPREAD, fuse, group_instances, resample_mask
from dinomask.run.predictor import Predictor
from dinomask.run.resuming import run_key
from dinomask.run.segment import segment
from dinomask.run.views import SYMMETRIES, View
from dinomask.tiles.ledger import key_hash
from dinomask.tiles.plan import plan_tiles

SHAPE_YX = (56, 56)


def discs(centres_yx: np.ndarray, scores: list[float], radius_px: float = 5.0) -> Instances:
    """Round objects, each on a frame a little larger than itself."""
    centres_yx = np.asarray(centres_yx, np.float32).reshape(-1, 2)
    cells = np.abs((np.arange(28) + 0.5) / 28 - 0.5) * 2.4
    probability = np.clip(0.5 + 3 * (1 - np.hypot(cells[:, None], cells)), 0, 1)
    half = np.float32(radius_px * 1.2)
    return Instances(
        np.concatenate([centres_yx - half, centres_yx + half], 1),
        np.array(scores, np.float32),
        np.zeros(len(scores), np.int32),
        np.repeat(np.round(probability * 255).astype(np.uint8)[None], len(scores), 0),
    )


@st.composite
def sights(draw: st.DrawFn) -> tuple[np.ndarray, list[Instances]]:
    """Places of objects apart from each other, and what some views see of them."""
    cells = draw(st.lists(st.integers(0, 15), unique=True, min_size=1, max_size=6))
    places = np.array([(7 + 14 * (c // 4), 7 + 14 * (c % 4)) for c in cells], np.float32)
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    views = []
    for _ in range(draw(st.integers(1, 5))):
        seen = rng.random(len(places)) < 0.7
        moved = places[seen] + rng.uniform(-0.8, 0.8, (int(seen.sum()), 2)).astype(np.float32)
        views.append(discs(moved, list(rng.uniform(0.1, 1, len(moved)))))
    return places, views


def centres(found: Instances) -> np.ndarray:
    return (found.boxes_yxyx_px[:, :2] + found.boxes_yxyx_px[:, 2:]) / 2


@given(sights())
def test_each_object_seen_becomes_one_with_the_mean_score(
    scene: tuple[np.ndarray, list[Instances]],
) -> None:
    places, views = scene
    fused = fuse(views, SHAPE_YX)
    expected = {}
    for place, view in ((p, v) for p in places for v in views):
        near = np.abs(centres(view) - place).max(axis=1, initial=-1) < 1
        if near.any():
            expected[tuple(place)] = expected.get(tuple(place), 0) + float(view.scores[near][0])
    assert len(fused) == len(expected)
    for centre, score in zip(centres(fused), fused.scores, strict=True):
        place = min(expected, key=lambda p: np.abs(np.array(p) - centre).max())
        assert np.abs(np.array(place) - centre).max() < 1
        assert score == pytest.approx(expected[place] / len(views), rel=1e-5)
    assert np.all(np.diff(fused.scores) <= 0)


@given(sights(), st.randoms(use_true_random=False))
def test_the_order_of_the_views_does_not_matter(scene, random) -> None:
    _, views = scene
    shuffled = random.sample(views, len(views))
    a, b = fuse(views, SHAPE_YX), fuse(shuffled, SHAPE_YX)
    np.testing.assert_allclose(a.boxes_yxyx_px, b.boxes_yxyx_px, atol=1e-5)
    np.testing.assert_allclose(a.scores, b.scores, rtol=1e-6)
    assert np.abs(a.masks.astype(int) - b.masks).max(initial=0) <= 1


@given(sights(), st.sampled_from(SYMMETRIES["full"]))
def test_fusion_moves_with_the_tile(scene, symmetry) -> None:
    _, views = scene
    move = View(*symmetry)
    fused_then_moved = move.restore(fuse(views, SHAPE_YX), SHAPE_YX)
    moved_then_fused = fuse([move.restore(v, SHAPE_YX) for v in views], SHAPE_YX)
    for name in ("boxes_yxyx_px", "scores"):
        a, b = getattr(fused_then_moved, name), getattr(moved_then_fused, name)
        np.testing.assert_allclose(a, b, atol=1e-4)
    off = np.abs(fused_then_moved.masks.astype(int) - moved_then_fused.masks)
    assert off.max(initial=0) <= 1


@given(sights(), st.integers(1, 8))
def test_views_that_agree_change_nothing(scene, n) -> None:
    one = scene[1][0]
    one = one.take(np.argsort(-one.scores, kind="stable"))
    fused = fuse([one] * n, SHAPE_YX)
    np.testing.assert_allclose(fused.boxes_yxyx_px, one.boxes_yxyx_px, atol=1e-5)
    np.testing.assert_allclose(fused.scores, one.scores, rtol=1e-6)
    assert np.abs(fused.masks.astype(int) - one.masks).max(initial=0) <= 1


def test_what_one_view_imagines_sinks() -> None:
    real = [discs([[20, 20]], [0.6]) for _ in range(4)]
    views = [Instances.concatenate([real[0], discs([[40, 40]], [0.9])]), *real[1:]]
    fused = fuse(views, SHAPE_YX)
    np.testing.assert_allclose(fused.scores, [0.6, 0.9 / 4], rtol=1e-5)
    np.testing.assert_allclose(centres(fused)[0], [20, 20])


@given(st.floats(2, 12), st.floats(0.1, 0.9), st.floats(0.3, 3.0))
def test_a_view_counts_as_far_as_it_shows_objects_of_this_size(radius_px, score, scale) -> None:
    seen = discs([[28, 28]], [score], radius_px)
    diameter = float(seen.diameters_px()[0])
    assert diameter == pytest.approx(2 * radius_px, rel=0.03)
    # of the target's size in the view that shows it, of another in the one that doesn't
    views, scales = [seen, Instances.empty()], [1.0, scale]
    fused = fuse(views, SHAPE_YX, scales, target_px=diameter)
    missing = np.exp(-0.5 * (np.log(scale) / SIZE_SPREAD) ** 2)
    assert fused.scores[0] == pytest.approx(score / (1 + missing), rel=1e-4)
    # and the other way round what is seen by the view that shows it badly sinks
    badly = fuse(views, SHAPE_YX, scales, target_px=diameter * scale)
    assert badly.scores[0] <= fused.scores[0] * (1 + 1e-6)
    same = fuse(views, SHAPE_YX, [scale, scale], target_px=diameter)
    assert same.scores[0] == pytest.approx(score / 2, rel=1e-5)


def test_two_of_one_view_and_two_classes_stay_apart() -> None:
    close = discs([[20, 20], [20, 22]], [0.9, 0.8])
    assert len(fuse([close, discs([[20, 21]], [0.7])], SHAPE_YX)) == 2
    other = dataclasses.replace(close, classes=np.array([0, 1], np.int32))
    groups = group_instances(other, np.array([0, 1]), SHAPE_YX)
    assert groups == [[0], [1]]


def test_a_mask_on_its_own_frame_stays_and_on_another_keeps_its_place() -> None:
    ramp = np.arange(28, dtype=np.uint8)[:, None] * 4 + np.arange(28, dtype=np.uint8)[None] * 5
    box = np.array([3.3, 7.1, 31.7, 30.2], np.float32)
    np.testing.assert_allclose(resample_mask(ramp, box, box), ramp, atol=1e-3)
    # a linear ramp stays linear in the tile's coordinates, 0 beyond its frame
    frame = np.array([10, 2, 20, 24], np.float32)
    y = (10 + (np.arange(28) + 0.5) * 10 / 28 - 3.3) * 28 / 28.4 - 0.5
    x = (2 + (np.arange(28) + 0.5) * 22 / 28 - 7.1) * 28 / 23.1 - 0.5
    sampled = resample_mask(ramp, box, frame)
    inside = x >= 0
    np.testing.assert_allclose(sampled[:, inside], 4 * y[:, None] + 5 * x[inside], atol=1e-2)
    assert not sampled[:, x < -0.5].any()
    assert (x < -0.5).any()


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(SegmentConfig(threads=1))


@pytest.fixture(scope="module")
def tile(sample_nuclei) -> np.ndarray:
    image = open_image(sample_nuclei)
    return read_scaled(image, fit_normaliser(image), 32 / 26, (100, 100, 268, 268))


def test_the_network_seen_from_all_sides_turns_with_the_image(predictor, tile) -> None:
    plain, full = DetectConfig(), DetectConfig(tta="full")
    turned = np.ascontiguousarray(np.rot90(tile, 1, (1, 2)))
    back = next(
        View(*symmetry)
        for symmetry in SYMMETRIES["full"]
        if np.array_equal(View(*symmetry).apply(tile), turned)
    )
    shape_yx = tile.shape[1:]
    straight = predictor.detect(tile, full)
    after_turn = back.restore(predictor.detect(turned, full), shape_yx)
    assert len(straight) == len(after_turn) >= 5
    np.testing.assert_allclose(after_turn.scores, straight.scores, atol=1e-4)
    np.testing.assert_allclose(after_turn.boxes_yxyx_px, straight.boxes_yxyx_px, atol=1e-2)
    # which the network alone does not
    one, other = predictor.detect(tile, plain), predictor.detect(turned, plain)
    assert len(one) != len(other) or np.abs(one.scores - other.scores).max() > 1e-2


def test_a_run_with_other_views_is_another_run(predictor, sample_nuclei) -> None:
    image = open_image(sample_nuclei)
    configs = [
        SegmentConfig(detect=DetectConfig(tta=tta, tta_scales=scales))
        for tta, scales in (("off", ()), ("flips", ()), ("full", ()), ("off", (0.8,)))
    ]
    keys = set()
    for config in configs:
        plan = plan_tiles(image.shape_yx, 1.0, config.tiles)
        keys.add(key_hash(run_key(image, predictor, config, plan)))
    assert len(keys) == len(configs)


def test_segmenting_with_views_and_scales_finds_the_objects(predictor, sample_nuclei) -> None:
    pixels = open_image(sample_nuclei).read((0, 0, 150, 150))[0]
    detect = DetectConfig(tta="flips", tta_scales=(0.8,))
    config = SegmentConfig(diameter_px=26.0, threads=1, detect=detect)
    with_views = segment(open_image(pixels), config=config, predictor=predictor)
    plain = segment(
        open_image(pixels),
        config=SegmentConfig(diameter_px=26.0, threads=1),
        predictor=predictor,
    )
    assert len(plain.table) > 3
    assert abs(len(with_views.table) - len(plain.table)) <= 2
    assert with_views.report["settings"]["detect"]["tta"] == "flips"
