"""Label images on disk, read back by the formats' own libraries."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from ome_zarr_models.v05 import ImageLabel

from dinomask.errors import CancelledError, OutputError
from dinomask.tiles.outputs import check_output, ledger_path, table_path
from dinomask.tiles.render import render_image
from dinomask.tiles.write import write_labels
from tests.tiles.scenes import planted_disks
from tests.tiles.test_render import as_stitched

if TYPE_CHECKING:
    from dinomask.tiles.stitch import Stitched

SHAPE = (1100, 2300)
KINDS = pytest.mark.parametrize("name", ["o.tif", "o.zarr"])


@pytest.fixture(scope="module")
def stitched() -> Stitched:
    return as_stitched(planted_disks(3, SHAPE, 40.0), SHAPE)


@pytest.fixture(scope="module")
def labels(stitched: Stitched) -> np.ndarray:
    return render_image(stitched, SHAPE)[0]


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_tiff_round_trip(stitched: Stitched, labels: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "o.tif"
    write_labels(stitched, SHAPE, out, pixel_size_um=(0.5, 0.25))
    with tifffile.TiffFile(out) as tiff:
        assert tiff.is_ome
        assert tiff.series[0].axes == "YX"
        page = tiff.pages[0]
        assert (page.tilelength, page.tilewidth) == (1024, 1024)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert page.get_resolution(tifffile.RESUNIT.MICROMETER) == pytest.approx((4, 2))
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == (0.5, 0.25)
        read = tiff.asarray()
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (17, 5)])
@KINDS
def test_small_images(name: str, shape: tuple[int, int], tmp_path: Path) -> None:
    stitched = as_stitched(planted_disks(0, shape, 4.0), shape)
    table = write_labels(stitched, shape, tmp_path / name)
    read = read_back(tmp_path / name)
    assert read.shape == shape
    assert sorted(set(np.unique(read)) - {0}) == table["id"].tolist()


def read_back(out: Path) -> np.ndarray:
    if out.suffix == ".tif":
        return tifffile.imread(out)
    return zarr.open_array(out / "0", mode="r")[:]


def test_zarr_round_trip(stitched: Stitched, labels: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "o.zarr"
    write_labels(stitched, SHAPE, out, pixel_size_um=(0.5, 0.25))
    group = zarr.open_group(out, mode="r")
    model = ImageLabel.from_zarr(group)
    multiscale = model.ome_attributes.multiscales[0]
    assert [(a.name, a.type, a.unit) for a in multiscale.axes] == [
        ("y", "space", "micrometer"),
        ("x", "space", "micrometer"),
    ]
    shapes = [group[d.path].shape for d in multiscale.datasets]
    assert shapes == [(1100, 2300), (550, 1150), (275, 575), (138, 288)]
    assert group["0"].chunks == (1024, 1024)
    for k, dataset in enumerate(multiscale.datasets):
        scale = dataset.coordinateTransformations[0].scale
        assert scale == [0.5 * 2**k, 0.25 * 2**k]
        np.testing.assert_array_equal(group[dataset.path][:], labels[:: 2**k, :: 2**k])


def test_zarr_without_a_pixel_size_has_no_unit(stitched: Stitched, tmp_path: Path) -> None:
    write_labels(stitched, SHAPE, tmp_path / "o.zarr")
    multiscale = ImageLabel.from_zarr(zarr.open_group(tmp_path / "o.zarr", mode="r"))
    multiscale = multiscale.ome_attributes.multiscales[0]
    assert [a.unit for a in multiscale.axes] == [None, None]
    assert multiscale.datasets[0].coordinateTransformations[0].scale == [1, 1]


@KINDS
def test_the_table_stands_beside_the_labels(
    name: str, stitched: Stitched, labels: np.ndarray, tmp_path: Path
) -> None:
    steps = []
    returned = write_labels(
        stitched, SHAPE, tmp_path / name, progress=lambda done, n: steps.append((done, n))
    )
    table = pd.read_parquet(tmp_path / f"{name}.instances.parquet")
    pd.testing.assert_frame_equal(table, returned)
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    assert table["id"].tolist() == ids.tolist()
    assert table["area_px"].tolist() == areas.tolist()
    assert steps == [(i, 6) for i in range(1, 7)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, f"{name}.instances.parquet"]


@KINDS
def test_an_existing_output_stays_unless_asked(
    name: str, stitched: Stitched, tmp_path: Path
) -> None:
    nothing = as_stitched(planted_disks(0, SHAPE, 1e6).take(np.zeros(0, int)), SHAPE)
    out = tmp_path / name
    write_labels(nothing, SHAPE, out)
    before = everything_in(tmp_path)
    with pytest.raises(OutputError, match="--overwrite"):
        write_labels(stitched, SHAPE, out)
    assert everything_in(tmp_path) == before
    write_labels(stitched, SHAPE, out, overwrite=True)
    assert read_back(out).max() == len(stitched)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, f"{name}.instances.parquet"]


@KINDS
def test_a_stop_leaves_what_was_there(name: str, stitched: Stitched, tmp_path: Path) -> None:
    write_labels(stitched, SHAPE, tmp_path / name)
    before = everything_in(tmp_path)

    def stop_at_the_third(done: int, n: int) -> None:
        if done == 3:
            raise CancelledError(expected="to finish", got="a stop", remedy="Run it again.")

    with pytest.raises(CancelledError):
        write_labels(stitched, SHAPE, tmp_path / name, overwrite=True, progress=stop_at_the_third)
    assert everything_in(tmp_path) == before


@KINDS
def test_a_full_disk_leaves_what_was_there(
    name: str, stitched: Stitched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_labels(stitched, SHAPE, tmp_path / name)
    before = everything_in(tmp_path)

    def no_space(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OutputError, match="Free some space"):
        write_labels(stitched, SHAPE, tmp_path / name, overwrite=True)
    assert everything_in(tmp_path) == before


def test_a_full_device_is_reported(tmp_path: Path) -> None:
    """A real ENOSPC: every write to /dev/full fails."""
    from dinomask.tiles.outputs import replacing

    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with (
        pytest.raises(OutputError, match="enough free space"),
        replacing(tmp_path / "o.bin"),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_check_output_accepts_a_new_name_and_leaves_no_trace(tmp_path: Path) -> None:
    for name in ("o.tif", "o.TIFF", "o.ome.zarr"):
        check_output(tmp_path / name, overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["o.png", "o", "o.zarr.zip"])
def test_another_ending_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.zarr"):
        check_output(tmp_path / name, overwrite=True)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder that exists"):
        check_output(tmp_path / "no" / "o.tif", overwrite=False)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder nobody can write to")
def test_a_folder_that_is_not_writable_is_refused() -> None:
    with pytest.raises(OutputError, match="another folder"):
        check_output(Path("/proc/o.tif"), overwrite=False)


def test_a_table_alone_is_not_overwritten_either(tmp_path: Path) -> None:
    table_path(tmp_path / "o.tif").write_text("mine")
    with pytest.raises(OutputError, match=r"instances\.parquet"):
        check_output(tmp_path / "o.tif", overwrite=False)


def test_a_folder_that_holds_something_else_is_never_replaced(tmp_path: Path) -> None:
    image = tmp_path / "image.zarr"
    zarr.create_group(image, attributes={"ome": {"version": "0.5", "multiscales": []}})
    plain = tmp_path / "plain.tif"
    plain.mkdir()
    for out in (image, plain):
        with pytest.raises(OutputError, match="something else"):
            check_output(out, overwrite=True)
        assert out.is_dir()


def test_the_image_itself_is_never_replaced(tmp_path: Path) -> None:
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, np.zeros((4, 4), np.uint8))
    link = tmp_path / "link.tif"
    link.symlink_to(image)
    for out in (image, link):
        with pytest.raises(OutputError, match="image itself"):
            check_output(out, overwrite=True, keep=[image])
    check_output(image, overwrite=True, keep=[tmp_path / "other.tif"])


def test_names_beside_the_output_tell_formats_apart(tmp_path: Path) -> None:
    assert table_path(Path("a/o.tif")) == Path("a/o.tif.instances.parquet")
    assert table_path(Path("a/o.zarr")) == Path("a/o.zarr.instances.parquet")
    assert ledger_path(Path("a/o.zarr")) == Path("a/o.zarr.ledger")
