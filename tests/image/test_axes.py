from __future__ import annotations

import numpy as np
import pytest

from dinomask.errors import AxesError
from dinomask.image.axes import choose_plane, guess_axes, letters, parse_axes, settle_axes


@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((5, 6), "uint8", "yx"),
        ((1, 6), "uint8", "yx"),
        ((5, 6, 3), "uint8", "yxs"),
        ((5, 6, 4), "uint16", "yxs"),
        ((1, 5, 6), "uint8", "cyx"),
        ((5, 6, 1), "float32", "yxc"),
        ((1, 5, 6, 3), "uint8", "cyxs"),
        ((1, 1, 5, 6), "int32", "czyx"),
        ((1, 1, 1, 5, 6), "int32", "cztyx"),
    ],
)
def test_axes_that_can_be_told_are_guessed(shape: tuple[int, ...], dtype: str, axes: str) -> None:
    assert settle_axes(guess_axes(shape, np.dtype(dtype)), shape, {}) == axes


@pytest.mark.parametrize(
    ("shape", "dtype", "stack", "channels"),
    [
        ((7, 5, 6), "uint8", "zyx --plane z=3", "cyx"),
        ((5, 6, 3), "float32", "zyx --plane z=2", "cyx"),
        ((2, 7, 5, 6), "uint8", "czyx --plane z=3", "zcyx --plane z=1"),
        ((2, 7, 4, 5, 6), "uint8", "tczyx --plane t=1 --plane z=2", "tzcyx"),
        ((7, 5, 6, 3), "uint8", "zyxs --plane z=3", "cyxs"),
    ],
)
def test_ambiguous_axes_are_refused_with_both_ways_out(
    shape: tuple[int, ...], dtype: str, stack: str, channels: str
) -> None:
    with pytest.raises(AxesError) as caught:
        settle_axes(guess_axes(shape, np.dtype(dtype)), shape, {})
    assert f"--axes {stack}" in caught.value.remedy
    assert f"--axes {channels}" in caught.value.remedy
    assert 'axes="' in caught.value.remedy


def test_a_plane_names_the_axis_it_is_taken_from() -> None:
    assert settle_axes("?yx", (7, 5, 6), {"z": 3}) == "zyx"
    assert settle_axes("??yx", (2, 7, 5, 6), {"z": 3, "t": 0}) == "tzyx"
    with pytest.raises(AxesError):
        settle_axes("??yx", (2, 7, 5, 6), {"z": 3})


@pytest.mark.parametrize("shape", [(), (5,)])
def test_less_than_two_axes_are_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(AxesError, match="2-D image"):
        settle_axes(guess_axes(shape, np.dtype("u1")), shape, {})


@pytest.mark.parametrize("axes", ["zy", "yyx", "qyx", "", "y x"])
def test_named_axes_need_y_and_x_once_and_known_letters(axes: str) -> None:
    with pytest.raises(AxesError, match="--axes czyx"):
        parse_axes(axes, (2, 3, 4))


def test_named_axes_fit_the_shape() -> None:
    assert parse_axes(" CYX ", (2, 3, 4)) == "cyx"
    with pytest.raises(AxesError, match="one letter for each"):
        parse_axes("tczyx", (2, 3, 4))


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        ("TCZYX", "tczyx"),
        ("QYXS", "?yxs"),
        (["time", "channel", "y", "x"], "tcyx"),
        (["-3", "-2", "-1"], "?yx"),
        (["dim", "dim", "rgb"], "yxs"),
        (["z", "z", "y", "x"], "??yx"),
    ],
)
def test_names_from_metadata_become_letters(names: list[str], axes: str) -> None:
    assert letters(names) == axes


def test_a_long_axis_needs_a_plane_and_a_short_one_does_not() -> None:
    assert choose_plane("tzyx", (1, 9, 5, 6), {"z": 8}) == {"t": 0, "z": 8}
    with pytest.raises(AxesError, match="--plane z=4"):
        choose_plane("tzyx", (1, 9, 5, 6), {})


@pytest.mark.parametrize("plane", [{"z": 9}, {"z": -1}, {"t": 1}, {"c": 0}])
def test_a_plane_that_does_not_exist_is_refused(plane: dict[str, int]) -> None:
    with pytest.raises(AxesError):
        choose_plane("zyx", (9, 5, 6), plane)


def test_a_plane_zero_of_a_missing_axis_does_no_harm() -> None:
    assert choose_plane("yx", (5, 6), {"t": 0}) == {}
