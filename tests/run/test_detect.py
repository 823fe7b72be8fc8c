"""The detect stage: failures, memory, blank tiles and what is written of them."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
import time

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import SegmentConfig, TileConfig
from dinomask.errors import CancelledError, OutputError, TilesFailedError
from dinomask.image import open_image
from dinomask.run.blank import CONTRAST_FLOOR, block_contrast
from dinomask.run.engines.prefetch import Prefetch
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from dinomask.tiles.ledger import Ledger
from dinomask.tiles.outputs import ledger_path

CONFIG = SegmentConfig(diameter_px=26.0, threads=1, tiles=TileConfig(tile_px=224, halo_px=56))


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(CONFIG)


@pytest.fixture(scope="module")
def pixels(sample_nuclei):
    """A strip of the sample: two tiles."""
    return tifffile.imread(sample_nuclei)[:180, :280]


@pytest.fixture(scope="module")
def once(predictor, pixels):
    return segment(open_image(pixels), config=CONFIG, predictor=predictor)


@pytest.fixture
def before_network(predictor):
    """Have a function called with every batch, inside the model."""
    hooks = []

    def add(function):
        hooks.append(
            predictor.model.backbone.register_forward_pre_hook(lambda _, given: function(given[0]))
        )

    yield add
    for hook in hooks:
        hook.remove()


def test_a_batch_too_large_for_memory_is_halved(predictor, pixels, once, before_network):
    sizes = []

    def short_of_memory(tiles):
        sizes.append(len(tiles))
        if len(tiles) > 1:
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB."
            raise torch.OutOfMemoryError(msg)

    before_network(short_of_memory)
    config = dataclasses.replace(CONFIG, batch=8)
    result = segment(open_image(pixels), config=config, predictor=predictor)
    n = once.report["n_tiles"]
    assert sizes == [n, *[1] * n]
    assert not result.failed_tiles
    assert result.table.equals(once.table)
    np.testing.assert_array_equal(result.labels_yx, once.labels_yx)


def test_a_tile_for_which_memory_never_suffices_fails(predictor, pixels, before_network):
    looks = []

    def too_much(tiles):
        looks.append(len(tiles))
        if len(looks) in (1, 2):
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB."
            raise torch.OutOfMemoryError(msg)

    before_network(too_much)
    result = segment(open_image(pixels), config=CONFIG, predictor=predictor)
    (failed,) = result.failed_tiles
    assert failed.index == 0
    assert "2.00 GiB" in failed.reason
    assert len(looks) == result.report["n_tiles"] + 1
    assert any("tiles failed" in finding.what for finding in result.findings)


def test_a_hiccup_is_forgiven(predictor, pixels, once, before_network):
    looks = []

    def stumble(tiles):
        looks.append(len(tiles))
        if len(looks) == 1:
            msg = "a hiccup"
            raise RuntimeError(msg)

    before_network(stumble)
    result = segment(open_image(pixels), config=CONFIG, predictor=predictor)
    assert not result.failed_tiles
    assert result.table.equals(once.table)


def test_a_failed_tile_is_tried_again_by_the_next_run(predictor, pixels, once, tmp_path):
    out, broken = tmp_path / "o.tif", []

    def break_first(tiles):
        if len(broken) < 2:
            broken.append(len(tiles))
            msg = "a broken card"
            raise RuntimeError(msg)

    hook = predictor.model.backbone.register_forward_pre_hook(
        lambda _, given: break_first(given[0])
    )
    image = open_image(pixels)
    first = segment(image, out, CONFIG, predictor=predictor)
    hook.remove()
    assert [tile.reason for tile in first.failed_tiles] == ["RuntimeError: a broken card"]
    assert Ledger.open(ledger_path(out)).failed() == {0: "RuntimeError: a broken card"}
    with tifffile.TiffFile(out) as tiff:
        assert "a broken card" in tiff.ome_metadata
    second = segment(image, out, CONFIG, predictor=predictor, overwrite=True)
    assert second.report["n_resumed"] == second.report["n_tiles"] - 1
    assert not second.failed_tiles
    np.testing.assert_array_equal(tifffile.imread(out), once.labels_yx)
    assert not ledger_path(out).exists()


def test_if_every_tile_fails_nothing_is_written(predictor, pixels, tmp_path, before_network):
    def fail(tiles):
        msg = "no card"
        raise RuntimeError(msg)

    before_network(fail)
    out = tmp_path / "o.tif"
    with pytest.raises(TilesFailedError, match="no card"):
        segment(open_image(pixels), out, CONFIG, predictor=predictor)
    assert not out.exists()


def test_a_full_disk_stops_the_run_which_can_go_on(predictor, pixels, once, tmp_path, monkeypatch):
    out, flushed = tmp_path / "o.tif", []
    fsync = os.fsync

    def fill_up(handle):
        if threading.current_thread().name == "dinomask-ledger":
            flushed.append(handle)
            if len(flushed) > 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        with pytest.raises(OutputError, match="Free some space"):
            segment(open_image(pixels), out, CONFIG, predictor=predictor)
    assert not out.exists()
    resumed = segment(open_image(pixels), out, CONFIG, predictor=predictor)
    assert resumed.report["n_resumed"] == 1
    assert resumed.table.equals(once.table)


@pytest.mark.parametrize("diameter_px", [CONFIG.diameter_px, "auto"])
def test_a_cancel_does_not_wait_for_a_slow_tile(predictor, pixels, before_network, diameter_px):
    """Whether it comes while the network looks at a tile or at the size of the objects."""
    looking, release = threading.Event(), threading.Event()

    def slow(_tiles):
        looking.set()
        release.wait(60)

    def stop(_progress):
        if looking.is_set():
            raise CancelledError(expected="to finish", got="a cancel", remedy="Run it again.")

    before_network(slow)
    config = dataclasses.replace(CONFIG, diameter_px=diameter_px)
    with pytest.raises(CancelledError):
        segment(open_image(pixels), config=config, predictor=predictor, on_progress=stop)
    assert not release.is_set()
    release.set()


def test_what_was_found_before_a_cancel_is_kept(predictor, pixels, tmp_path):
    out = tmp_path / "o.tif"

    def stop(progress):
        if progress.stage == "detect" and progress.done == 1:
            raise CancelledError(expected="to finish", got="a cancel", remedy="Run it again.")

    with pytest.raises(CancelledError):
        segment(open_image(pixels), out, CONFIG, predictor=predictor, on_progress=stop)
    assert [index for index, _ in Ledger.open(ledger_path(out)).records()] == [0]


def padded(pixels: np.ndarray) -> np.ndarray:
    """The strip with much empty glass to its right, as in a stitched slide."""
    wide = np.full((180, 900), pixels.min(), pixels.dtype)
    wide[:, : pixels.shape[1]] = pixels
    return wide


def test_blank_tiles_are_skipped_and_nothing_is_lost(predictor, pixels, before_network):
    image = open_image(padded(pixels))
    looks = []
    before_network(lambda tiles: looks.append(len(tiles)))
    skipping = segment(image, config=CONFIG, predictor=predictor)
    n_blank = skipping.report["n_blank"]
    assert 0 < n_blank == skipping.report["n_tiles"] - len(looks)
    tiles = dataclasses.replace(CONFIG.tiles, skip_blank=False)
    config = dataclasses.replace(CONFIG, tiles=tiles)
    looking = segment(image, config=config, predictor=predictor)
    assert looking.report["n_blank"] == 0
    assert len(looks) == looking.report["n_tiles"] * 2 - n_blank
    assert skipping.table.equals(looking.table)


def test_a_resumed_run_still_counts_blank_tiles(predictor, pixels, tmp_path):
    out, image = tmp_path / "o.zarr", open_image(padded(pixels))
    first = segment(image, out, CONFIG, predictor=predictor)
    again = segment(image, out, CONFIG, predictor=predictor, overwrite=True)
    assert again.report["n_blank"] == first.report["n_blank"] > 0
    assert again.report["n_resumed"] == again.report["n_tiles"]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_faint_nucleus_is_never_skipped(predictor, pixels, sign):
    """The network sees it from about 0.015 of the image's range; half of that passes."""
    image = padded(pixels).astype(np.float32)
    low, high = np.percentile(image, [1, 99.8])
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    image[np.hypot(y - 90, x - 800) < 5] += sign * 0.0075 * (high - low)
    without = segment(open_image(padded(pixels)), config=CONFIG, predictor=predictor)
    result = segment(open_image(image), config=CONFIG, predictor=predictor)
    assert result.report["n_blank"] < without.report["n_blank"]


@given(
    centre=st.tuples(st.floats(-2, 120), st.floats(-2, 113)),
    radius=st.floats(4, 40),
    level=st.floats(-0.5, 2.5),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_a_disc_shows_its_whole_contrast_wherever_it_lies(centre, radius, level, sign):
    y, x = np.mgrid[:121, :114]
    inside = np.hypot(y - centre[0], x - centre[1]) <= radius
    contrast = 2.5 * CONTRAST_FLOOR
    image = np.full((3, 121, 114), level, np.float32)
    image[:, inside] += sign * contrast
    if 40 <= np.count_nonzero(inside) < 0.6 * inside.size:
        assert block_contrast(image) > CONTRAST_FLOOR
    assert block_contrast(image) <= contrast * 1.001


def test_even_pixels_have_no_contrast():
    assert block_contrast(np.full((3, 1, 1), 0.7, np.float32)) == 0
    assert block_contrast(np.full((3, 30, 19), 0.1, np.float32)) < 1e-6


def test_items_come_in_order_and_ahead():
    taken = []

    def items():
        for i in range(20):
            taken.append(i)
            yield i

    with Prefetch(items(), 3, lambda: None) as ahead:
        for expected, item in enumerate(ahead):
            assert item == expected
            assert len(taken) <= expected + 6
    assert taken == list(range(20))


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        msg = "broken"
        raise ValueError(msg)

    seen = []
    with Prefetch(items(), 3, lambda: None) as ahead, pytest.raises(ValueError, match="broken"):
        seen.extend(ahead)
    assert seen == [1]


def test_waiting_can_be_stopped_and_ends_the_thread():
    release = threading.Event()

    def items():
        release.wait(10)
        yield 1

    def give_up():
        raise CancelledError(expected="an item", got="a cancel", remedy="Wait.")

    started = time.monotonic()
    with pytest.raises(CancelledError), Prefetch(items(), 3, give_up) as ahead:
        next(iter(ahead))
    assert time.monotonic() - started < 2
    release.set()
