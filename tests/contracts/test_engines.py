"""What every engine promises: the same result, whatever happens to its workers."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from dinomask.config import EngineConfig, SegmentConfig, TileConfig
from dinomask.errors import (
    CancelledError,
    EngineError,
    ModelError,
    SettingsError,
    SourceChangedError,
    TilesFailedError,
)
from dinomask.image import open_image
from dinomask.run.engines import make_engine
from dinomask.run.engines.processes import MAX_DEATHS
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from dinomask.tiles.outputs import ledger_path, table_path
from tests.contracts.engines import DeadlyArray, wait_until_gone

CONFIG = SegmentConfig(diameter_px=26.0, threads=1, tiles=TileConfig(tile_px=224, halo_px=56))
PARALLEL = ["processes", "dask"]


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(CONFIG)


@pytest.fixture(scope="module")
def path(sample_nuclei, tmp_path_factory):
    """A corner of the sample, as a file: six tiles."""
    path = tmp_path_factory.mktemp("image") / "nuclei.tif"
    tifffile.imwrite(path, tifffile.imread(sample_nuclei)[:260, :280])
    return path


@pytest.fixture(scope="module")
def once(path, predictor):
    return segment(open_image(path), config=CONFIG, predictor=predictor)


@pytest.fixture(scope="module", params=["serial", "processes", "dask"])
def engine(request):
    """Workers are started once for all tests, as they are for many images."""
    workers = None if request.param == "serial" else 2
    with make_engine(EngineConfig(request.param, workers)) as engine:
        yield engine


FEWER = pytest.mark.parametrize(
    "engine",
    ["serial", "processes", pytest.param("dask", marks=pytest.mark.slow)],
    indirect=True,
)
"""What needs workers started anew, which takes dask half a minute."""


def assert_same(result, once):
    np.testing.assert_array_equal(result.labels_yx, once.labels_yx)
    assert result.table.equals(once.table)


def stop():
    raise CancelledError(expected="to finish", got="a cancel", remedy="Run it again.")


def test_every_engine_gives_the_same_to_the_last_bit(engine, path, predictor, once):
    assert len(once.table) > 20
    result = segment(open_image(path), config=CONFIG, predictor=predictor, engine=engine)
    assert_same(result, once)
    assert result.report["engine"] == {
        "name": engine.name,
        "workers": engine.workers,
        "threads": 1,
    }


def test_an_image_in_memory_goes_to_the_workers(engine, path, predictor, once):
    image = open_image(tifffile.imread(path))
    assert_same(segment(image, config=CONFIG, predictor=predictor, engine=engine), once)


def test_batches_change_nothing_but_speed(engine, path, predictor, once):
    config = dataclasses.replace(CONFIG, batch=4)
    found = segment(open_image(path), config=config, predictor=predictor, engine=engine)
    alone = segment(open_image(path), config=config, predictor=predictor)
    assert_same(found, alone)
    assert len(found.table) == len(once.table)


@FEWER
def test_an_unreadable_chunk_fails_its_tiles_and_no_other(engine, path, predictor, once, tmp_path):
    pixels = tifffile.imread(path)
    array = zarr.create_array(
        tmp_path / "i.zarr", shape=pixels.shape, chunks=(20, 20), dtype=pixels.dtype
    )
    array[:] = pixels
    (tmp_path / "i.zarr" / "c" / "12" / "13").write_bytes(b"no pixels")
    image = open_image(tmp_path / "i.zarr", axes="yx")
    out = tmp_path / "o.zarr"
    result = segment(image, out, CONFIG, predictor=predictor, engine=engine)
    (failed,) = result.failed_tiles
    assert failed.index == result.report["n_tiles"] - 1
    _, x0, y1, x1 = failed.core_yxyx_px
    assert (y1, x1) == pytest.approx(pixels.shape, abs=1)
    assert "decompression" in failed.reason
    assert result.report["n_failed"] == 1
    assert result.report["failed_tiles"][0]["reason"] == failed.reason
    # whoever opens the result later is told where it has a hole
    (marked,) = zarr.open(out).attrs["dinomask"]["failed_tiles"]
    (listed,) = pd.read_parquet(table_path(out)).attrs["failed_tiles"]
    assert marked["index"] == listed["index"] == failed.index
    labels = zarr.open(out)["0"][:]
    # far from the hole nothing is lost; the percentiles lack the hole's pixels
    left = np.s_[:, : int(x0) - 60]
    assert np.mean((labels[left] > 0) != (once.labels_yx[left] > 0)) < 1e-3
    assert labels[left].any()
    again = segment(image, out, CONFIG, predictor=predictor, engine=engine, overwrite=True)
    assert again.report["n_resumed"] == again.report["n_tiles"] - 1


@FEWER
def test_an_image_without_a_readable_tile_is_an_error(engine, path, predictor, tmp_path):
    pixels = tifffile.imread(path)
    array = zarr.create_array(
        tmp_path / "i.zarr", shape=pixels.shape, chunks=pixels.shape, dtype=pixels.dtype
    )
    array[:] = pixels
    image = open_image(tmp_path / "i.zarr", axes="yx")
    broken = dataclasses.replace(image, levels=(_Unreadable(pixels),), path=None, probe=None)
    with pytest.raises(TilesFailedError, match="the disk is ill"):
        segment(broken, config=CONFIG, predictor=predictor, engine=engine)


class _Unreadable:
    """Pixels that can be read in small pieces only."""

    def __init__(self, pixels_yx: np.ndarray) -> None:
        self.pixels_yx, self.shape, self.dtype, self.ndim = pixels_yx, pixels_yx.shape, "u2", 2

    def __getitem__(self, window):
        if window[0].stop - window[0].start != self.shape[0]:
            msg = "the disk is ill"
            raise OSError(msg)
        return self.pixels_yx[window]


@pytest.mark.parametrize("name", PARALLEL)
def test_a_killed_worker_is_replaced_and_its_tiles_done_again(name, path, predictor, once):
    killed = []
    with make_engine(EngineConfig(name, 2)) as engine:

        def kill(progress):
            if progress.stage == "detect" and progress.done == 1 and not killed:
                killed.append(engine.pids()[0])
                os.kill(killed[0], signal.SIGKILL)

        image = open_image(path)
        result = segment(image, config=CONFIG, predictor=predictor, engine=engine, on_progress=kill)
        pids = engine.pids()
    assert killed
    assert_same(result, once)
    assert not result.failed_tiles
    assert wait_until_gone([*pids, *killed], 5) == []


@FEWER
def test_a_cancel_answers_at_once_and_leaves_no_process(engine, path, predictor, tmp_path, once):
    out, pids = tmp_path / "o.tif", []
    cancelled_s = 0.0

    def cancel(progress):
        nonlocal cancelled_s
        if progress.stage == "detect" and progress.done >= 2:
            pids.extend(engine.pids() if engine.name != "serial" else [])
            cancelled_s = time.monotonic()
            stop()

    with pytest.raises(CancelledError):
        segment(
            open_image(path), out, CONFIG, predictor=predictor, engine=engine, on_progress=cancel
        )
    assert time.monotonic() - cancelled_s < 1.5
    assert wait_until_gone(pids, 2) == []
    assert not out.exists()
    # and the engine can be used again
    resumed = segment(open_image(path), out, CONFIG, predictor=predictor, engine=engine)
    assert resumed.report["n_resumed"] >= 2
    np.testing.assert_array_equal(tifffile.imread(out), once.labels_yx)
    assert not ledger_path(out).exists()


def test_a_worker_refuses_another_model(engine, path, predictor):
    if engine.name == "serial":
        pytest.skip("the model is not loaded again")
    manifest = dataclasses.replace(predictor.manifest, weights_sha256="0" * 64)
    other = dataclasses.replace(predictor, manifest=manifest)
    with pytest.raises(ModelError, match="weights 000000000000"):
        segment(open_image(path), config=CONFIG, predictor=other, engine=engine)


@FEWER
def test_an_image_that_changes_under_way_stops_the_run(engine, path, predictor, tmp_path):
    copy = tmp_path / "copy.tif"
    copy.write_bytes(path.read_bytes())

    def rewrite(progress):
        if progress.stage == "detect" and progress.done == 1:
            tifffile.imwrite(copy, tifffile.imread(path)[::-1])

    image = open_image(copy)
    with pytest.raises(SourceChangedError):
        segment(image, config=CONFIG, predictor=predictor, engine=engine, on_progress=rewrite)


def test_what_cannot_be_sent_to_workers_is_refused(engine, path, predictor):
    if engine.name == "serial":
        pytest.skip("nothing is sent")
    image = open_image(path)
    opened = dataclasses.replace(image, levels=((lambda: image),), path=None)
    work_with = dataclasses.replace(image, notes=(opened.levels[0],), path=None, probe=None)
    with pytest.raises(SettingsError, match="other processes can open"):
        segment(work_with, config=CONFIG, predictor=predictor, engine=engine)


def test_an_unreachable_scheduler_is_an_error(path, predictor, monkeypatch):
    monkeypatch.setattr("dinomask.run.engines.cluster.CONNECT_S", 1.0)
    engine = make_engine(EngineConfig("dask", scheduler="tcp://127.0.0.1:1"))
    with engine, pytest.raises(EngineError, match=r"answers at tcp://127\.0\.0\.1:1"):
        segment(open_image(path), config=CONFIG, predictor=predictor, engine=engine)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"engine": "processes", "workers": 0}, "at least 1 worker"),
        ({"engine": "serial", "workers": 2}, "--engine processes"),
        ({"engine": "processes", "scheduler": "tcp://x:1"}, "--engine dask"),
        ({"engine": "dask", "scheduler": "tcp://x:1", "workers": 2}, "own workers"),
    ],
)
def test_settings_of_engines_that_do_not_fit_are_refused(values, said):
    with pytest.raises(SettingsError, match=said):
        EngineConfig(**values)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", PARALLEL)
def test_the_number_of_workers_does_not_matter(name, workers, path, predictor, once):
    with make_engine(EngineConfig(name, workers)) as engine:
        result = segment(open_image(path), config=CONFIG, predictor=predictor, engine=engine)
    assert_same(result, once)
    assert result.report["engine"]["workers"] == workers


@pytest.mark.slow
@pytest.mark.parametrize("name", PARALLEL)
@pytest.mark.parametrize(("workers", "first"), [(2, False), (1, True)])
def test_a_tile_that_kills_every_worker_is_given_up(name, workers, first, path, predictor, once):
    """Alone: what the lost workers had in hand beside it is found."""
    pixels = DeadlyArray(tifffile.imread(path), os.getpid(), first=first)
    with make_engine(EngineConfig(name, workers)) as engine:
        result = segment(
            open_image(pixels, axes="yx"), config=CONFIG, predictor=predictor, engine=engine
        )
    (failed,) = result.failed_tiles
    assert "workers died" in failed.reason or f"{MAX_DEATHS} worker" in failed.reason
    assert 0 < len(result.table) <= len(once.table)
