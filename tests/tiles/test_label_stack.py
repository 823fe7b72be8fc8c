"""Stacks of label images, several processes that draw, shards, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from ome_zarr_models.v05 import ImageLabel

from dinomask.errors import InputError
from dinomask.tiles import ome_zarr
from dinomask.tiles.draw import Scene
from dinomask.tiles.painters import Painters
from dinomask.tiles.render import render_image, render_window
from dinomask.tiles.write import write_labels, write_stack
from tests.tiles.scenes import planted_disks
from tests.tiles.test_render import as_stitched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.tiles.stitched import Stitched

SHAPE = (2, 3, 90, 1300)
KINDS = pytest.mark.parametrize("name", ["o.tif", "o.zarr"])
SPACING = {"t": 30.0, "z": 2.0, "y": 0.5, "x": 0.25}


def planes() -> Iterator[Stitched]:
    """Six planes with ids of their own."""
    first = 0
    for seed in range(6):
        plane = as_stitched(planted_disks(seed, SHAPE[-2:], 30.0), SHAPE[-2:])
        yield plane.with_ids(plane.ids + first)
        first += len(plane)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.stack([render_image(p, SHAPE[-2:])[0] for p in planes()]).reshape(SHAPE)


@KINDS
def test_planes_are_written_one_by_one(name: str, labels: np.ndarray, tmp_path: Path) -> None:
    taken: list[int] = []
    steps: list[tuple[int, int, int]] = []

    def counted() -> Iterator[Stitched]:
        for i, plane in enumerate(planes()):
            taken.append(i)
            yield plane

    table = write_stack(
        counted(),
        SHAPE,
        "tzyx",
        tmp_path / name,
        spacing=SPACING,
        max_id=60_000,
        progress=lambda done, total: steps.append((done, total, len(taken))),
    )
    # two pieces a plane, and no plane is asked for before its turn
    assert steps == [(i + 1, 12, i // 2 + 1) for i in range(12)]
    if name == "o.tif":
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert tiff.series[0].axes == "TZYX"
            read = tiff.asarray()
            pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [pixels[f"PhysicalSize{a}"] for a in "ZYX"] == [2.0, 0.5, 0.25]
        assert pixels["TimeIncrement"] == 30.0
    else:
        group = zarr.open_group(tmp_path / name, mode="r")
        multiscale = ImageLabel.from_zarr(group).ome_attributes.multiscales[0]
        assert [(a.name, a.type, a.unit) for a in multiscale.axes] == [
            ("t", "time", "second"),
            ("z", "space", "micrometer"),
            ("y", "space", "micrometer"),
            ("x", "space", "micrometer"),
        ]
        assert multiscale.datasets[1].coordinateTransformations[0].scale == [30.0, 2.0, 1.0, 0.5]
        assert group["0"].chunks == (1, 1, 90, 1024)
        np.testing.assert_array_equal(group["1"][:], labels[:, :, ::2, ::2])
        read = group["0"][:]
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, labels)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.instances.parquet"), table)
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    assert table["id"].tolist() == ids.tolist()
    assert table["area_px"].tolist() == areas.tolist()
    for row in table.sample(5, random_state=0).to_dict("records"):
        assert (labels[row["t"], row["z"]] == row["id"]).sum() == row["area_px"]


@KINDS
@pytest.mark.parametrize("n", [5, 7])
def test_a_wrong_number_of_planes_is_refused(n: int, name: str, tmp_path: Path) -> None:
    some = [*planes(), *planes()][:n]
    with pytest.raises(InputError, match="6 planes"):
        write_stack(some, SHAPE, "tzyx", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_axes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for axes in ("zyx", "tzxy"):
        with pytest.raises(InputError, match="ending in yx"):
            write_stack(planes(), SHAPE, axes, tmp_path / "o.tif")


def test_ids_above_those_announced_are_refused(tmp_path: Path) -> None:
    plane = next(planes())
    with pytest.raises(InputError, match="70000"):
        write_stack(
            [plane.with_ids(np.full(len(plane), 70_000))],
            (1, *SHAPE[-2:]),
            "zyx",
            tmp_path / "o.tif",
            max_id=100,
        )


@KINDS
def test_several_processes_write_the_same(name: str, tmp_path: Path) -> None:
    shape = (1100, 1300)
    stitched = as_stitched(planted_disks(3, shape, 40.0), shape)
    tables = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        tables.append(write_labels(stitched, shape, folder / name, workers=workers))
    pd.testing.assert_frame_equal(*tables)
    files = [
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in (tmp_path / "1", tmp_path / "2")
    ]
    if name == "o.zarr":
        table = Path("o.zarr.instances.parquet")
        assert [f.pop(table) is not None for f in files] == [True, True]
        assert files[0] == files[1]
    else:
        np.testing.assert_array_equal(*(tifffile.imread(tmp_path / w / name) for w in "12"))


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_killed_painter_is_replaced() -> None:
    shape = (600, 600)
    stitched = as_stitched(planted_disks(3, shape, 30.0), shape)
    windows = [(y, 0, y + 100, 600) for y in range(0, 600, 100)]
    pieces = []
    with Painters(2) as painters:
        for window, drawn in painters.draw(
            (Scene.of(stitched, w) for w in windows), np.dtype(np.uint32)
        ):
            pieces.append(drawn.labels_yx)
            for painter in painters._all:
                os.kill(painter.process.pid, signal.SIGKILL)
            assert window == windows[len(pieces) - 1]
    np.testing.assert_array_equal(np.concatenate(pieces), render_window(stitched, (0, 0, *shape)))


def test_large_levels_are_sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the same code with small shards: an image beyond 8192 px takes a minute
    monkeypatch.setattr(ome_zarr, "SHARD_PX", 512)
    monkeypatch.setattr(ome_zarr, "CHUNK_PX", 128)
    shape = (1500, 1100)
    stitched = as_stitched(planted_disks(3, shape, 40.0), shape)
    labels, wanted = render_image(stitched, shape)
    table = write_labels(stitched, shape, tmp_path / "o.zarr")
    pd.testing.assert_frame_equal(table, wanted)
    group = zarr.open_group(tmp_path / "o.zarr", mode="r")
    assert [group[k].shards for k in "012"] == [(512, 512), None, None]
    assert group["0"].chunks == (128, 128)
    for k in range(3):
        np.testing.assert_array_equal(group[str(k)][:], labels[:: 2**k, :: 2**k])
    files = [p for p in (tmp_path / "o.zarr" / "0").rglob("*") if p.is_file()]
    assert len(files) == 3 * 3 + 1
    ImageLabel.from_zarr(group)


def test_blank_parts_take_no_file(tmp_path: Path) -> None:
    shape = (1024, 4096)
    one = planted_disks(0, (100, 100), 30.0)
    write_labels(as_stitched(one, shape), shape, tmp_path / "o.zarr")
    files = [p.name for p in (tmp_path / "o.zarr" / "0").rglob("*") if p.is_file()]
    assert sorted(files) == ["0", "zarr.json"]


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from dinomask.tiles.write import write_labels
    from tests.tiles.scenes import planted_disks
    from tests.tiles.test_render import as_stitched

    def kill(done, total):
        if done == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    shape = (1500, 1500)
    stitched = as_stitched(planted_disks(3, shape, 40.0), shape)
    write_labels(stitched, shape, Path(sys.argv[1]), progress=kill)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
@KINDS
def test_a_kill_leaves_nothing_that_looks_like_a_result(
    name: str, tmp_path: Path, repository: Path
) -> None:
    script = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / name)]
    done = subprocess.run(script, cwd=repository, check=False)
    assert done.returncode == -signal.SIGKILL
    left = list(tmp_path.iterdir())
    assert left
    assert all(p.name.startswith(".") and p.name.endswith(".tmp") for p in left)
    mine = tmp_path / f".{name}.mine.tmp"
    mine.write_text("not ours")
    shape = (1500, 1500)
    stitched = as_stitched(planted_disks(3, shape, 40.0), shape)
    write_labels(stitched, shape, tmp_path / name)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {name, f"{name}.instances.parquet", mine.name}


def test_the_napari_reader_of_ome_zarr_opens_it(tmp_path: Path) -> None:
    reader = pytest.importorskip("napari_ome_zarr")
    shape = (700, 900)
    stitched = as_stitched(planted_disks(3, shape, 40.0), shape)
    labels, _ = render_image(stitched, shape)
    out = tmp_path / "o.zarr"
    write_labels(stitched, shape, out, pixel_size_um=(0.5, 0.25))
    layers = reader.napari_get_reader(str(out))(str(out))
    (data, attributes, kind) = layers[0]
    assert kind == "labels"
    np.testing.assert_array_equal(np.asarray(data[0]), labels)
    np.testing.assert_array_equal(np.asarray(data[1]), labels[::2, ::2])
    assert list(attributes["scale"]) == [0.5, 0.25]


@pytest.mark.slow
def test_above_four_gigabytes_it_is_a_bigtiff(tmp_path: Path) -> None:
    shape = (47_000, 47_000)
    found = planted_disks(0, (600, 600), 30.0)
    shift = np.array([46_000] * 4, np.float32)
    far = found.boxes_yxyx_px + shift
    stitched = as_stitched(type(found)(far, found.scores, found.classes, found.masks), shape)
    write_labels(stitched, shape, tmp_path / "o.tif")
    with tifffile.TiffFile(tmp_path / "o.tif") as tiff:
        assert tiff.is_bigtiff
        store = zarr.open_array(tiff.aszarr(), mode="r")
        here = np.asarray(store[46_000:46_600, 46_000:46_600])
    np.testing.assert_array_equal(here, render_window(stitched, (46_000, 46_000, 46_600, 46_600)))
