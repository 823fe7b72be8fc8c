"""Label images behind one face: whole objects are found without looking at all pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dinomask.adapt import corrections
from dinomask.adapt.corrections import Piece
from dinomask.adapt.label_store import ArrayStore, PyramidStore
from dinomask.adapt.overlay_store import OverlayStore
from dinomask.errors import CorrectionError
from dinomask.tiles.outputs import table_path
from tests.adapt.label_scenes import pyramid_of

SHAPE_YX = (900, 1100)


def _labels():
    """A long object, one of far pieces, and one of a single pixel."""
    labels = np.zeros(SHAPE_YX, np.uint16)
    labels[10:890, 500:504] = 1
    labels[30:40, 30:40] = labels[800:810, 1000:1010] = 2
    labels[701, 101] = 3
    return labels


@pytest.fixture
def labels():
    return _labels()


@pytest.fixture
def pyramid(tmp_path, labels):
    return pyramid_of(labels, tmp_path / "l.zarr", 256)


@pytest.mark.parametrize(
    "make", [lambda a, p: ArrayStore(a), lambda a, p: p, lambda a, p: OverlayStore(p)]
)
def test_an_object_is_found_whole_from_any_pixel_of_it(labels, pyramid, make):
    store = make(labels, pyramid)
    expected = Piece.cut(labels, 1)
    for near in ((300, 502, 301, 503), (0, 0, 900, 1100), None, (10, 500, 11, 501)):
        assert store.find(1, near) == expected
    # a speck that the coarser level doesn't show, and a window that shows none of it
    assert store.find(3).box_yxyx_px == (701, 101, 702, 102)
    assert store.find(3, (0, 0, 5, 5)).area_px == 1
    assert store.find(3, (-50, -50, -10, -10)).area_px == 1
    with pytest.raises(CorrectionError, match="object 9"):
        store.find(9)


def test_a_large_image_in_memory_is_not_looked_at_whole(labels, monkeypatch):
    monkeypatch.setattr("dinomask.adapt.label_store.SCANNED_PX", 1000)
    store = ArrayStore(labels)
    assert store.find(2, (30, 30, 31, 31)).area_px == 100
    assert store.find(2).area_px == 200
    corrections.apply(corrections.merge(store, [2, 3]), store)
    assert store.find(2, (30, 30, 31, 31)).area_px == 201
    with pytest.raises(CorrectionError, match="object 3"):
        store.find(3, (0, 0, 5, 5))


def test_only_as_much_is_read_as_is_needed(pyramid, monkeypatch):
    read_px = []
    read = type(pyramid.pyramid).read

    def noting(self, window, place=()):
        read_px.append((window[2] - window[0]) * (window[3] - window[1]))
        return read(self, window, place)

    monkeypatch.setattr(type(pyramid.pyramid), "read", noting)
    pyramid.find(3, (701, 101, 702, 102))
    assert sum(read_px) < 150**2
    read_px.clear()
    pyramid.find(1, (300, 502, 301, 503))
    assert len(read_px) < 8


def test_far_pieces_are_found_where_a_correction_made_them(pyramid):
    near = (30, 30, 31, 31)
    assert pyramid.find(2, near).area_px == 100
    merged = corrections.merge(pyramid, [2, 3], near=(700, 100, 702, 103))
    corrections.apply(merged, pyramid)
    assert pyramid.find(2, near).area_px == 101
    on_top = OverlayStore(pyramid)
    assert on_top.find(2, near).area_px == 101


def test_an_overlay_leaves_what_is_below_alone(labels):
    base = ArrayStore(labels.copy(), {1: 4})
    store = OverlayStore(base)
    corrections.apply(corrections.classify(store, 1, 2), store)
    corrections.apply(corrections.remove(store, 3), store)
    drawn = corrections.add(store, np.ones((300, 300), bool), (400, 400))
    corrections.apply(drawn, store)
    np.testing.assert_array_equal(base.labels, labels)
    assert (base.class_of(1), store.class_of(1)) == (4, 2)
    assert base.next_id() == 4
    assert store.next_id() == 5
    assert store.find(4).area_px == 300 * 300
    with pytest.raises(CorrectionError):
        store.find(3)
    windows = {window for _, window in store.changed()}
    assert (256, 256, 512, 512) in windows
    assert (0, 768, 256, 1024) not in windows


def test_ids_are_never_given_twice_though_objects_are_undone(labels, pyramid):
    for store in (ArrayStore(labels), pyramid):
        drawn = corrections.add(store, np.ones((2, 2), bool), (5, 5))
        corrections.apply(drawn, store)
        corrections.apply(drawn.inverse(), store)
        assert store.next_id() == 5


def test_classes_come_from_the_table_beside_the_labels(pyramid):
    table = pd.DataFrame({"id": [1, 2, 3], "class": [0, 7, 1]})
    table.to_parquet(table_path(pyramid.pyramid.path), index=False)
    store = PyramidStore(pyramid.pyramid)
    assert [store.class_of(label) for label in (1, 2, 3, 99)] == [0, 7, 1, 0]
    assert store.find(3).class_id == 1
