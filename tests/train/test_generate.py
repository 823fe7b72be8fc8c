"""Generated images: sound labels, visible objects, the same again from the same seed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dinomask.cli import main
from dinomask.config import TrainConfig
from dinomask.errors import SettingsError
from dinomask.nets.zoo import read_manifest
from dinomask.train.annotated import AnnotatedImage
from dinomask.train.augment import draw_crop
from dinomask.train.crops import CropDataset, CropStream
from dinomask.train.datasets import Sample, find_samples
from dinomask.train.generate import KINDS, GeneratedImage, describe_generated, generate_image
from dinomask.train.generate.layouts import SMALLEST_AREA_PX, tidy
from dinomask.train.generate.optics import blur, smooth_noise
from dinomask.train.loop import train
from tests.nets.small import small_config
from tests.train.scenes import write_folder

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = TrainConfig(steps=2, batch=2, crop_px=56, rois_per_image=4, proposals_from=0.4)
seeds = st.integers(0, 2**31)
kinds = st.sampled_from(list(KINDS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "discs")


@pytest.fixture(scope="module")
def samples(folder: Path) -> list[Sample]:
    return find_samples([folder])


def zones(labels_yx: np.ndarray) -> list[np.ndarray]:
    """Inside and outside, each near an outline and away from any; those that are large enough."""
    edge = np.zeros(labels_yx.shape, bool)
    rows, cols = np.diff(labels_yx, axis=0) != 0, np.diff(labels_yx, axis=1) != 0
    edge[1:] |= rows
    edge[:-1] |= rows
    edge[:, 1:] |= cols
    edge[:, :-1] |= cols
    near, inside = ndimage.distance_transform_edt(~edge) < 2, labels_yx > 0
    parts = [inside & near, inside & ~near, ~inside & near, ~inside & ~near]
    return [part for part in parts if part.sum() >= 30]


def visibility(image_cyx: np.ndarray, labels_yx: np.ndarray) -> float:
    """Largest difference between two zones in brightness or slope, in standard deviations."""
    best, parts = 0.0, zones(labels_yx)
    for plane in image_cyx.astype(np.float64):
        fine = ndimage.gaussian_filter(plane, 1) - ndimage.gaussian_filter(plane, 40)
        for feature in (fine, ndimage.gaussian_gradient_magnitude(plane, 1)):
            values = [(feature[p].mean(), feature[p].var()) for p in parts]
            best = max(
                [best]
                + [
                    float(abs(a - b) / np.sqrt((var_a + var_b) / 2 + 1e-9))
                    for a, var_a in values
                    for b, var_b in values
                ]
            )
    return best


@given(seeds, kinds)
def test_labels_are_sound_and_objects_visible(seed: int, kind: str) -> None:
    image, labels, is_rgb = generate_image(np.random.default_rng(seed), kind, 192)
    assert labels.shape == (192, 192)
    assert labels.dtype == np.int32
    assert image.shape == (3 if is_rgb else 1, 192, 192)
    assert image.dtype in (np.uint8, np.uint16)
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    assert all(areas >= SMALLEST_AREA_PX)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        assert ndimage.label(labels[box] == label)[1] == 1
    assert np.ptp(image) >= 10
    if areas.sum() > 200:
        assert visibility(image, labels) > 0.45


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_seen_is_where_the_labels_are(kind: str) -> None:
    drawn = [generate_image(np.random.default_rng(seed), kind, 192) for seed in range(8)]
    own, others = [], []
    for one, other in zip(drawn, [*drawn[1:], drawn[0]], strict=True):
        if one.labels_yx.any() and other.labels_yx.any():
            own.append(visibility(one.image_cyx, one.labels_yx))
            others.append(visibility(one.image_cyx, other.labels_yx))
    assert np.median(own) > 1.5
    assert np.median(own) > 2 * np.median(others)


@given(seeds)
@settings(max_examples=10)
def test_the_same_seed_gives_the_same_image(seed: int) -> None:
    one, again = (generate_image(np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one.image_cyx, again.image_cyx)
    np.testing.assert_array_equal(one.labels_yx, again.labels_yx)
    assert one.is_rgb == again.is_rgb


def test_sizes_crowding_and_kinds_of_images_vary() -> None:
    drawn = [generate_image(np.random.default_rng(seed)) for seed in range(48)]
    images = [AnnotatedImage(*generated) for generated in drawn]
    diameters = [i.diameter_px for i in images if i.diameter_px is not None]
    assert min(diameters) < 14
    assert max(diameters) > 55
    covered = [float((g.labels_yx > 0).mean()) for g in drawn]
    assert min(covered) < 0.1
    assert max(covered) > 0.85
    assert {(g.is_rgb, str(g.image_cyx.dtype)) for g in drawn} == {
        (False, "uint8"),
        (False, "uint16"),
        (True, "uint8"),
    }


def test_tidy_keeps_the_largest_piece_and_drops_slivers() -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[:4, :4] = 7
    labels[8:11, 8:11] = 7  # a second, smaller piece
    labels[0, 6:12] = 3  # too small
    labels[4, 4] = 7  # touches by a corner only
    labels[5:8, 0:4] = 5
    tidied = tidy(labels)
    assert set(np.unique(tidied)) == {0, 1, 2}
    np.testing.assert_array_equal(tidied > 0, ((labels == 7) & (np.arange(12) < 4)) | (labels == 5))
    assert not tidy(np.zeros((5, 5), np.int32)).any()


@given(st.floats(1.0, 12), st.tuples(st.integers(48, 90), st.integers(48, 90)), seeds)
def test_blur_and_noise_are_those_of_a_gaussian(
    sigma_px: float, shape_yx: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    plane = rng.random(shape_yx, dtype=np.float32)
    direct = ndimage.gaussian_filter(plane.astype(np.float64), sigma_px, mode="wrap", truncate=8)
    np.testing.assert_allclose(blur(plane, sigma_px), direct, atol=3e-3)
    noise = smooth_noise(rng, shape_yx, sigma_px)
    assert noise.shape == shape_yx
    assert abs(float(noise.mean())) < 1e-3
    assert float(noise.std()) == pytest.approx(1, abs=1e-3)


def test_noise_has_the_grain_asked_for() -> None:
    # white noise blurred by σ correlates by exp(-d² / 4σ²) over a distance d
    noise = smooth_noise(np.random.default_rng(0), (512, 512), 4.0)
    for distance in (4, 8):
        for axis in (0, 1):
            found = float((noise * np.roll(noise, distance, axis)).mean())
            assert found == pytest.approx(np.exp(-(distance**2) / 64), abs=0.05)


def test_without_a_share_the_crops_are_those_of_the_images_alone(samples: list[Sample]) -> None:
    data = CropDataset(samples, CONFIG, 32.0)
    for index in range(6):
        rng = np.random.default_rng((CONFIG.seed, index))
        image = data.images[int(rng.choice(2, p=[0.5, 0.5]))]
        expected = draw_crop(image, CONFIG.crop_px, 32.0, CONFIG.augment, rng)
        np.testing.assert_array_equal(data[index].image_cyx, expected.image_cyx)
        np.testing.assert_array_equal(data[index].labels_yx, expected.labels_yx)


def test_a_share_replaces_some_crops_and_leaves_the_others(samples: list[Sample]) -> None:
    alone = CropDataset(samples, CONFIG, 32.0)
    mixed = CropDataset(samples, dataclasses.replace(CONFIG, generated_share=0.3), 32.0)
    names = [mixed.source(index) for index in range(400)]
    assert 0.22 < np.mean([name.startswith("generated") for name in names]) < 0.38
    for index in range(12):
        same = np.array_equal(mixed[index].image_cyx, alone[index].image_cyx)
        assert same == (names[index] == alone.source(index))
        # each is drawn again alike, whatever was drawn before
        np.testing.assert_array_equal(mixed[index].image_cyx, mixed[index].image_cyx)


def test_crops_of_generated_images_may_be_changed_in_a_way_of_their_own(
    samples: list[Sample],
) -> None:
    config = dataclasses.replace(CONFIG, generated_share=0.5)
    wide = dataclasses.replace(config.augment, scale_log_sigma=0.8, scale_log_max=1.2)
    images = [AnnotatedImage.read(sample) for sample in samples]
    names = [sample.name for sample in samples]
    other = dataclasses.replace(config, augment=wide)
    streams = [
        CropStream(names, images, [1.0, 1.0], c, 32.0, generated_augment=augment)
        for c, augment in ((config, None), (other, config.augment), (other, None))
    ]
    differ = {"generated": 0, "read": 0}
    for index in range(12):
        usual, apart, alike = (stream[index].image_cyx for stream in streams)
        if streams[0].source(index).startswith("generated"):
            np.testing.assert_array_equal(usual, apart)
            differ["generated"] += not np.array_equal(apart, alike)
        else:
            np.testing.assert_array_equal(apart, alike)
            differ["read"] += not np.array_equal(usual, apart)
    # some are drawn at a scale of another setting, which is the same for both
    assert min(differ.values()) >= 2


def test_a_model_trains_on_generated_images_alone(samples: list[Sample], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, generated_share=1.0)
    losses: list[float] = []
    manifest = train(
        samples,
        tmp_path / "m",
        config,
        architecture=small_config(),
        on_step=lambda progress: losses.append(progress.losses["total"]),
    )
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert manifest.training["settings"]["generated_share"] == 1.0


def test_the_command_line_names_generated_images(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    options = ["--steps", "1", "--batch", "1", "--crop", "56", "--threads", "1"]
    with pytest.raises(SystemExit) as stop:
        main(["train", str(folder), "--out", str(out), *options, "--generated-share", "0.25"])
    assert stop.value.code == 0
    named = read_manifest(out).trained_on
    assert [source["name"] for source in named] == ["discs", "generated images"]
    assert named[1]["split"] == "25% of the crops"
    assert describe_generated(0.0) == ()


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_lies_between_none_and_all(share: float) -> None:
    with pytest.raises(SettingsError, match="from 0 to 1"):
        TrainConfig(steps=1, generated_share=share)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        generate_image(np.random.default_rng(0), "radar")


def test_a_generated_image_can_be_cropped_like_a_read_one() -> None:
    generated = generate_image(np.random.default_rng(3), "histology")
    assert isinstance(generated, GeneratedImage)
    crop = draw_crop(AnnotatedImage(*generated), 56, 32.0, CONFIG.augment, np.random.default_rng(0))
    assert crop.image_cyx.shape == (3, 56, 56)
    assert np.isfinite(crop.image_cyx).all()
