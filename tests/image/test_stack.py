from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from dinomask.errors import AxesError, ChunkError, InputError, SourceChangedError
from dinomask.image import fit_stack_normaliser, open_image, open_stack
from dinomask.image.axes import parse_planes
from dinomask.image.identity import require_same
from dinomask.image.stack import examine_stack
from dinomask.image.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ALL = np.random.default_rng(0).integers(0, 60_000, (3, 2, 4, 23, 31), dtype=np.uint16)
"""Axes t, c, z, y, x."""


@given(data=st.data())
def test_every_plane_is_read_once_whatever_the_order_of_axes(data: st.DataObject) -> None:
    axes = "".join(data.draw(st.permutations("tczyx")))
    array = ALL.transpose(["tczyx".index(a) for a in axes])
    planes: dict[str, int | range] = {}
    expected = ALL[:, 1]
    for axis, size in (("t", 3), ("z", 4)):
        start = data.draw(st.integers(0, size - 1))
        stop = data.draw(st.integers(start + 1, size))
        taken = slice(start, stop)
        kind = data.draw(st.sampled_from(["all", "range", "one"]))
        if kind == "range":
            planes[axis] = range(start, stop)
        elif kind == "one":
            planes[axis], taken = start, slice(start, start + 1)
        else:
            taken = slice(0, size)
        expected = expected[taken] if axis == "t" else expected[:, taken]
    stack = open_stack(array, axes=axes, channels=(1,), planes=planes)
    assert stack.axes == "".join(a for a, n in zip("tz", expected.shape, strict=False) if n > 1)
    pixels = [stack.image(i).read((2, 3, 20, 30))[0] for i in range(len(stack))]
    np.testing.assert_array_equal(np.array(pixels), expected.reshape(-1, 23, 31)[:, 2:20, 3:30])
    assert stack.shape == tuple(n for n in expected.shape[:2] if n > 1)


def test_a_plane_knows_where_it_lies() -> None:
    stack = open_stack(ALL, axes="tczyx", planes={"z": range(1, 3)})
    assert (stack.axes, stack.shape, len(stack)) == ("tz", (3, 2), 6)
    assert [stack.plane(i) for i in (0, 1, 5)] == [
        {"t": 0, "z": 1},
        {"t": 0, "z": 2},
        {"t": 2, "z": 2},
    ]
    with pytest.raises(IndexError):
        stack.plane(6)
    assert stack.spread(3) == [1, 3, 5]
    assert stack.spread(99) == list(range(6))


def test_a_flat_image_is_a_stack_of_one() -> None:
    stack = open_stack(ALL[0, 0, 0])
    assert (len(stack), stack.axes, stack.plane(0)) == (1, "", {})
    image = stack.image(0)
    assert image.read((0, 0, 1, 1)).shape == (1, 1, 1)
    # it is the image that `open_image` opens, and can be told from a changed one
    assert image.identity == open_image(ALL[0, 0, 0]).identity
    require_same(image)


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ({"z": 4}, "z from 0 to 3"),
        ({"z": -1}, "z from 0 to 3"),
        ({"z": range(2, 5)}, "z=2:5"),
        ({"z": range(2, 2)}, "half-open"),
        ({"t": 1}, "one of the image's axes"),
        ({"t": range(3)}, "one of the image's axes"),
        ({"c": 0}, "axis z or t"),
    ],
)
def test_planes_outside_are_refused(planes: dict[str, Any], message: str) -> None:
    with pytest.raises(AxesError, match=message):
        open_stack(ALL[0, 0], axes="zyx", planes=planes)


def test_axes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(AxesError, match="one letter for each"):
        open_stack(ALL[0, 0], axes="tzyx")
    with pytest.raises(AxesError, match="can be told apart"):
        open_stack(ALL[0, 0].astype("f4"))
    # a plane says which axis is meant
    assert open_stack(ALL[0, 0], planes={"z": range(1, 4)}).axes == "z"


@pytest.mark.parametrize("shape", [(0, 5, 6), (3, 0, 6), (3, 5, 0)])
def test_stacks_without_pixels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="at least one pixel"):
        open_stack(np.zeros(shape, "u1"), axes="zyx")


@pytest.mark.parametrize(
    ("items", "planes"),
    [
        ([], {}),
        (["z=5"], {"z": 5}),
        (["t=0", "z=3:9"], {"t": 0, "z": range(3, 9)}),
    ],
)
def test_planes_are_written_as_an_index_or_a_range(
    items: list[str], planes: dict[str, Any]
) -> None:
    assert parse_planes(items) == planes


def test_open_ranges_go_on_to_the_end() -> None:
    stack = open_stack(ALL[0, 0], axes="zyx", planes=parse_planes(["z=2:"]))
    assert stack.indices == {"z": range(2, 4)}
    stack = open_stack(ALL[0, 0], axes="zyx", planes=parse_planes(["z=:3"]))
    assert stack.indices == {"z": range(3)}


@pytest.mark.parametrize("item", ["z", "z=", "5", "c=1", "z=-1", "z=1:2:3", "z=a", "zt=1"])
def test_other_planes_are_refused(item: str) -> None:
    with pytest.raises(AxesError, match="--plane z=5"):
        parse_planes([item])
    with pytest.raises(AxesError):
        parse_planes(["z=1", "z=2"])


def test_opening_and_fitting_read_few_planes_of_many() -> None:
    seen = []

    def load(block_info: Any = None) -> NDArray[np.uint16]:
        t = block_info[None]["chunk-location"][0]
        seen.append(t)
        return np.full((1, 600, 600), t, np.uint16)

    lazy = da.map_blocks(load, chunks=((1,) * 5000, (600,), (600,)), dtype=np.uint16)
    stack = open_stack(lazy, axes="tyx")
    normaliser = fit_stack_normaliser(stack)
    assert len(set(seen)) < 40
    # planes from all over the movie
    assert normaliser.low[0] < 500
    assert normaliser.high[0] > 4500


def test_one_normaliser_serves_all_planes() -> None:
    stack = np.zeros((10, 40, 50), np.uint16)
    stack[3:] = np.random.default_rng(0).integers(100, 200, (7, 40, 50))
    found = fit_stack_normaliser(open_stack(stack, axes="zyx"))
    assert found.low == (0.0,)
    assert 190 < found.high[0] < 200


def test_the_doctor_looks_at_several_planes() -> None:
    stack = np.random.default_rng(0).normal(100, 20, (9, 40, 50)).astype(np.float32)
    stack[0] = 7
    assert not any(f.severity != "info" for f in examine_stack(open_stack(stack, axes="zyx")))
    stack[4, 3, 3] = np.nan
    findings = examine_stack(open_stack(stack, axes="zyx"))
    assert next(f.severity for f in findings) == "error"


def test_planes_that_cannot_be_read_are_passed_over_when_fitting() -> None:
    def load(block_info: Any = None) -> NDArray[np.uint8]:
        z = block_info[None]["chunk-location"][0]
        if z in bad:
            msg = "gone"
            raise OSError(msg)
        return np.full((1, 40, 40), z, np.uint8)

    bad = {2}
    lazy = da.map_blocks(load, chunks=((1,) * 4, (40,), (40,)), dtype=np.uint8)
    stack = open_stack(lazy, axes="zyx")
    assert fit_stack_normaliser(stack).high[0] == pytest.approx(3, abs=0.1)
    with pytest.raises(ChunkError, match=r"chunk \(2, 0, 0\)"):
        stack.image(2).read((0, 0, 9, 9))
    bad = {0, 1, 2, 3}
    with pytest.raises(ChunkError):
        fit_stack_normaliser(stack)


def test_the_identity_follows_content_and_choice() -> None:
    base = open_stack(ALL, axes="tczyx")
    assert open_stack(ALL.copy(), axes="tczyx").identity == base.identity
    changed = ALL.copy()
    changed[1, 0, 2, 11, 13] += 1
    others = [
        open_stack(changed, axes="tczyx"),
        open_stack(ALL, axes="tczyx", channels=(0,)),
        open_stack(ALL, axes="tczyx", planes={"t": 1}),
        open_stack(ALL, axes="tczyx", planes={"t": 2}),
        open_stack(ALL, axes="tczyx", planes={"z": range(3)}),
    ]
    assert len({base.identity, *(stack.identity for stack in others)}) == 6
    planes = {base.image(i).identity for i in range(len(base))}
    assert len(planes) == len(base)


def test_a_stack_reopens_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(
        path,
        ALL,
        metadata={
            "axes": "TCZYX",
            "PhysicalSizeZ": 1.5,
            "PhysicalSizeX": 0.5,
            "PhysicalSizeY": 0.5,
        },
        compression="zlib",
    )
    stack = open_stack(path, channels=(1,))
    assert stack.base.depth_um == 1.5
    again = pickle.loads(pickle.dumps(stack))
    assert again.identity == stack.identity
    np.testing.assert_array_equal(again.image(7).read((0, 0, 23, 31))[0], ALL[1, 1, 3])
    plane = pickle.loads(pickle.dumps(stack.image(7)))
    assert plane.identity == stack.image(7).identity
    np.testing.assert_array_equal(plane.read((0, 0, 23, 31))[0], ALL[1, 1, 3])


def test_changes_under_way_are_noticed(tmp_path: Path) -> None:
    array = ALL[0, 0].copy()
    stack = open_stack(array, axes="zyx")
    stack.require_same()
    array[2, 5, 5] += 1
    with pytest.raises(SourceChangedError, match="other pixels"):
        stack.require_same()
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, ALL[0, 0], photometric="minisblack", metadata={"axes": "ZYX"})
    stack = open_stack(path)
    now_and_then, always = Watch(stack.base, 1000), Watch(stack.base, 0)
    always()
    path.unlink()
    now_and_then()
    with pytest.raises(SourceChangedError, match="gone"):
        always()


def test_another_plane_of_an_image_needs_no_opening() -> None:
    image = open_image(ALL[0, 0], axes="zyx", plane={"z": 1})
    other = image.at_plane({"z": 3})
    np.testing.assert_array_equal(other.read((0, 0, 23, 31))[0], ALL[0, 0, 3])
    assert other.identity != image.identity
    with pytest.raises(AxesError, match="z from 0 to 3"):
        image.at_plane({"z": 4})
