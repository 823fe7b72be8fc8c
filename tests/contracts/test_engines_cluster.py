"""A running Dask cluster of separate processes, of which some are lost."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from dinomask.config import EngineConfig, SegmentConfig, TileConfig
from dinomask.errors import EngineError
from dinomask.image import open_image
from dinomask.run.engines import make_engine
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment

CONFIG = SegmentConfig(diameter_px=26.0, threads=1, tiles=TileConfig(tile_px=224, halo_px=56))

pytestmark = pytest.mark.slow


@dataclasses.dataclass
class Cluster:
    address: str
    scheduler: subprocess.Popen
    workers: list[subprocess.Popen]


def start(module, *options):
    # nothing of a screen or of Qt is there, as on a cluster
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "QT_API")}
    command = [sys.executable, "-m", f"distributed.cli.{module}", *options]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)


@pytest.fixture
def cluster(tmp_path):
    file = tmp_path / "scheduler.json"
    scheduler = start("dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", file)
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = [
        start("dask_worker", "--scheduler-file", file, "--nthreads", "1", "--no-nanny")
        for _ in range(2)
    ]
    yield Cluster(json.loads(file.read_text())["address"], scheduler, workers)
    for process in (scheduler, *workers):
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(CONFIG)


@pytest.fixture(scope="module")
def path(sample_nuclei, tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "nuclei.tif"
    tifffile.imwrite(path, tifffile.imread(sample_nuclei)[:260, :420])
    return path


@pytest.fixture(scope="module")
def once(path, predictor):
    return segment(open_image(path), config=CONFIG, predictor=predictor)


def test_a_worker_lost_under_way_changes_nothing(cluster, path, predictor, once):
    def kill(progress):
        if progress.stage == "detect" and progress.done == 2:
            cluster.workers[0].kill()

    with make_engine(EngineConfig("dask", scheduler=cluster.address)) as engine:
        image = open_image(path)
        result = segment(image, config=CONFIG, predictor=predictor, engine=engine, on_progress=kill)
    assert cluster.workers[0].poll() is not None
    np.testing.assert_array_equal(result.labels_yx, once.labels_yx)
    assert result.table.equals(once.table)
    # the cluster is its owner's and goes on
    assert cluster.scheduler.poll() is None
    assert cluster.workers[1].poll() is None


def test_a_scheduler_lost_under_way_is_an_error_and_the_run_can_go_on(
    cluster, path, predictor, once, tmp_path
):
    lost_s = 0.0

    def kill(progress):
        nonlocal lost_s
        if progress.stage == "detect" and progress.done >= 2 and not lost_s:
            cluster.scheduler.kill()
            lost_s = time.monotonic()

    out = tmp_path / "o.tif"
    with (
        make_engine(EngineConfig("dask", scheduler=cluster.address)) as engine,
        pytest.raises(EngineError, match="scheduler that stays"),
    ):
        image = open_image(path)
        segment(image, out, CONFIG, predictor=predictor, engine=engine, on_progress=kill)
    assert time.monotonic() - lost_s < 60
    resumed = segment(open_image(path), out, CONFIG, predictor=predictor)
    assert resumed.report["n_resumed"] >= 2
    np.testing.assert_array_equal(tifffile.imread(out), once.labels_yx)
