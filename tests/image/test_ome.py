from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import ome_zarr_models
import pytest
import zarr

from dinomask.errors import AxesError, InputError
from dinomask.image.source import open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


def whole(image: Any, level: int = 0) -> NDArray[Any]:
    height, width = image.level_shape_yx(level)
    return image.read((0, 0, height, width), level)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_multiscale_images(
    tmp_path: Path,
    pixels_cyx: NDArray[np.uint16],
    write_ome_zarr: Callable[..., None],
    version: str,
) -> None:
    path = tmp_path / "image.ome.zarr"
    write_ome_zarr(path, pixels_cyx, version)
    # the file is right by an independent reading of the specification
    assert ome_zarr_models.open_ome_zarr(zarr.open_group(str(path), mode="r")) is not None
    image = open_image(path)
    assert (image.axes, image.n_channels, image.shape_yx) == ("cyx", 3, (131, 97))
    assert image.pixel_size_um == pytest.approx((0.25, 0.5))
    assert image.scales_yx == ((1, 1), (0.5, 0.5), (0.25, 0.25))
    np.testing.assert_array_equal(image.read((17, 31, 100, 96)), pixels_cyx[:, 17:100, 31:96])
    for level in (1, 2):
        step = 2**level
        np.testing.assert_array_equal(whole(image, level), pixels_cyx[:, ::step, ::step])
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(whole(again, 2), whole(image, 2))


@pytest.mark.parametrize(("unit", "factor"), [("nanometer", 1e-3), ("millimeter", 1e3)])
def test_units_are_converted(
    tmp_path: Path,
    pixels_cyx: NDArray[np.uint16],
    write_ome_zarr: Callable[..., None],
    unit: str,
    factor: float,
) -> None:
    write_ome_zarr(tmp_path / "a.zarr", pixels_cyx, "0.5", unit=unit)
    size = open_image(tmp_path / "a.zarr").pixel_size_um
    assert size == pytest.approx((0.25 * factor, 0.5 * factor))


def test_a_scale_without_a_unit_is_no_size(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16], write_ome_zarr: Callable[..., None]
) -> None:
    write_ome_zarr(tmp_path / "a.zarr", pixels_cyx, "0.4", unit="arbitrary")
    assert open_image(tmp_path / "a.zarr").pixel_size_um is None


def test_three_eight_bit_channels_coloured_so_are_rgb(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16], write_ome_zarr: Callable[..., None]
) -> None:
    colours = {"channels": [{"color": c} for c in ("FF0000", "00ff00", "0000FF")]}
    write_ome_zarr(tmp_path / "a.zarr", pixels_cyx.astype("u1"), "0.4", omero=colours)
    assert open_image(tmp_path / "a.zarr").is_rgb
    assert not open_image(tmp_path / "a.zarr", channels=(0,)).is_rgb


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_arrays(tmp_path: Path, pixels_cyx: NDArray[np.uint16], zarr_format: Any) -> None:
    path = tmp_path / "plain.zarr"
    zarr.create_array(str(path), data=pixels_cyx, chunks=(1, 40, 40), zarr_format=zarr_format)
    with pytest.raises(AxesError, match="--axes cyx"):
        open_image(path)
    np.testing.assert_array_equal(whole(open_image(path, axes="cyx")), pixels_cyx)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_dimension_names_are_axes(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16], zarr_format: Any
) -> None:
    path = tmp_path / "named.zarr"
    names = ["channel", "y", "x"]
    if zarr_format == 3:
        zarr.create_array(str(path), data=pixels_cyx, dimension_names=names)
    else:
        array = zarr.create_array(str(path), data=pixels_cyx, zarr_format=2)
        array.attrs["_ARRAY_DIMENSIONS"] = names
    assert open_image(path).axes == "cyx"


def test_a_group_with_one_array_is_that_array(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_array("only", data=np.eye(7, dtype="f4"))
    np.testing.assert_array_equal(whole(open_image(tmp_path / "g.zarr"))[0], np.eye(7))


def test_metadata_files_lead_to_their_folder(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=np.eye(7))
    assert open_image(tmp_path / "a.zarr" / "zarr.json").name == "a.zarr"


def test_groups_without_one_image_list_what_they_hold(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    with pytest.raises(InputError, match="empty zarr group"):
        open_image(tmp_path / "g.zarr")
    group.create_group("inner")
    group.create_array("a", data=np.eye(3))
    group.create_array("b", data=np.eye(3))
    with pytest.raises(InputError, match=r"holds a, b, inner.*for example .*g\.zarr.a\."):
        open_image(tmp_path / "g.zarr")


def test_plates_and_collections_say_which_image_to_open(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16], write_ome_zarr: Callable[..., None]
) -> None:
    plate, wells = tmp_path / "plate.zarr", ["A/1", "B/2"]
    group = zarr.open_group(str(plate), mode="w", zarr_format=2)
    group.attrs["plate"] = {"wells": [{"path": well} for well in wells]}
    for well in wells:
        inner = group.create_group(well)
        inner.attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
        for field in "01":
            write_ome_zarr(plate / well / field, pixels_cyx, "0.4")
    with pytest.raises(InputError, match=r"holds A/1/0, A/1/1, B/2/0, B/2/1\b"):
        open_image(plate)
    with pytest.raises(InputError, match=r"holds 0, 1\b"):
        open_image(plate / "A" / "1")
    assert open_image(plate / "A" / "1" / "1").n_channels == 3


def test_collections_of_one_open_it(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16], write_ome_zarr: Callable[..., None]
) -> None:
    path = tmp_path / "raw.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    group.create_group("OME")
    write_ome_zarr(path / "0", pixels_cyx, "0.4")
    assert open_image(path).shape_yx == (131, 97)
    write_ome_zarr(path / "1", pixels_cyx, "0.4")
    with pytest.raises(InputError, match=r"holds 0, 1\b.*for example .*raw\.zarr.0"):
        open_image(path)


def test_damaged_metadata_are_refused(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16], write_ome_zarr: Callable[..., None]
) -> None:
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, pixels_cyx, "0.5")
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text[:40])
    with pytest.raises(InputError):
        open_image(path)
    found = json.loads(text)
    found["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = "gone"
    (path / "zarr.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="gone"):
        open_image(path)


def test_damaged_chunks_are_an_input_error_when_read(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16], write_ome_zarr: Callable[..., None]
) -> None:
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, pixels_cyx, "0.5")
    image = open_image(path)
    (path / "0" / "c" / "0" / "0" / "0").write_bytes(b"\x01\x02")
    assert image.read((64, 64, 90, 90)).shape == (3, 26, 26)
    with pytest.raises(InputError, match="undamaged"):
        image.read((0, 0, 9, 9))


def test_changed_pixels_change_the_identity(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16], write_ome_zarr: Callable[..., None]
) -> None:
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, pixels_cyx, "0.5")
    before = open_image(path).identity
    assert open_image(path).identity == before
    zarr.open_array(str(path / "0"), mode="r+")[0, 3, 3] += 1
    assert open_image(path).identity != before
