from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given
from hypothesis import strategies as st

from dinomask.errors import InputError
from dinomask.image.source import open_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ALL = np.random.default_rng(0).integers(0, 60_000, (2, 3, 4, 23, 31), dtype=np.uint16)


def whole(image: Any, level: int = 0) -> NDArray[Any]:
    height, width = image.level_shape_yx(level)
    return image.read((0, 0, height, width), level)


@given(data=st.data())
def test_a_window_is_the_same_part_of_the_whole(data: st.DataObject) -> None:
    axes = "".join(data.draw(st.permutations("tczyx")))
    array = ALL.transpose(["tczyx".index(a) for a in axes])
    plane = {"t": data.draw(st.integers(0, 1)), "z": data.draw(st.integers(0, 3))}
    channels = tuple(data.draw(st.lists(st.integers(0, 2), max_size=4)))
    y0, x0 = data.draw(st.integers(0, 22)), data.draw(st.integers(0, 30))
    y1, x1 = data.draw(st.integers(y0 + 1, 23)), data.draw(st.integers(x0 + 1, 31))
    image = open_image(array, axes=axes, channels=channels, plane=plane)
    expected = ALL[plane["t"], list(channels or (0, 1, 2)), plane["z"], y0:y1, x0:x1]
    np.testing.assert_array_equal(image.read((y0, x0, y1, x1)), expected)


@pytest.mark.parametrize("wrap", ["numpy", "dask", "zarr", "tensorstore"])
def test_arrays_of_every_library_are_read(wrap: str, pixels_cyx: NDArray[np.uint16]) -> None:
    made: dict[str, Any] = {
        "numpy": lambda: pixels_cyx,
        "dask": lambda: da.from_array(pixels_cyx, chunks=(1, 40, 40)),
        "zarr": lambda: zarr.create_array({}, data=pixels_cyx, chunks=(1, 40, 40)),
        "tensorstore": lambda: tensorstore.array(pixels_cyx),
    }
    image = open_image(made[wrap](), axes="cyx")
    assert (image.n_channels, image.shape_yx, image.dtype) == (3, (131, 97), np.uint16)
    np.testing.assert_array_equal(image.read((5, 40, 130, 97)), pixels_cyx[:, 5:130, 40:97])
    assert image.identity == open_image(pixels_cyx, axes="cyx").identity


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "<u2", ">u2", "i2", ">i4", "u4", "i8", "u8", "f2", ">f4", "f8"]
)
def test_every_real_type_is_read_in_native_byte_order(dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    image = open_image(array)
    pixels = whole(image)
    assert pixels.dtype == image.dtype == np.dtype(dtype).newbyteorder("=")
    assert pixels.dtype.isnative
    np.testing.assert_array_equal(pixels[0], array)


@pytest.mark.parametrize("dtype", ["c8", "O", "U3", "M8[s]", [("a", "u1")]])
def test_other_types_are_refused(dtype: Any) -> None:
    with pytest.raises(InputError, match="integer, float or boolean"):
        open_image(np.zeros((3, 4), dtype))


def test_reading_returns_a_copy() -> None:
    array = np.zeros((3, 4), np.float32)
    whole(open_image(array))[:] = 1
    assert not array.any()


def test_colour_loses_its_opacity(pixels_yxs: NDArray[np.uint8]) -> None:
    opaque = np.concatenate([pixels_yxs, np.full_like(pixels_yxs[..., :1], 9)], axis=-1)
    image = open_image(opaque)
    assert (image.n_channels, image.is_rgb, image.axes) == (3, True, "yxs")
    np.testing.assert_array_equal(whole(image), pixels_yxs.transpose(2, 0, 1))
    green = open_image(opaque, channels=(1,))
    assert (green.n_channels, green.is_rgb) == (1, False)
    np.testing.assert_array_equal(whole(green)[0], pixels_yxs[..., 1])


def test_channels_are_chosen_in_the_order_given(pixels_cyx: NDArray[np.uint16]) -> None:
    image = open_image(pixels_cyx, axes="cyx", channels=(2, 0))
    np.testing.assert_array_equal(whole(image), pixels_cyx[[2, 0]])


@pytest.mark.parametrize("channels", [(3,), (0, -1)])
def test_a_channel_that_does_not_exist_is_refused(
    channels: tuple[int, ...], pixels_cyx: NDArray[np.uint16]
) -> None:
    with pytest.raises(InputError, match="channels from 0 to 2"):
        open_image(pixels_cyx, axes="cyx", channels=channels)


@pytest.mark.parametrize(
    "window", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 132, 5), (0, 0, 5, 98), (5, 5, 4, 9)]
)
def test_windows_outside_are_refused(
    window: tuple[int, int, int, int], pixels_cyx: NDArray[np.uint16]
) -> None:
    with pytest.raises(InputError, match="inside 131 x 97"):
        open_image(pixels_cyx, axes="cyx").read(window)


def test_levels_that_do_not_exist_are_refused(pixels_cyx: NDArray[np.uint16]) -> None:
    with pytest.raises(InputError, match="level 1"):
        open_image(pixels_cyx, axes="cyx").read((0, 0, 5, 5), 1)


def test_a_pyramid_has_whole_factors_and_reads_each_level() -> None:
    levels = [ALL[0, 0, 0][::step, ::step] for step in (1, 2, 4)]
    image = open_image(levels)
    assert [image.level_scale_yx(i) for i in range(3)] == [(1, 1), (0.5, 0.5), (0.25, 0.25)]
    for i, level in enumerate(levels):
        np.testing.assert_array_equal(whole(image, i)[0], level)


@pytest.mark.parametrize(
    ("scale", "level"), [(3, 0), (1, 0), (0.51, 0), (0.5, 1), (0.4, 1), (0.25, 2), (0.01, 2)]
)
def test_the_coarsest_level_that_is_fine_enough_is_taken(scale: float, level: int) -> None:
    image = open_image([np.zeros((64 // s, 48 // s), "u1") for s in (1, 2, 4)])
    assert image.level_for(scale) == level


def test_coarser_levels_may_have_fewer_planes() -> None:
    stack = ALL[0, 0]
    image = open_image([stack, stack[::2, ::2, ::2]], axes="zyx", plane={"z": 3})
    np.testing.assert_array_equal(whole(image, 1)[0], stack[2, ::2, ::2])


@pytest.mark.parametrize("shapes", [[(4, 4), (8, 8)], [(2, 8, 8), (1, 4, 4)], [(8, 8), (2, 4, 4)]])
def test_levels_in_disorder_are_refused(shapes: list[tuple[int, ...]]) -> None:
    axes = "yx" if len(shapes[0]) == 2 else "cyx"
    with pytest.raises(InputError, match="full-resolution array first"):
        open_image([np.zeros(shape, "u1") for shape in shapes], axes=axes)


@pytest.mark.parametrize("source", [7, None, object(), [], [[1, 2], [3, 4]], {"a": 1}])
def test_what_is_no_image_is_refused(source: object) -> None:
    with pytest.raises(InputError) as caught:
        open_image(source)
    assert "numpy.asarray" in caught.value.remedy


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_images_without_pixels_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="at least one pixel"):
        open_image(np.zeros(shape, "u1"))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (1, 1, 9)])
def test_the_smallest_images_open(shape: tuple[int, ...]) -> None:
    assert whole(open_image(np.ones(shape, "u1"))).sum() == np.prod(shape)


def test_the_identity_follows_content_and_choice() -> None:
    array = ALL[0, :, 0]
    base = open_image(array, axes="cyx")
    assert open_image(array.copy(), axes="cyx").identity == base.identity
    changed = array.copy()
    changed[2, 22, 30] += 1
    others = [
        open_image(changed, axes="cyx"),
        open_image(array, axes="cyx", channels=(0,)),
        open_image(array, axes="zyx", plane={"z": 0}),
        open_image(array.astype("i4"), axes="cyx"),
    ]
    assert base.identity not in {image.identity for image in others}
    assert len({image.identity for image in others}) == len(others)


def test_large_arrays_are_hashed_in_samples() -> None:
    reads = []

    class Counting:
        shape, dtype, ndim = (60_000, 50_000), np.dtype("u2"), 2

        def __getitem__(self, index: tuple[slice, slice]) -> NDArray[np.uint16]:
            shape = tuple(part.stop - part.start for part in index)
            reads.append(np.prod(shape))
            return np.full(shape, index[0].start, np.uint16)

    first = open_image(Counting())
    assert 0 < sum(reads) < 100_000
    assert first.identity == open_image(Counting()).identity


def test_huge_chunks_are_decoded_once_on_opening() -> None:
    n_decoded = []

    def decode(block: NDArray[np.uint8]) -> NDArray[np.uint8]:
        n_decoded.append(1)
        return block

    lazy = da.zeros((12_000, 12_000), dtype="u1", chunks=(12_000, 6_000))
    open_image(lazy.map_blocks(decode, dtype="u1", meta=np.zeros((0, 0), "u1")))
    assert len(n_decoded) <= 2


def test_opening_and_reading_a_huge_zarr_is_cheap(tmp_path: Path) -> None:
    path = tmp_path / "huge.zarr"
    array = zarr.create_array(
        str(path), shape=(100_000, 100_000), chunks=(512, 512), dtype="u2", fill_value=7
    )
    array[50_000:50_010, 90_000:90_020] = 9
    image = open_image(path)
    pixels = image.read((49_999, 89_999, 50_011, 90_021))
    assert image.shape_yx == (100_000, 100_000)
    assert (pixels[0, 1:-1, 1:-1] == 9).all()
    assert (pixels[0, 0] == 7).all()


def test_npy_files_are_mapped(tmp_path: Path, pixels_cyx: NDArray[np.uint16]) -> None:
    path = tmp_path / "image.npy"
    np.save(path, np.asfortranarray(pixels_cyx.astype(">u2")))
    image = open_image(str(path), axes="cyx")
    assert isinstance(image.levels[0], np.memmap)
    assert (image.name, image.path) == ("image.npy", path)
    np.testing.assert_array_equal(image.read((3, 4, 50, 60)), pixels_cyx[:, 3:50, 4:60])


def test_an_image_of_a_file_reopens_elsewhere(
    tmp_path: Path, pixels_cyx: NDArray[np.uint16]
) -> None:
    path = tmp_path / "image.npy"
    np.save(path, pixels_cyx)
    image = open_image(path, axes="cyx", channels=(1,))
    sent = pickle.dumps(image)
    assert len(sent) < 2_000
    again = pickle.loads(sent)
    assert again.identity == image.identity
    np.testing.assert_array_equal(whole(again), pixels_cyx[1:2])
    np.save(path, pixels_cyx[:, :50])
    with pytest.raises(InputError, match="changed file"):
        pickle.loads(sent)


def test_an_image_of_an_array_takes_its_pixels_along(pixels_cyx: NDArray[np.uint16]) -> None:
    image = open_image(pixels_cyx, axes="cyx")
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(whole(again), pixels_cyx)


def test_an_open_image_is_returned_as_it_is() -> None:
    image = open_image(np.zeros((4, 4)))
    assert open_image(image) is image


def test_a_changed_file_has_another_identity(tmp_path: Path) -> None:
    path = tmp_path / "image.npy"
    np.save(path, np.zeros((4, 4)))
    before = open_image(path).identity
    assert open_image(path).identity == before
    os.utime(path, (1, 1))
    assert open_image(path).identity != before
