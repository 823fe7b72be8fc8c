"""Labels on disk that are edited: every level stays a sample of level 0."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dinomask.errors import InputError, OutputError
from dinomask.instances import Instances
from dinomask.tiles.edit import LabelPyramid, Region, put_window
from dinomask.tiles.outputs import table_path
from dinomask.tiles.stitch import Stitched
from dinomask.tiles.write import write_labels

SHAPE_YX = (1111, 1377)


def _require_sampled(levels) -> None:
    first = np.asarray(levels[0][...])
    for k, level in enumerate(levels):
        np.testing.assert_array_equal(level[...], first[:: 2**k, :: 2**k])


@pytest.fixture
def pyramid(tmp_path):
    """Two objects, ids 1 and 2."""
    boxes = np.array([[10, 10, 60, 90], [700, 900, 1000, 1300]], np.float32)
    found = Instances(
        boxes,
        np.array([0.9, 0.8], np.float32),
        np.zeros(2, np.int32),
        np.full((2, 28, 28), 255, np.uint8),
    )
    stitched = Stitched(found, np.zeros(2, np.int64), np.array([1, 2], np.uint32), 0)
    write_labels(stitched, SHAPE_YX, tmp_path / "l.zarr")
    return LabelPyramid.open(tmp_path / "l.zarr", writable=True)


@st.composite
def edits(draw, shape_yx):
    corner = [draw(st.integers(0, n - 1)) for n in shape_yx]
    size = [draw(st.integers(1, n - c)) for n, c in zip(shape_yx, corner, strict=True)]
    return tuple(corner), tuple(size), draw(st.integers(0, 9))


@given(done=st.lists(edits((37, 53)), max_size=8))
def test_after_any_edits_each_level_is_every_second_pixel_of_the_one_before(done):
    levels = [np.zeros((-(-37 // 2**k), -(-53 // 2**k)), np.uint16) for k in range(4)]
    expected = np.zeros((37, 53), np.uint16)
    for (y, x), (height, width), label in done:
        piece = np.full((height, width), label)
        piece[::3, ::2] += 10
        put_window(levels, (y, x), piece)
        expected[y : y + height, x : x + width] = piece
    np.testing.assert_array_equal(levels[0], expected)
    _require_sampled(levels)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(done=st.lists(edits(SHAPE_YX), min_size=1, max_size=3))
def test_edits_of_a_file_reach_every_level_and_nothing_else(pyramid, done):
    expected = np.asarray(pyramid.levels[0][...])
    for (y, x), (height, width), label in done:
        pyramid.write((y, x), np.full((height, width), label, np.uint16))
        expected[y : y + height, x : x + width] = label
    levels = LabelPyramid.open(pyramid.path).levels
    assert len(levels) > 2
    np.testing.assert_array_equal(levels[0][...], expected)
    _require_sampled(levels)


def test_a_region_writes_what_differs_and_only_that(pyramid):
    region = Region(pyramid, (600, 800, 1100, 1377))
    assert region.write() is None
    # someone else's edit outside of what is changed here
    pyramid.write((1050, 810), np.full((5, 5), 7, np.uint16))
    region.labels_yx[110:120, 120:150] = 3
    assert region.write() == (710, 920, 720, 950)
    assert region.write() is None
    level = LabelPyramid.open(pyramid.path).levels[0]
    assert (level[710:720, 920:950] == 3).all()
    assert (level[1050:1055, 810:815] == 7).all()
    _require_sampled(pyramid.levels)


def test_an_edit_taken_back_is_taken_back_on_disk(pyramid):
    before = [np.asarray(level[...]) for level in pyramid.levels]
    region = Region(pyramid, (0, 0, 500, 500))
    kept = region.labels_yx.copy()
    region.labels_yx[20:50, 20:50] = 0
    region.write()
    assert not pyramid.read((20, 20, 50, 50)).any()
    region.labels_yx[...] = kept
    region.write()
    for level, old in zip(pyramid.levels, before, strict=True):
        np.testing.assert_array_equal(level[...], old)


@pytest.mark.parametrize("has_table", [True, False])
def test_a_new_id_is_one_that_no_object_has(pyramid, has_table):
    if not has_table:
        table_path(pyramid.path).unlink()
    assert pyramid.next_id() == 3
    pyramid.write((5, 5), np.full((2, 2), 40, np.uint16))
    assert LabelPyramid.open(pyramid.path).next_id() == 41
    # what other programs look for is still there
    metadata = json.loads((pyramid.path / "zarr.json").read_text())
    assert "image-label" in metadata["attributes"]["ome"]


def test_ids_that_ran_out_are_an_error_with_a_remedy(pyramid):
    pyramid.next_id()
    pyramid.write((5, 5), np.full((2, 2), 65535, np.uint16))
    with pytest.raises(OutputError, match="deleted"):
        pyramid.next_id()


def test_a_stack_is_edited_in_one_plane(tmp_path):
    group = zarr.create_group(tmp_path / "s.zarr", zarr_format=3)
    levels = [
        group.create_array(
            str(k), shape=(3, 600 // 2**k, 700 // 2**k), chunks=(1, 256, 256), dtype=np.uint16
        )
        for k in range(2)
    ]
    datasets = [{"path": "0"}, {"path": "1"}]
    group.attrs["ome"] = {"multiscales": [{"datasets": datasets}]}
    pyramid = LabelPyramid.open(tmp_path / "s.zarr", writable=True)
    Region(pyramid, (0, 0, 9, 9), place=(2,)).labels_yx[...] = 5
    pyramid.write((100, 100), np.full((50, 50), 5, np.uint16), place=(1,))
    assert [int((levels[0][i] == 5).sum()) for i in range(3)] == [0, 2500, 0]
    assert [int((levels[1][i] == 5).sum()) for i in range(3)] == [0, 625, 0]


def test_what_is_no_label_image_is_refused(tmp_path):
    with pytest.raises(InputError, match="OME-Zarr"):
        LabelPyramid.open(tmp_path / "missing.zarr")
    zarr.create_group(tmp_path / "empty.zarr", zarr_format=3)
    with pytest.raises(InputError, match="OME-Zarr"):
        LabelPyramid.open(tmp_path / "empty.zarr")
    group = zarr.create_group(tmp_path / "thirds.zarr", zarr_format=3)
    for k, n in enumerate((90, 30)):
        group.create_array(str(k), shape=(n, n), chunks=(n, n), dtype=np.uint16)
    datasets = [{"path": "0"}, {"path": "1"}]
    group.attrs["ome"] = {"multiscales": [{"datasets": datasets}]}
    with pytest.raises(InputError, match="levels of shapes"):
        LabelPyramid.open(tmp_path / "thirds.zarr")
