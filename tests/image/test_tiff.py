from __future__ import annotations

import gc
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from dinomask.errors import AxesError, InputError
from dinomask.image.source import open_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def whole(image: Any, level: int = 0) -> NDArray[Any]:
    height, width = image.level_shape_yx(level)
    return image.read((0, 0, height, width), level)


def write_pyramid(path: Path, image_cyx: NDArray[Any], **options: Any) -> None:
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 250.0, "PhysicalSizeYUnit": "nm"}
    tiles = {"tile": (32, 32), "compression": "zlib", **options}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(image_cyx, subifds=2, metadata={"axes": "CYX", **size}, **tiles)
        for step in (2, 4):
            writer.write(image_cyx[:, ::step, ::step], subfiletype=1, **tiles)


@pytest.mark.parametrize("compression", ["zlib", "lzw", None])
def test_pyramidal_ome_tiff(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16], compression: str | None
) -> None:
    path = tmp_path / "pyramid.ome.tif"
    write_pyramid(path, pixels_cyx, compression=compression)
    image = open_image(path)
    assert (image.axes, image.n_channels, image.is_rgb) == ("cyx", 3, False)
    assert image.pixel_size_um == pytest.approx((0.25, 0.5))
    assert image.scales_yx == ((1, 1), (0.5, 0.5), (0.25, 0.25))
    np.testing.assert_array_equal(image.read((30, 60, 99, 97)), pixels_cyx[:, 30:99, 60:97])
    for level in (1, 2):
        step = 2**level
        np.testing.assert_array_equal(whole(image, level), pixels_cyx[:, ::step, ::step])


def test_a_pyramid_decodes_only_the_tiles_it_needs(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16]
) -> None:
    path = tmp_path / "pyramid.ome.tif"
    write_pyramid(path, pixels_cyx)
    with tifffile.TiffFile(path) as tif:
        page = tif.series[0].pages[0]
        start, n_bytes = page.dataoffsets[-1], page.databytecounts[-1]
    data = bytearray(path.read_bytes())
    data[start : start + n_bytes] = bytes(n_bytes)
    path.write_bytes(data)
    image = open_image(path)
    np.testing.assert_array_equal(image.read((0, 0, 96, 96)), pixels_cyx[:, :96, :96])
    with pytest.raises(InputError, match="undamaged"):
        image.read((0, 0, 131, 97))


def test_files_are_closed_when_the_image_is_dropped(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16]
) -> None:
    path = tmp_path / "pyramid.ome.tif"
    write_pyramid(path, pixels_cyx)
    image = open_image(path)
    image.read((0, 0, 5, 5))
    del image
    # an open file would raise a ResourceWarning, which is an error here
    gc.collect()


def test_imagej_hyperstack_is_mapped_and_needs_planes(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    stack = np.random.default_rng(0).integers(0, 999, (2, 3, 4, 20, 30), dtype=np.uint16)
    tifffile.imwrite(
        path, stack, imagej=True, resolution=(4, 2), metadata={"axes": "TZCYX", "unit": "um"}
    )
    with pytest.raises(AxesError, match="--plane t=1"):
        open_image(path)
    image = open_image(path, plane={"t": 1, "z": 2}, channels=(3, 1))
    assert isinstance(image.levels[0], np.memmap)
    assert image.pixel_size_um == pytest.approx((0.5, 0.25))
    np.testing.assert_array_equal(whole(image), stack[1, 2, [3, 1]])


@pytest.mark.parametrize("unit", ["\\u00B5m", "micron", "um"])
def test_imagej_units(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "one.tif"
    tifffile.imwrite(
        path, np.zeros((9, 9), "u1"), imagej=True, resolution=(4, 4), metadata={"unit": unit}
    )
    assert open_image(path).pixel_size_um == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", "u4"])
def test_byte_orders_and_types(tmp_path: Path, byteorder: str, dtype: str) -> None:
    path = tmp_path / "plain.tif"
    array = np.arange(35 * 40).reshape(35, 40).astype(dtype)
    tifffile.imwrite(path, array, byteorder=byteorder)
    image = open_image(path)
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(whole(image)[0], array)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colour(
    tmp_path: Path, pixels_yxs: NDArray[np.uint8], planarconfig: str, compression: str | None
) -> None:
    path = tmp_path / "colour.tif"
    data = pixels_yxs if planarconfig == "contig" else pixels_yxs.transpose(2, 0, 1)
    tifffile.imwrite(
        path, data, photometric="rgb", planarconfig=planarconfig, compression=compression
    )
    image = open_image(path)
    assert (image.is_rgb, image.n_channels) == (True, 3)
    np.testing.assert_array_equal(whole(image), pixels_yxs.transpose(2, 0, 1))


def test_samples_that_are_no_colours_are_channels(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 99, (20, 30, 5), dtype=np.uint8)
    path = tmp_path / "bands.tif"
    tifffile.imwrite(path, bands, photometric="minisblack", planarconfig="contig")
    image = open_image(path)
    assert (image.axes, image.n_channels, image.is_rgb) == ("yxc", 5, False)
    np.testing.assert_array_equal(whole(image), bands.transpose(2, 0, 1))
    grey_alpha = tmp_path / "grey_alpha.tif"
    tifffile.imwrite(
        grey_alpha, bands[..., :2], photometric="minisblack", extrasamples=["unassalpha"]
    )
    assert open_image(grey_alpha).n_channels == 1


def test_colour_stacks_keep_colour_a_plane(tmp_path: Path) -> None:
    path = tmp_path / "stack.ome.tif"
    stack = np.random.default_rng(0).integers(0, 99, (4, 20, 30, 3), dtype=np.uint8)
    tifffile.imwrite(path, stack, photometric="rgb", metadata={"axes": "ZYXS"})
    image = open_image(path, plane={"z": 1})
    assert (image.is_rgb, image.axes) == (True, "zyxs")
    np.testing.assert_array_equal(whole(image), stack[1].transpose(2, 0, 1))


def test_pages_without_names_are_ambiguous_until_named(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    pages = np.random.default_rng(0).integers(0, 99, (5, 20, 30), dtype=np.uint8)
    tifffile.imwrite(path, pages, metadata=None)
    with pytest.raises(AxesError, match="--axes cyx"):
        open_image(path)
    np.testing.assert_array_equal(whole(open_image(path, axes="cyx")), pages)
    np.testing.assert_array_equal(whole(open_image(path, plane={"z": 4}))[0], pages[4])


@pytest.mark.parametrize(
    ("per_unit", "unit", "size_um"),
    [
        (40_000, "CENTIMETER", 0.25),
        (72, "INCH", None),
        (300, "INCH", None),
        (50_800, "INCH", 0.5),
        (4, "NONE", None),
    ],
)
def test_resolution_tags_count_when_they_mean_a_microscope(
    tmp_path: Path, per_unit: float, unit: str, size_um: float | None
) -> None:
    path = tmp_path / "tagged.tif"
    tifffile.imwrite(
        path, np.zeros((9, 9), "u1"), resolution=(per_unit, per_unit), resolutionunit=unit
    )
    found = open_image(path).pixel_size_um
    assert found == (None if size_um is None else pytest.approx((size_um, size_um)))


def test_the_first_of_several_images_is_used_and_said(tmp_path: Path) -> None:
    path = tmp_path / "several.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.full((9, 12), 3, "u1"))
        writer.write(np.full((5, 5), 4, "u2"))
    image = open_image(path)
    assert image.shape_yx == (9, 12)
    assert "2 images" in image.notes[0]


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_files_cut_short_are_refused(tmp_path: Path, compression: str | None, kept: float) -> None:
    path = tmp_path / "cut.tif"
    noise = np.random.default_rng(0).integers(0, 60_000, (300, 200), dtype=np.uint16)
    tifffile.imwrite(path, noise, compression=compression)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError) as caught:
        open_image(path)
    assert "again" in caught.value.remedy


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "header.tif"
    path.write_bytes(b"II*\0\x08\0\0\0")
    with pytest.raises(InputError):
        open_image(path)


def test_an_image_of_a_tiff_reopens_elsewhere(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16]
) -> None:
    path = tmp_path / "pyramid.ome.tif"
    write_pyramid(path, pixels_cyx)
    again = pickle.loads(pickle.dumps(open_image(path, channels=(2,))))
    np.testing.assert_array_equal(whole(again)[0], pixels_cyx[2])
