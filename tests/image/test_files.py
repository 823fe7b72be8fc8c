from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from dinomask.errors import DinomaskError, InputError
from dinomask.image.files import TIFF_MAGIC
from dinomask.image.pictures import PICTURE_MAGIC
from dinomask.image.source import open_image

if TYPE_CHECKING:
    from pathlib import Path


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.tif, which does not exist"):
        open_image(tmp_path / "nowhere.tif")


@pytest.mark.parametrize("url", ["https://example.org/a.tif", "s3://bucket/a.png?key=3"])
def test_addresses_must_be_downloaded(url: str) -> None:
    with pytest.raises(InputError, match="downloaded first"):
        open_image(url)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy", "a"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match="empty file"):
        open_image(tmp_path / name)


@pytest.mark.parametrize("name", ["notes.txt", "lie.tif", "lie.png", "lie.npy"])
def test_content_that_is_no_image_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("not an image at all")
    with pytest.raises(InputError, match="Export the image as TIFF or PNG"):
        open_image(tmp_path / name)


def test_microscope_files_are_told_how_to_get_in(tmp_path: Path) -> None:
    (tmp_path / "slide.czi").write_bytes(b"ZISRAWFILE\0\0\0\0")
    with pytest.raises(InputError, match="bioformats2raw"):
        open_image(tmp_path / "slide.czi")


def test_content_counts_more_than_the_extension(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Pillow.fromarray(grey).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", grey)
    (tmp_path / "b.tif").rename(tmp_path / "b.jpg")
    for name in ("a.tif", "b.jpg"):
        np.testing.assert_array_equal(open_image(tmp_path / name).read((0, 0, 3, 4))[0], grey)


def test_folders_name_an_image_they_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without zarr metadata"):
        open_image(tmp_path)
    (tmp_path / "cells.tif").touch()
    with pytest.raises(InputError, match=r"for example .*cells\.tif"):
        open_image(tmp_path)


def test_objects_in_npy_files_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        open_image(tmp_path / "evil.npy")


def test_npy_files_cut_short_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.npy"
    np.save(path, np.zeros((50, 50)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="again"):
        open_image(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    magic=st.sampled_from(
        [*TIFF_MAGIC, *PICTURE_MAGIC, b"\x89PNG\r\n\x1a\n", b"\x93NUMPY\x01\x00"]
    ),
    rest=st.binary(max_size=200),
)
def test_garbage_behind_a_magic_number_never_raises_anything_else(
    tmp_path: Path, magic: bytes, rest: bytes
) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(magic + rest)
    try:
        image = open_image(path)
        image.read((0, 0, 1, 1))
    except DinomaskError as error:
        assert error.remedy
