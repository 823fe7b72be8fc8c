"""Colours of tokens: of the whole image, so that tiles agree; the same each time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tifffile
import zarr

from dinomask.config import SegmentConfig, TileConfig
from dinomask.errors import CancelledError, ExplainError, OutputError, SettingsError
from dinomask.explain.components import fit_components
from dinomask.explain.pca import RANGE_SD, colour_tokens, to_colours
from dinomask.explain.rasters import write_raster
from dinomask.explain.tokens import TokenSource
from dinomask.image import open_image
from dinomask.run.predictor import Predictor
from tests.explain.scenes import SMALL_TILES, local_predictor

UNTILED = dataclasses.replace(SMALL_TILES, tiles=TileConfig(tile_px=448, halo_px=28))


@pytest.fixture(scope="module")
def predictor():
    return local_predictor()


@pytest.fixture(scope="module")
def image():
    """Noise with two bright patches, at y 140 to 154 and 210 to 224, x 98 to 112."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 40, (300, 260)).astype(np.uint8)
    for y in (140, 210):
        pixels[y : y + 14, 98:112] += 200
    return open_image(pixels)


def test_tiles_change_nothing(predictor, image):
    tiled, whole = (
        colour_tokens(image, config, predictor=predictor) for config in (SMALL_TILES, UNTILED)
    )
    assert tiled.rgb_yxc.shape == (22, 19, 3)
    # rounding may differ in the last step
    assert np.abs(tiled.rgb_yxc.astype(int) - whole.rgb_yxc).max() <= 1
    np.testing.assert_allclose(tiled.components.axes, whole.components.axes, atol=1e-4)


def test_it_is_the_same_again_to_the_bit(predictor, image):
    first, again = (colour_tokens(image, SMALL_TILES, predictor=predictor) for _ in range(2))
    np.testing.assert_array_equal(first.rgb_yxc, again.rgb_yxc)


def test_colours_are_the_components_of_all_tokens(predictor, image):
    found = colour_tokens(image, SMALL_TILES, layer=1, predictor=predictor)
    source = TokenSource.of(image, [1], SMALL_TILES, predictor)
    grid = np.zeros((22, 19, 32), np.float32)
    for tile, tokens in source.look(range(len(source.plan)), "pca"):
        y0, x0, y1, x1 = tile.core_yxyx
        grid[y0:y1, x0:x1] = tokens[1]
    rows = grid.reshape(-1, 32).astype(np.float64)
    components = fit_components(rows, 3)
    score = (rows - rows.mean(axis=0)) @ components.axes.T
    deviation = score.std(axis=0, ddof=1)
    by_hand = 127.5 + 127.5 * score / (RANGE_SD * np.sqrt(deviation * deviation[0]))
    by_hand = np.clip(by_hand, 0, 255).reshape(22, 19, 3)
    assert np.abs(found.rgb_yxc - by_hand).max() < 0.6
    assert found.layer == 1


def test_what_was_planted_comes_out_at_its_pixels(predictor, image):
    found = colour_tokens(image, SMALL_TILES, predictor=predictor)
    picture = found.draw((0, 0, 300, 260)).astype(int)
    away = np.abs(picture - np.median(picture, axis=(1, 2), keepdims=True)).sum(axis=0)
    planted = np.zeros(away.shape, bool)
    for y in (140, 210):
        planted[y : y + 14, 98:112] = True
    assert away[planted].min() > away[~planted].max()
    # seen in different tiles, they have the same colour
    (first, second) = (picture[:, y + 7, 105] for y in (140, 210))
    assert np.abs(first - second).max() < 25


@pytest.mark.parametrize("diameter_px", [20.0, 50.0])
def test_at_other_scales_it_lies_where_it_was_planted(predictor, diameter_px):
    pixels = np.random.default_rng(0).integers(0, 40, (300, 300)).astype(np.uint8)
    pixels[90:150, 180:240] += 200
    config = dataclasses.replace(SMALL_TILES, diameter_px=diameter_px)
    found = colour_tokens(open_image(pixels), config, predictor=predictor)
    # the first component is the brightness, the others are the noise
    # (and the last patches, which overhang the image, are something else again)
    first = found.draw((0, 0, 280, 280))[0].astype(int)
    away = np.abs(first - np.median(first))
    y, x = np.nonzero(away > away.max() / 2)
    # to within half a patch
    assert abs(y.mean() - 119.5) < 7 * diameter_px / 32
    assert abs(x.mean() - 209.5) < 7 * diameter_px / 32


def test_another_model_is_shown_in_the_same_basis(predictor, image):
    before = colour_tokens(image, SMALL_TILES, predictor=predictor)
    same = colour_tokens(image, SMALL_TILES, predictor=predictor, basis=before)
    np.testing.assert_array_equal(same.rgb_yxc, before.rgb_yxc)
    other = local_predictor()
    other.model.backbone.vit.patch_embed.proj.weight.data *= -1
    after = colour_tokens(image, SMALL_TILES, predictor=other, basis=before)
    assert after.components is before.components
    assert np.abs(after.rgb_yxc.astype(int) - before.rgb_yxc).max() > 5
    narrow = fit_components(np.random.default_rng(0).normal(size=(9, 5)), 3)
    wrong = dataclasses.replace(before, components=narrow)
    with pytest.raises(ExplainError, match="32 features"):
        colour_tokens(image, SMALL_TILES, predictor=predictor, basis=wrong)


@pytest.mark.parametrize("name", ["p.tif", "p.zarr"])
def test_files_hold_the_images_pixels(predictor, image, tmp_path, name):
    found = colour_tokens(image, SMALL_TILES, predictor=predictor)
    write_raster(found.raster(), tmp_path / name)
    drawn = found.draw((0, 0, 300, 260))
    if name.endswith(".zarr"):
        group = zarr.open_group(tmp_path / name, mode="r")
        np.testing.assert_array_equal(group["0"], drawn)
        assert len(group.attrs["dinomask"]["pca"]["variance_shares"]) == 3
    else:
        np.testing.assert_array_equal(tifffile.imread(tmp_path / name), np.moveaxis(drawn, 0, 2))


def test_few_tokens_leave_colours_grey():
    components = fit_components(np.array([[0.0, 0], [2, 0]]), 3)
    assert to_colours(components, np.array([[0.0, 0], [2, 0]])).tolist() == [
        [91, 128, 128],
        [164, 128, 128],
    ]


def test_what_can_not_be_is_refused(predictor, image, tmp_path):
    with pytest.raises(SettingsError, match="from 0 to 3"):
        colour_tokens(image, SMALL_TILES, layer=9, predictor=predictor)
    with pytest.raises(OutputError, match="missing"):
        colour_tokens(image, SMALL_TILES, predictor=predictor, scratch=tmp_path / "missing")

    def stop(progress):
        if progress.done == 2:
            raise CancelledError(expected="a", got="b", remedy="c")

    with pytest.raises(CancelledError):
        colour_tokens(image, SMALL_TILES, predictor=predictor, on_progress=stop)


def test_the_bundled_model_tells_nuclei_from_background(sample_nuclei, sample_nuclei_labels):
    config = SegmentConfig(diameter_px=26.0, threads=1, tiles=TileConfig(224, 56))
    pixels = tifffile.imread(sample_nuclei)[:260, :260]
    labels = tifffile.imread(sample_nuclei_labels)[:260, :260] > 0
    found = colour_tokens(open_image(pixels), config, predictor=Predictor.load(config))
    picture = found.draw((0, 0, 260, 260)).astype(float)
    inside, outside = picture[:, labels].mean(axis=1), picture[:, ~labels].mean(axis=1)
    assert np.abs(inside - outside).max() > 60
