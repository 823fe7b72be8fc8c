"""The table beside labels that were edited says what the labels show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import regionprops

from dinomask.errors import OutputError
from dinomask.instances import Instances
from dinomask.tiles import remeasure as module
from dinomask.tiles.edit import LabelPyramid, Region
from dinomask.tiles.outputs import table_path
from dinomask.tiles.stitch import Stitched
from dinomask.tiles.write import write_labels

SHAPE_YX = (70, 90)
MEASURED = ["y0", "x0", "y1", "x1", "area_px", "centroid_y", "centroid_x"]


def write_three(folder, **notes):
    """Three objects, ids 1, 2 and 3."""
    boxes = np.array([[5, 5, 25, 30], [30, 40, 60, 85], [50, 2, 66, 20]], np.float32)
    found = Instances(
        boxes,
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([0, 1, 0], np.int32),
        np.full((3, 28, 28), 255, np.uint8),
    )
    stitched = Stitched(found, np.zeros(3, np.int64), np.array([1, 2, 3], np.uint32), 0)
    write_labels(stitched, SHAPE_YX, folder / "l.zarr", **notes)
    return LabelPyramid.open(folder / "l.zarr", writable=True)


def read_table(pyramid):
    return pd.read_parquet(table_path(pyramid.path))


def require_true(pyramid, table):
    labels_yx = np.asarray(pyramid.levels[0][...])
    rows = [
        (*p.bbox, p.num_pixels, *p.centroid)
        for p in sorted(regionprops(labels_yx), key=lambda p: p.label)
    ]
    assert table["id"].tolist() == sorted(set(np.unique(labels_yx).tolist()) - {0})
    np.testing.assert_allclose(table[MEASURED].to_numpy(float), np.reshape(rows, (-1, 7)))


windows = st.tuples(
    st.integers(0, 40), st.integers(0, 60), st.integers(2, 30), st.integers(2, 30)
).map(lambda w: (w[0], w[1], w[0] + w[2], w[1] + w[3]))


@given(edits=st.lists(st.tuples(windows, st.integers(0, 5)), min_size=1, max_size=4))
def test_after_any_edits_each_row_is_what_the_labels_show(edits, tmp_path_factory):
    pyramid = write_three(tmp_path_factory.mktemp("edited"))
    for window, label in edits:
        region = Region(pyramid, window)
        region.labels_yx[1:-1, 1:] = label
        region.write()
        region.remeasure()
    require_true(pyramid, read_table(pyramid))


def test_rows_keep_what_was_found_and_new_ones_have_no_score(tmp_path):
    pyramid = write_three(tmp_path, notes={"failed_tiles": [{"index": 4}]})
    before = read_table(pyramid)
    region = Region(pyramid, (0, 0, 70, 90))
    region.labels_yx[region.labels_yx == 1] = 0
    region.labels_yx[30:40] *= region.labels_yx[30:40] != 2
    region.labels_yx[2:6, 80:84] = 9
    assert region.remeasure() is None, "nothing is written yet"
    region.write()
    table = region.remeasure()
    assert region.remeasure() is None, "nothing was written since"
    pd.testing.assert_frame_equal(table, read_table(pyramid))
    assert table.dtypes.equals(before.dtypes)
    assert table.attrs == {"failed_tiles": [{"index": 4}]}
    require_true(pyramid, table)
    cut, whole, new = (row for _, row in table.iterrows())
    assert (cut["id"], cut["class"], cut["tile"]) == (2, 1, 0)
    assert cut["score"] == pytest.approx(0.8)
    assert whole["id"] == 3
    assert (new["id"], new["class"], new["tile"]) == (9, 0, -1)
    assert np.isnan(new["score"])


def test_labels_without_a_table_get_none(tmp_path):
    pyramid = write_three(tmp_path)
    table_path(pyramid.path).unlink()
    region = Region(pyramid, (0, 0, 20, 20))
    region.labels_yx[:] = 7
    region.write()
    assert region.remeasure() is None
    assert not table_path(pyramid.path).exists()


def test_a_table_that_cannot_be_written_stays_and_is_tried_again(tmp_path, monkeypatch):
    pyramid = write_three(tmp_path)
    before = table_path(pyramid.path).read_bytes()
    region = Region(pyramid, (0, 0, 40, 40))
    region.labels_yx[:] = 0
    region.write()

    def full(path):
        raise OutputError(expected="space", got="a full disk", remedy="Make room.")

    with monkeypatch.context() as broken, pytest.raises(OutputError):
        broken.setattr(module, "replacing", full)
        region.remeasure()
    assert table_path(pyramid.path).read_bytes() == before
    require_true(pyramid, region.remeasure())


def test_only_the_plane_that_was_edited_is_measured_anew(tmp_path):
    pyramid = write_three(tmp_path)
    both = np.stack([np.asarray(pyramid.levels[0][...])] * 2)

    class Stack:
        """Two equal planes of the same objects."""

        path = pyramid.path

        @staticmethod
        def read(window, place):
            y0, x0, y1, x1 = window
            return both[(*place, slice(y0, y1), slice(x0, x1))]

    table = read_table(pyramid)
    planes = pd.concat([table.assign(z=z, object_id=table["id"]) for z in (0, 1)])
    planes.to_parquet(table_path(pyramid.path), index=False)
    both[1][both[1] == 1] = 0
    both[1, 0, 0] = 8
    edited = module.remeasure(Stack, {0, 1, 8}, (0, 0, 30, 30), (1,))
    rows = list(zip(edited["z"], edited["id"], edited["object_id"], strict=True))
    assert rows == [(0, 1, 1), (0, 2, 2), (0, 3, 3), (1, 2, 2), (1, 3, 3), (1, 8, 8)]
    kept = edited[edited["z"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept[table.columns], table)
