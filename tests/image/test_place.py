from __future__ import annotations

import importlib
import pickle
import shutil
import sys
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import zarr

from dinomask.errors import ChunkError, InputError, SourceChangedError
from dinomask.image.source import open_image
from tests.image.stores import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_over_http(
    tmp_path: Path,
    pixels_cyx: NDArray[np.uint16],
    write_ome_zarr: Callable[..., None],
    version: str,
) -> None:
    write_ome_zarr(tmp_path / "image.zarr", pixels_cyx, version)
    with serving(tmp_path) as (root, requests):
        image = open_image(f"{root}/image.zarr")
        assert (image.name, image.axes, image.path) == ("image.zarr", "cyx", None)
        assert image.pixel_size_um == pytest.approx((0.25, 0.5))
        requests.clear()
        np.testing.assert_array_equal(image.read((0, 33, 30, 60)), pixels_cyx[:, :30, 33:60])
        inner = "{}.0.1" if version == "0.4" else "c/{}/0/1"
        # three chunks, one a channel, and nothing else
        assert set(requests) == {f"/image.zarr/0/{inner.format(c)}" for c in range(3)}
        again = pickle.loads(pickle.dumps(image))
        assert again.identity == image.identity
        np.testing.assert_array_equal(
            again.read((5, 5, 20, 20), 2), pixels_cyx[:, ::4, ::4][:, 5:20, 5:20]
        )
        metadata = "/.zattrs" if version == "0.4" else "/zarr.json"
        assert open_image(f"{root}/image.zarr{metadata}").identity == image.identity
        assert open_image(f"{root}/image.zarr/").identity == image.identity


def test_shards_over_http_are_read_in_parts(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(1, 60_000, (512, 512), dtype=np.uint16)
    options: dict[str, Any] = {"chunks": (64, 64), "shards": (512, 512)}
    zarr.create_array(str(tmp_path / "s.zarr"), data=noise, dimension_names=["y", "x"], **options)
    with serving(tmp_path) as (root, requests):
        image = open_image(f"{root}/s.zarr")
        requests.clear()
        np.testing.assert_array_equal(image.read((70, 70, 90, 90))[0], noise[70:90, 70:90])
        # the shard's index, and the one chunk
        assert requests == ["/s.zarr/c/0/0"] * 2


def test_any_protocol_of_fsspec(tmp_path: Path, write_ome_zarr: Callable[..., None]) -> None:
    pixels = np.random.default_rng(0).integers(1, 99, (2, 80, 70), dtype=np.uint8)
    write_ome_zarr(tmp_path / "a.zarr", pixels, "0.5")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "a.zarr"), "/place/a.zarr", recursive=True)
    try:
        image = open_image("memory://place/a.zarr")
        np.testing.assert_array_equal(image.read((0, 0, 80, 70)), pixels)
        memory.pipe("/place/a.zarr/zarr.json", memory.cat("/place/a.zarr/zarr.json"))
        with pytest.raises(SourceChangedError, match="memory://place/a"):
            image.require_unchanged()
    finally:
        memory.rm("/place", recursive=True)


def test_a_url_of_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with serving(tmp_path) as (root, _):
        for name in ("nowhere.zarr", "empty"):
            with pytest.raises(InputError, match=f"{name}, where there is none"):
                open_image(f"{root}/{name}")
    with pytest.raises(InputError, match="the network"):
        open_image(f"{root}/image.zarr")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gopher2://host/a.zarr", "starts with https"),
        ("https://host/a.zarr?token=1", "ends with a query"),
        ("s3://bucket/a.zarr", r"napari-dinomask\[remote\]"),
    ],
)
def test_protocols_that_are_not_there(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    registry = importlib.import_module("fsspec.registry")
    monkeypatch.delitem(registry._registry, "s3", raising=False)
    with pytest.raises(InputError, match=message):
        open_image(url)


def test_a_remote_source_that_vanishes_is_not_taken_for_black(
    tmp_path: Path, write_ome_zarr: Callable[..., None]
) -> None:
    pixels = np.random.default_rng(0).integers(1, 99, (1, 80, 70), dtype=np.uint8)
    write_ome_zarr(tmp_path / "a.zarr", pixels, "0.5")
    with serving(tmp_path) as (root, requests):
        image = open_image(f"{root}/a.zarr")
        shutil.rmtree(tmp_path / "a.zarr" / "0" / "c")
        requests.clear()
        # chunks that were never written are black, by the specification
        assert not image.read((0, 0, 9, 9)).any()
        shutil.rmtree(tmp_path / "a.zarr")
        with pytest.raises(SourceChangedError, match="gone"):
            image.read((0, 0, 9, 9))
    # no server at all
    with pytest.raises(SourceChangedError, match="gone"):
        image.read((0, 0, 9, 9))


def test_a_damaged_chunk_behind_a_url_is_named(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16], write_ome_zarr: Callable[..., None]
) -> None:
    write_ome_zarr(tmp_path / "a.zarr", pixels_cyx, "0.5")
    (tmp_path / "a.zarr" / "0" / "c" / "1" / "2" / "1").write_bytes(b"\1\2")
    with serving(tmp_path) as (root, _):
        image = open_image(f"{root}/a.zarr", channels=(0,))
        assert image.read((0, 0, 131, 97)).shape == (1, 131, 97)
        with pytest.raises(ChunkError, match=r"/a\.zarr; got chunk 0/c/1/2/1 of level 0"):
            open_image(f"{root}/a.zarr").read((0, 0, 131, 97))
