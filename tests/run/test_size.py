from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from dinomask.config import DetectConfig, FitConfig, NormaliseConfig, SegmentConfig
from dinomask.config.segment import MIN_TILE_PX
from dinomask.image import fit_normaliser, open_image
from dinomask.image.normalise import Normaliser
from dinomask.instances import Instances
from dinomask.measure.matching import score_image
from dinomask.nets.adapter_manifest import AdapterManifest
from dinomask.run import size
from dinomask.run.places import CROP_PX, busy_points, crop_windows
from dinomask.run.predictor import Predictor
from dinomask.run.resuming import run_key
from dinomask.run.segment import segment
from dinomask.run.size import estimate_diameter
from dinomask.run.sizes import MIXED_SCALES, with_scales
from dinomask.tiles.plan import plan_tiles

if TYPE_CHECKING:
    from pathlib import Path


@given(
    shape=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    scale=st.floats(0.05, 8),
    n=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_crops_lie_inside_or_start_at_the_edge(shape, scale, n, seed):
    points = np.random.default_rng(seed).random((20, 2)) * shape
    windows = crop_windows(shape, points, scale, n)
    assert 1 <= len(windows) <= n
    assert len(set(windows)) == len(windows)
    for y0, x0, y1, x1 in windows:
        side = y1 - y0
        assert side == x1 - x0
        assert side % 14 == 0
        assert MIN_TILE_PX <= side <= CROP_PX
        for start, stop, whole in ((y0, y1, shape[0]), (x0, x1, shape[1])):
            length = max(1, int(np.ceil(round(whole * scale, 6))))
            assert start == 0 if length <= side else 0 <= start and stop <= length
            # a smaller crop than usual shows the whole side
            assert side == CROP_PX or length <= side


def test_the_busiest_place_comes_first():
    pixels = np.zeros((600, 700), np.uint16)
    pixels[400:440, 90:130] = np.random.default_rng(0).integers(0, 1000, (40, 40))
    image = open_image(pixels)
    y, x = busy_points(image, Normaliser((0.0,), (1000.0,), False))[0]
    assert abs(y - 420) < 90
    assert abs(x - 110) < 90


def test_diameter_of_a_full_mask_is_that_of_its_box():
    boxes = np.array([[0, 0, 20, 30], [5, 5, 15, 15]], np.float32)
    masks = np.full((2, 28, 28), 255, np.uint8)
    masks[1, :, 14:] = 0
    found = Instances(boxes, np.ones(2, np.float32), np.zeros(2, np.int32), masks)
    expected = np.sqrt(4 / np.pi * np.array([600.0, 50.0]))
    np.testing.assert_allclose(found.diameters_px(), expected, rtol=1e-6)


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(SegmentConfig(threads=1))


@pytest.mark.parametrize("zoom", [0.5, 1, 2])
def test_the_estimate_follows_the_magnification(predictor, sample_nuclei, zoom):
    whole = open_image(sample_nuclei).read((0, 0, 512, 512))[0]
    if zoom == 0.5:
        pixels = whole.reshape(256, 2, 256, 2).mean((1, 3))
    else:
        pixels = np.kron(whole, np.ones((zoom, zoom)))
    image = open_image(pixels.astype(np.float32))
    seen = estimate_diameter(image, fit_normaliser(image, NormaliseConfig()), predictor)
    # the recipe of the sample draws nuclei of a median diameter of 26 px
    assert seen.diameter_px == pytest.approx(26 * zoom, rel=0.25)
    assert seen.n_objects > 5


def test_noise_alone_is_not_taken_for_objects(predictor):
    pixels = np.random.default_rng(1).normal(100, 5, (300, 300)).astype(np.float32)
    image = open_image(pixels)
    seen = estimate_diameter(image, fit_normaliser(image), predictor)
    assert seen.n_objects <= 3


def nuclei_of_two_sizes(image: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei magnified four times, and between them some reduced to a half; and their labels."""
    pixels, ids = tifffile.imread(image).astype(np.float32), tifffile.imread(labels)
    large = ndimage.zoom(pixels[:128, :128], 4, order=1)
    large_ids = np.kron(ids[:128, :128], np.ones((4, 4), ids.dtype))
    small, small_ids = (np.tile(a, (2, 2)) for a in (pixels[::2, ::2], ids[::2, ::2]))
    free = ndimage.distance_transform_edt(large_ids == 0) > 6
    cut = np.unique(small_ids[~free])
    there = free & (small_ids > 0) & ~np.isin(small_ids, cut)
    parts = ndimage.label(there)[0] + large_ids.max() + 1
    background = np.percentile(pixels, 5)
    return np.maximum(large, np.where(there, small, background)), np.where(there, parts, large_ids)


def test_small_and_large_objects_in_one_image_are_all_found(
    predictor, sample_nuclei, sample_nuclei_labels
):
    pixels, labels = nuclei_of_two_sizes(sample_nuclei, sample_nuclei_labels)
    f1 = {}
    for name, sizes, diameter_px in (
        ("mixed", "mixed", 36.0),
        ("middle", "alike", 36.0),
        ("large", "alike", 100.0),
    ):
        config = SegmentConfig(diameter_px=diameter_px, sizes=sizes, threads=1)
        found = segment(open_image(pixels), config=config, predictor=predictor)
        f1[name] = score_image(labels, found.labels_yx).f1[0]
    assert f1["mixed"] > 0.7
    assert f1["mixed"] > max(f1["middle"], f1["large"]) + 0.1


@pytest.mark.parametrize(
    ("ratio", "sizes", "mixed"),
    [(None, "auto", False), (3.0, "auto", False), (6.0, "auto", True), (6.0, "alike", False)],
)
def test_an_adapter_says_whether_its_objects_are_of_very_different_sizes(
    predictor, ratio, sizes, mixed
):
    manifest = AdapterManifest("a", "tiny", "", FitConfig(), diameter_ratio=ratio)
    taught = dataclasses.replace(predictor, adapter=manifest)
    scales = with_scales(SegmentConfig(sizes=sizes), taught).detect.tta_scales
    assert scales == (MIXED_SCALES if mixed else ())
    own = SegmentConfig(sizes=sizes, detect=DetectConfig(tta_scales=(0.8,)))
    assert with_scales(own, taught) == own


@given(factor=st.floats(0.02, 50), ratio=st.floats(1, 8), more=st.floats(1.1, 2))
def test_an_estimate_moves_towards_the_taught_size_unless_the_magnification_is_another(
    factor, ratio, more
):
    def moved(diameter_ratio: float) -> float:
        adapter = AdapterManifest(
            "a", "tiny", "", FitConfig(), diameter_px=40.0, diameter_ratio=diameter_ratio
        )
        return size.towards_taught(40 * factor, adapter) / 40

    assert size.towards_taught(40 * factor, None) == 40 * factor
    alike, mixed = (abs(np.log(moved(r))) for r in (ratio, ratio * more))
    off = abs(np.log(factor))
    assert alike <= off + 1e-9
    if off > np.log(20):
        assert alike == pytest.approx(off)
    if 1e-3 < off < np.log(1.8):
        # of objects of many sizes a crop shows the small or the large ones by chance
        assert mixed < alike < off


def test_a_run_goes_on_whoever_decided_on_its_scales(predictor, sample_nuclei):
    image = open_image(sample_nuclei)
    plan = plan_tiles(image.shape_yx, 1.0, SegmentConfig().tiles)
    auto, alike, mixed = (
        run_key(image, predictor, with_scales(SegmentConfig(sizes=sizes), predictor), plan)
        for sizes in ("auto", "alike", "mixed")
    )
    assert auto == alike != mixed
    # as before there was a choice
    assert "sizes" not in auto["settings"]
