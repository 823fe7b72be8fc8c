"""Crops: image, labels and measures stay together whatever is changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinomask.config import AugmentConfig
from dinomask.image.resample import PAD_VALUE
from dinomask.train.augment import (
    MIN_VISIBLE_PX,
    AnnotatedImage,
    Crop,
    draw_crop,
    finish_crop,
    vary_intensity,
)
from tests.train.scenes import disc_labels, image_of

GEOMETRY_ONLY = AugmentConfig(
    invert_probability=0,
    grey_probability=0,
    tint_probability=0,
    gamma_log_max=0,
    contrast_max=0,
    blur_probability=0,
    noise_probability=0,
    shading_probability=0,
)
EVERYTHING = AugmentConfig(
    invert_probability=1,
    grey_probability=1,
    tint_probability=1,
    blur_probability=1,
    noise_probability=1,
    shading_probability=1,
)
seeds = st.integers(0, 2**32 - 1)


def annotated(is_rgb: bool = False, shape_yx: tuple[int, int] = (96, 96)) -> AnnotatedImage:
    labels = disc_labels(radius_px=10)[: shape_yx[0], : shape_yx[1]].astype(np.int32)
    image = np.where(labels > 0, 200, 50).astype(np.uint8)[None]
    return AnnotatedImage(np.repeat(image, 3, 0) if is_rgb else image, labels, is_rgb)


def draw(seed: int, config: AugmentConfig, image: AnnotatedImage | None = None) -> Crop:
    rng = np.random.default_rng(seed)
    return draw_crop(image or annotated(), 112, 32.0, config, rng)


def check_measures(crop: Crop) -> None:
    """Ids are 1..N, and boxes and areas are those of the labels."""
    n = len(crop.boxes_yxyx_px)
    assert set(np.unique(crop.labels_yx)) - {0, -1} == set(range(1, n + 1))
    assert len(crop.areas_px) == len(crop.classes) == n
    for i in range(n):
        y, x = np.nonzero(crop.labels_yx == i + 1)
        assert crop.areas_px[i] == len(y) >= MIN_VISIBLE_PX
        expected = [y.min(), x.min(), y.max() + 1, x.max() + 1]
        assert crop.boxes_yxyx_px[i].tolist() == expected


@given(seeds)
def test_image_and_labels_stay_aligned(seed: int) -> None:
    crop = draw(seed, GEOMETRY_ONLY)
    assert crop.image_cyx.shape == (3, 112, 112)
    # objects are 1, ground is 0, outside is PAD_VALUE, contours are in between
    plane = crop.image_cyx[0]
    wide = np.pad(crop.labels_yx, 3, constant_values=-9)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (7, 7))
    inner = (windows == crop.labels_yx[..., None, None]).all((2, 3))
    objects = inner & (crop.labels_yx > 0)
    assert np.all(plane[objects] > 0.6)
    ground = inner & (crop.labels_yx == 0)
    assert np.all(plane[ground] < 0.6)


@given(seeds, st.booleans())
def test_measures_fit_the_labels(seed: int, is_rgb: bool) -> None:
    crop = draw(seed, EVERYTHING, annotated(is_rgb))
    check_measures(crop)
    assert crop.image_cyx.dtype == np.float32
    assert crop.labels_yx.dtype == np.int64
    assert np.isfinite(crop.image_cyx).all()


@settings(max_examples=20)
@given(seeds)
def test_a_crop_can_be_drawn_again(seed: int) -> None:
    first, second = draw(seed, AugmentConfig()), draw(seed, AugmentConfig())
    for field in dataclasses.fields(Crop):
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name))


def test_crops_differ() -> None:
    image = annotated()
    crops = [draw(seed, AugmentConfig(), image).image_cyx for seed in range(5)]
    assert all(not np.array_equal(crops[0], other) for other in crops[1:])


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_what_lies_outside_the_image_is_mid_grey(probability: float) -> None:
    config = dataclasses.replace(EVERYTHING, rotate_probability=probability)
    image = annotated(shape_yx=(20, 96))  # less high than any crop
    crop = draw(3, config, image)
    outside = np.all(crop.image_cyx == PAD_VALUE, axis=0)
    assert 0.2 < outside.mean() < 0.95
    assert not crop.labels_yx[outside].any()


@given(seeds)
def test_objects_get_about_the_target_size(seed: int) -> None:
    config = dataclasses.replace(GEOMETRY_ONLY, wide_scale_probability=0, stretch_log_max=0)
    crop = draw(seed, config)
    y0, x0, y1, x1 = crop.boxes_yxyx_px.T
    whole = (y0 > 0) & (x0 > 0) & (y1 < 112) & (x1 < 112)
    diameters = np.sqrt(crop.areas_px[whole] * 4 / np.pi)
    limit = np.exp(config.scale_log_max)
    assert np.all((diameters > 32 / limit * 0.9) & (diameters < 32 * limit * 1.1))


def test_an_image_without_objects_gives_background() -> None:
    empty = AnnotatedImage(np.zeros((1, 50, 60), np.uint8), np.zeros((50, 60), np.int32), False)
    crop = draw(0, EVERYTHING, empty)
    assert crop.boxes_yxyx_px.shape == (0, 4)
    assert not crop.labels_yx.any()


@given(seeds, st.sampled_from(["colour", "grey", "constant"]))
def test_intensity_changes_keep_the_form(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(-1, 3, (3, 24, 30)).astype(np.float32)
    if kind != "colour":
        pixels[1:] = pixels[0]
    if kind == "constant":
        pixels[:] = 0.0
    kept = pixels.copy()
    varied = vary_intensity(pixels, EVERYTHING, rng)
    assert varied.shape == pixels.shape
    assert varied.dtype == np.float32
    assert np.isfinite(varied).all()
    assert np.array_equal(pixels, kept)


def test_no_intensity_change_but_what_is_asked_for() -> None:
    pixels = np.random.default_rng(0).uniform(0, 1, (3, 16, 16)).astype(np.float32)
    config = dataclasses.replace(GEOMETRY_ONLY, invert_probability=1)
    grey = np.repeat(pixels[:1], 3, 0)
    varied = vary_intensity(grey, config, np.random.default_rng(0))
    assert varied == pytest.approx(1 - grey, abs=1e-6)


@given(st.integers(0, 10_000))
def test_slivers_are_left_unsupervised(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((30, 30), np.int64)
    for label in rng.permutation(8)[:4] + 1:
        y, x, h, w = rng.integers(0, 24), rng.integers(0, 24), *rng.integers(1, 8, 2)
        labels[y : y + h, x : x + w] = label * 11
    labels[29] = -1
    crop = finish_crop(np.zeros((3, 30, 30), np.float32), labels)
    check_measures(crop)
    small = [i for i in np.unique(labels[labels > 0]) if (labels == i).sum() < MIN_VISIBLE_PX]
    assert np.array_equal(crop.labels_yx == -1, np.isin(labels, [-1, *small]))
    # every object keeps its pixels, in the order of its old id
    kept = [i for i in np.unique(labels[labels > 0]) if i not in small]
    for new, old in enumerate(kept, start=1):
        assert np.array_equal(crop.labels_yx == new, labels == old)


def test_percentiles_are_fitted_once_an_image() -> None:
    a, b = annotated(), AnnotatedImage(image_of(disc_labels())[None], disc_labels(), False)
    first = [image.normaliser(1.0, 99.8) for image in (a, b)]
    assert first[0] != first[1]
    assert [image.normaliser(1.0, 99.8) for image in (a, b)] == first
    assert a.normaliser(1.0, 99.8) is first[0]
