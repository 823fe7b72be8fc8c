"""Engines from the command line: Ctrl-C, kill -9, exit codes."""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
import tifffile
import zarr

from dinomask.cli import main
from dinomask.tiles.outputs import ledger_path, table_path
from tests.contracts.engines import wait_until_gone

OPTIONS = ["--diameter", "26", "--tile", "224", "--halo", "56", "--threads", "1"]
ENGINES = {
    "serial": ["--engine", "serial"],
    "processes": ["--engine", "processes", "--workers", "2"],
    "dask": ["--engine", "dask", "--workers", "2"],
}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture(scope="module")
def path(sample_nuclei, tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "nuclei.tif"
    tifffile.imwrite(path, tifffile.imread(sample_nuclei)[:260, :420])
    return path


def start(path, out, engine):
    command = [sys.executable, "-m", "dinomask", "segment", str(path), "-o", str(out)]
    return subprocess.Popen(
        [*command, *OPTIONS, *ENGINES[engine]],
        stderr=subprocess.PIPE,
        text=True,
        # a process group of its own, as a terminal makes for a command
        start_new_session=True,
        # a suite that was started in the background ignores it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_records(process, out, n=1):
    tiles = ledger_path(out) / "tiles"
    deadline = time.monotonic() + 300
    while len(list(tiles.glob("*/*.npz"))) < n and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    "engine", ["serial", "processes", pytest.param("dask", marks=pytest.mark.slow)]
)
def test_ctrl_c_ends_every_process_at_once(engine, path, tmp_path):
    out = tmp_path / "o.tif"
    process = start(path, out, engine)
    wait_for_records(process, out)
    family = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
    assert len(family) >= (0 if engine == "serial" else 2)
    pressed_s = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    said = list(itertools.takewhile(lambda line: "cancelled" not in line, process.stderr))
    # it says so long before all tiles could be done, even on a busy machine
    assert time.monotonic() - pressed_s < 15
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in "".join([*said, errors])
    assert wait_until_gone(family, 5) == []
    assert not out.exists()


@pytest.mark.parametrize(
    ("engine", "n_kills"),
    [
        ("serial", 2),
        pytest.param("serial", 20, marks=pytest.mark.slow),
        pytest.param("processes", 20, marks=pytest.mark.slow),
        pytest.param("dask", 20, marks=pytest.mark.slow),
    ],
)
def test_kills_at_random_moments_change_nothing(engine, n_kills, tmp_path, clean_runs):
    image, labels_yx, table = clean_runs(n_kills)
    chance = random.Random(n_kills)
    out = tmp_path / "o.tif"
    orphans, n_killed = [], 0
    while n_killed < n_kills:
        process = start(image, out, engine)
        if chance.random() < 0.8:
            done = len(list((ledger_path(out) / "tiles").glob("*/*.npz")))
            wait_for_records(process, out, n=done + 1)
            time.sleep(chance.uniform(0, 0.2))
        else:
            time.sleep(chance.uniform(0, 2))
        assert process.poll() is None, "the image is too small for as many kills"
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        n_killed += 1
        orphans += wait_until_gone([p.pid for p in family], 5)
    assert orphans == []
    assert not out.exists()
    process = start(image, out, engine)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    np.testing.assert_array_equal(tifffile.imread(out), labels_yx)
    assert pd.read_parquet(table_path(out)).equals(table)


@pytest.fixture(scope="module")
def clean_runs(path, tmp_path_factory):
    """Return, by the number of kills, an image with tiles enough for them and its clean run."""

    @functools.cache
    def run(n_kills):
        folder = tmp_path_factory.mktemp("clean")
        image, out = folder / "nuclei.tif", folder / "o.tif"
        times = (4, 3) if n_kills > 2 else (2, 1)
        tifffile.imwrite(image, np.tile(tifffile.imread(path), times))
        process = start(image, out, "serial")
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        return image, tifffile.imread(out), pd.read_parquet(table_path(out))

    return run


def test_failed_tiles_are_listed_and_give_exit_code_3(capsys, path, tmp_path):
    pixels = tifffile.imread(path)
    array = zarr.create_array(
        tmp_path / "i.zarr",
        shape=pixels.shape,
        chunks=(20, 20),
        dtype=pixels.dtype,
        dimension_names=("y", "x"),
    )
    array[:] = pixels
    (tmp_path / "i.zarr" / "c" / "12" / "20").write_bytes(b"no pixels")
    out, report = tmp_path / "o.zarr", tmp_path / "o.json"
    with pytest.raises(SystemExit) as stop:
        main(["segment", str(tmp_path / "i.zarr"), "-o", str(out), "--json", str(report), *OPTIONS])
    text = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == 3
    figures = json.loads(report.read_text())
    (failed,) = figures["failed_tiles"]
    assert f"tile {failed['index']} (y 130 to 260" in text
    assert "decompression" in text
    assert "--overwrite" in text
    assert out.exists()


def test_dask_that_is_missing_is_said_in_one_line(capsys, path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SystemExit) as stop:
        main(["segment", str(path), "-o", str(tmp_path / "o.tif"), "--engine", "dask"])
    assert stop.value.code == 2
    assert "pip install 'napari-dinomask[dask]'" in capsys.readouterr().err


def test_blank_tiles_can_be_looked_at_all_the_same(capsys):
    with pytest.raises(SystemExit):
        main(["segment", "--help"])
    assert "--no-skip-blank" in capsys.readouterr().out
