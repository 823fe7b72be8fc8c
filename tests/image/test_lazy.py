"""No more is read than a window needs, and what changes under way is noticed."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from dinomask.errors import ChunkError, SourceChangedError
from dinomask.image import examine, fit_normaliser
from dinomask.image.identity import require_same
from dinomask.image.normalise import Normaliser
from dinomask.image.resample import read_scaled
from dinomask.image.source import open_image
from tests.image.stores import CountingStore
from tests.image.test_arrays import layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SIDE, CHUNK = 512, 64
NOISE = np.random.default_rng(0).integers(1, 60_000, (3, SIDE, SIDE), dtype=np.uint16)


def pyramid(zarr_format: Any, sharded: bool) -> tuple[zarr.Group, CountingStore]:
    """An OME-Zarr with axes z, y, x and levels of 512, 256 and 128 px in a counting store."""
    store = CountingStore(MemoryStore())
    group = zarr.open_group(store, mode="w", zarr_format=zarr_format)
    for level in range(3):
        data = NOISE[:, :: 2**level, :: 2**level]
        shards = (1, 128, 128) if sharded else None
        group.create_array(str(level), data=data, chunks=(1, CHUNK, CHUNK), shards=shards)
    steps = [{"type": "scale", "scale": [1.0, 2.0**i, 2.0**i]} for i in range(3)]
    datasets = [
        {"path": str(i), "coordinateTransformations": [step]} for i, step in enumerate(steps)
    ]
    found = {"axes": [{"name": a} for a in "zyx"], "datasets": datasets}
    group.attrs.update({"multiscales": [found], "ome": {"multiscales": [found]}})
    return group, store


@given(data=st.data())
@pytest.mark.parametrize(("zarr_format", "sharded"), [(2, False), (3, False), (3, True)])
def test_a_window_touches_its_own_chunks_only(
    data: st.DataObject, zarr_format: int, sharded: bool
) -> None:
    group, store = pyramid(zarr_format, sharded)
    level = data.draw(st.integers(0, 2))
    side = SIDE >> level
    y0, x0 = data.draw(st.integers(0, side - 1)), data.draw(st.integers(0, side - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, side)), data.draw(st.integers(x0 + 1, side))
    z = data.draw(st.integers(0, 2))
    image = open_image(group, plane={"z": z})
    store.read.clear()
    pixels = image.read((y0, x0, y1, x1), level)[0]
    step = 2**level
    np.testing.assert_array_equal(pixels, NOISE[z, ::step, ::step][y0:y1, x0:x1])
    unit = 128 if sharded else CHUNK
    rows, columns = range(y0 // unit, -(-y1 // unit)), range(x0 // unit, -(-x1 // unit))
    pattern = "{}/{}.{}.{}" if zarr_format == 2 else "{}/c/{}/{}/{}"
    assert store.chunks == {pattern.format(level, z, i, j) for i in rows for j in columns}
    if sharded and (y1 - y0, x1 - x0) == (1, 1):
        # of a shard with four chunks of noise, one and the index
        assert sum(store.read.values()) < 1.5 * CHUNK * CHUNK * 2


@pytest.mark.parametrize(("scale", "level"), [(1.3, 0), (0.6, 0), (0.5, 1), (0.26, 1), (0.2, 2)])
def test_the_level_nearest_the_scale_is_read(scale: float, level: int) -> None:
    group, store = pyramid(3, False)
    image = open_image(group, plane={"z": 0})
    store.read.clear()
    read_scaled(image, Normaliser((0.0,), (6e4,), False), scale, (0, 0, 20, 20))
    assert {key.split("/")[0] for key in store.chunks} == {str(level)}


def test_opening_and_fitting_read_a_bounded_part() -> None:
    chunks = []

    def load(block_info: Any = None) -> NDArray[np.uint16]:
        chunks.append(block_info[None]["array-location"])
        return np.full((1, 1024, 1024), len(chunks), np.uint16)

    lazy = da.map_blocks(load, chunks=((1,) * 5, (1024,) * 64, (1024,) * 64), dtype=np.uint16)
    image = open_image(lazy, axes="zyx", plane={"z": 3})
    fit_normaliser(image)
    # of 4096 chunks in the plane; none of other planes
    assert 0 < len(chunks) < 150
    assert all(location[0] == (3, 4) for location in chunks)


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr", "tensorstore"])
def test_multiscale_layers_of_every_library(kind: str, tmp_path: Path) -> None:
    def store(array: NDArray[Any], i: int) -> Any:
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(tmp_path / str(i))},
            "metadata": {"shape": array.shape, "data_type": "uint16"},
        }
        made = tensorstore.open(spec, create=True).result()
        made[...] = array
        return made

    wrap: dict[str, Callable[[NDArray[Any], int], Any]] = {
        "numpy": lambda array, _: array,
        "dask": lambda array, _: da.from_array(array, chunks=(1, 50, 70)),
        "zarr": lambda array, _: zarr.create_array({}, data=array, chunks=(1, 50, 70)),
        "tensorstore": store,
    }
    levels = [wrap[kind](NOISE[:, ::step, ::step], i) for i, step in enumerate((1, 2, 4))]
    multiscale = layer(levels, multiscale=True, axis_labels=("z", "y", "x"), scale=(1, 1, 1))
    image = open_image(multiscale, plane={"z": 2})
    assert image.scales_yx == ((1, 1), (0.5, 0.5), (0.25, 0.25))
    for level, step in enumerate((1, 2, 4)):
        expected = NOISE[2, ::step, ::step][10:100, 3:40]
        np.testing.assert_array_equal(image.read((10, 3, 100, 40), level)[0], expected)


def test_a_large_compressed_page_is_decoded_by_the_tile(tmp_path: Path) -> None:
    path = tmp_path / "big.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(NOISE[0], tile=(64, 64), compression="zlib", subifds=1)
        writer.write(NOISE[0, ::2, ::2], tile=(64, 64), compression="zlib", subfiletype=1)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        page = tif.series[0].levels[0].pages[0]
        # all tiles but those of rows and columns 2 and 3 turn to rubbish
        for i, (start, n) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
            if not (i // 8 in (2, 3) and i % 8 in (2, 3)):
                data[start : start + n] = bytes(n)
    path.write_bytes(data)
    image = open_image(path)
    np.testing.assert_array_equal(image.read((128, 128, 256, 256))[0], NOISE[0, 128:256, 128:256])
    np.testing.assert_array_equal(image.read((0, 0, 256, 256), 1)[0], NOISE[0, ::2, ::2])
    with pytest.raises(ChunkError, match=r"big\.tif; got chunk 0/1\.2, 0/1\.3 of level 0"):
        image.read((127, 128, 256, 256))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_damaged_chunk_is_named_and_the_rest_is_read(tmp_path: Path, zarr_format: Any) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=NOISE, chunks=(1, 64, 64), zarr_format=zarr_format)
    image = open_image(path, axes="zyx", plane={"z": 1})
    key = "1.2.3" if zarr_format == 2 else "c/1/2/3"
    (path / key).write_bytes(b"\1\2")
    whole = image.read((0, 0, 512, 192))
    np.testing.assert_array_equal(whole[0], NOISE[1, :, :192])
    with pytest.raises(ChunkError, match=f"{path}; got chunk {key} of level 0"):
        image.read((0, 0, 512, 512))


def test_an_array_that_fails_is_named_by_its_block() -> None:
    def load(block_info: Any = None) -> NDArray[np.uint8]:
        if block_info[None]["chunk-location"] == (1, 2):
            msg = "the disk is gone"
            raise OSError(msg)
        return np.ones((10, 10), np.uint8)

    image = open_image(da.map_blocks(load, chunks=((10,) * 24, (10,) * 24), dtype=np.uint8))
    with pytest.raises(ChunkError, match=r"chunk \(1, 2\).*the disk is gone"):
        image.read((0, 0, 30, 30))
    assert image.read((20, 0, 30, 30)).all()
    # what looks at all of it says so, and goes on without
    assert fit_normaliser(image).low == (1.0,)
    assert any("can't be read" in finding.what for finding in examine(image))


def test_an_image_of_which_nothing_can_be_read_is_refused() -> None:
    def load(block_info: Any = None) -> NDArray[np.uint8]:
        msg = "the disk is gone"
        raise OSError(msg)

    image = open_image(da.map_blocks(load, chunks=((10,) * 3, (10,) * 3), dtype=np.uint8))
    with pytest.raises(ChunkError):
        fit_normaliser(image)


def write_tiff(path: Path) -> None:
    tifffile.imwrite(path, NOISE[0], compression="zlib", tile=(64, 64))


def write_mapped(path: Path) -> None:
    tifffile.imwrite(path, NOISE[0])


def write_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, NOISE[0])


def write_zarr(path: Path) -> None:
    zarr.create_array(str(path), data=NOISE[0], chunks=(64, 64), overwrite=True)


@pytest.mark.parametrize("write", [write_tiff, write_mapped, write_npy, write_zarr])
@pytest.mark.parametrize("fate", ["vanishes", "is cut short", "is written anew"])
def test_a_source_that_changes_under_way_stops_the_reading(
    tmp_path: Path, write: Callable[[Path], None], fate: str
) -> None:
    path = tmp_path / "source"
    write(path)
    image = open_image(path)
    image.read((0, 0, 9, 9))
    metadata = path / "zarr.json" if path.is_dir() else path
    if fate == "vanishes":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif fate == "is cut short":
        # a mapped file would end the process here, were it touched
        os.truncate(metadata, 100)
    else:
        write(path)
        os.utime(metadata, (1, 1))
    with pytest.raises(SourceChangedError, match="as it was when the work began") as caught:
        image.read((300, 300, 400, 400))
    assert "--restart" in caught.value.remedy


def test_pixels_changed_in_place_are_seen_at_the_end(tmp_path: Path) -> None:
    array = NOISE[0].copy()
    image = open_image(array)
    require_same(image)
    array[7, 9] += 1
    with pytest.raises(SourceChangedError, match="other pixels"):
        require_same(image)
    write_zarr(tmp_path / "a.zarr")
    image = open_image(tmp_path / "a.zarr")
    zarr.open_array(str(tmp_path / "a.zarr"), mode="r+")[3, 3] += 1
    image.require_unchanged()
    with pytest.raises(SourceChangedError, match="other pixels"):
        require_same(image)
