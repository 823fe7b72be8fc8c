from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from dinomask.config import DetectConfig, SegmentConfig, TileConfig
from dinomask.errors import CancelledError, InputError, OutputError, SettingsError
from dinomask.image import open_image
from dinomask.measure.matching import average_precision, score_image
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from dinomask.tiles.outputs import ledger_path, table_path

SMALL_TILES = SegmentConfig(diameter_px=26.0, threads=1, tiles=TileConfig(tile_px=224, halo_px=56))


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(SegmentConfig(threads=1))


@pytest.fixture(scope="module")
def crop(sample_nuclei, sample_nuclei_labels):
    """A corner of the sample, large enough for four small tiles."""
    image = tifffile.imread(sample_nuclei)[:260, :280]
    return image, tifffile.imread(sample_nuclei_labels)[:260, :280]


def test_finds_the_planted_nuclei(predictor, sample_nuclei, sample_nuclei_labels):
    result = segment(open_image(sample_nuclei), predictor=predictor)
    reference = tifffile.imread(sample_nuclei_labels)
    assert average_precision(reference, result.labels_yx, [0.5])[0] > 0.7
    assert set(result.table["id"]) == set(np.unique(result.labels_yx)) - {0}
    counted = np.bincount(result.labels_yx.ravel())
    np.testing.assert_array_equal(counted[result.table["id"]], result.table["area_px"])
    assert result.report["n_instances"] == len(result.table)
    assert result.report["model"]["sha256"] == predictor.manifest.weights_sha256


def test_tiff_zarr_and_memory_agree(predictor, crop, tmp_path):
    image = open_image(crop[0])
    in_memory = segment(image, config=SMALL_TILES, predictor=predictor)
    for name in ("o.tif", "o.zarr"):
        written = segment(image, tmp_path / name, SMALL_TILES, predictor=predictor)
        assert written.table.equals(in_memory.table)
    labels = in_memory.labels_yx
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "o.tif"), labels)
    np.testing.assert_array_equal(zarr.open(tmp_path / "o.zarr")["0"][:], labels)
    assert not ledger_path(tmp_path / "o.tif").exists()
    assert ledger_path(tmp_path / "o.zarr").exists()


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_stopped_run_goes_on_and_ends_the_same(predictor, crop, tmp_path, stop_after):
    image, out = open_image(crop[0]), tmp_path / "o.tif"
    stages = []

    def stop(progress):
        if progress.stage == "detect" and progress.done == stop_after:
            raise CancelledError(expected="to finish", got="a cancel", remedy="Run it again.")

    with pytest.raises(CancelledError):
        segment(image, out, SMALL_TILES, predictor=predictor, on_progress=stop)
    assert not out.exists()
    assert not table_path(out).exists()
    resumed = segment(
        image,
        out,
        SMALL_TILES,
        predictor=predictor,
        on_progress=lambda p: stages.append((p.stage, p.done)),
    )
    assert min(done for stage, done in stages if stage == "detect") >= stop_after
    assert resumed.report["n_resumed"] == stop_after
    once = segment(image, config=SMALL_TILES, predictor=predictor)
    np.testing.assert_array_equal(tifffile.imread(out), once.labels_yx)
    assert resumed.table.equals(once.table)


def test_an_unfinished_run_of_other_settings_is_not_mixed_in(predictor, crop, tmp_path):
    image, out = open_image(crop[0]), tmp_path / "o.tif"

    def stop(progress):
        if progress.stage == "detect":
            raise CancelledError(expected="to finish", got="a cancel", remedy="Run it again.")

    with pytest.raises(CancelledError):
        segment(image, out, SMALL_TILES, predictor=predictor, on_progress=stop)
    other = SegmentConfig(diameter_px=20.0, threads=1, tiles=SMALL_TILES.tiles)
    with pytest.raises(OutputError, match="restart"):
        segment(image, out, other, predictor=predictor)
    segment(image, out, other, predictor=predictor, restart=True)
    assert out.exists()


def test_small_tiles_agree_with_one_large_tile(predictor, crop):
    image = open_image(crop[0])
    tiled = segment(image, config=SMALL_TILES, predictor=predictor)
    whole = SegmentConfig(diameter_px=26.0, threads=1)
    untiled = segment(image, config=whole, predictor=predictor)
    assert tiled.report["n_tiles"] > 1 == untiled.report["n_tiles"]
    scores = score_image(untiled.labels_yx, tiled.labels_yx)
    assert scores.f1[0] > 0.85


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((64, 80), np.uint8),
        np.full((64, 80), 7.5, np.float32),
        np.array([[3]], np.uint16),
        np.arange(50, dtype=np.uint16)[None],
        np.arange(50, dtype=np.uint16)[:, None],
    ],
    ids=["zero", "constant", "1x1", "1xN", "Nx1"],
)
def test_images_without_content_give_no_object_and_a_warning(predictor, pixels, tmp_path):
    out = tmp_path / "o.tif"
    result = segment(open_image(pixels, axes="yx"), out, predictor=predictor)
    assert len(result.table) == 0
    assert any(f.severity == "warning" for f in result.findings)
    assert tifffile.imread(out).shape == pixels.shape
    assert not tifffile.imread(out).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(predictor, bad, tmp_path):
    pixels = np.random.default_rng(0).random((64, 64), np.float32)
    pixels[5, 5] = bad
    with pytest.raises(InputError):
        segment(open_image(pixels), tmp_path / "o.tif", predictor=predictor)
    assert list(tmp_path.iterdir()) == []


def test_a_diameter_beyond_the_image_is_refused(predictor, crop):
    with pytest.raises(SettingsError, match="diameter"):
        segment(open_image(crop[0]), config=SegmentConfig(diameter_px=5000), predictor=predictor)


def test_the_output_is_never_the_input(predictor, crop, tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, crop[0])
    before = path.read_bytes()
    with pytest.raises(OutputError):
        segment(open_image(path), path, predictor=predictor, overwrite=True)
    assert path.read_bytes() == before


def test_a_higher_threshold_finds_fewer(predictor, crop):
    image = open_image(crop[0])
    counts = [
        len(
            segment(
                image,
                config=SegmentConfig(
                    diameter_px=26.0, threads=1, detect=DetectConfig(score_threshold=t)
                ),
                predictor=predictor,
            ).table
        )
        for t in (0.3, 0.6, 0.95)
    ]
    assert counts[0] >= counts[1] >= counts[2]
    assert counts[0] > counts[2]


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint32, np.int64, np.float16, np.float64, ">u2", ">f4"]
)
def test_the_dtype_does_not_matter(predictor, crop, dtype):
    # 0…255 is exact in every one of these types
    pixels = np.round(crop[0] / crop[0].max() * 255)[:150, :150]
    config = SegmentConfig(diameter_px=26.0, threads=1)
    expected = segment(open_image(pixels.astype(np.float32)), config=config, predictor=predictor)
    found = segment(open_image(pixels.astype(dtype)), config=config, predictor=predictor)
    assert len(expected.table) > 0
    np.testing.assert_array_equal(found.labels_yx, expected.labels_yx)
