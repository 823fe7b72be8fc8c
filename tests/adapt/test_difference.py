"""Labels edited elsewhere, told as corrections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.adapt import corrections
from dinomask.adapt.difference import difference, difference_at
from dinomask.adapt.label_store import ArrayStore
from dinomask.errors import CorrectionError
from tests.adapt.label_scenes import SHAPE_YX, pixels, plan, pyramid_of, scene, wishes


def _applied(before, found):
    store = ArrayStore(before.copy())
    for correction in found:
        corrections.apply(correction, store)
    return store.labels


def _require_same_objects(a, b):
    """Both have the same objects, whatever their ids."""
    np.testing.assert_array_equal(a == 0, b == 0)
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    assert len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1]


@given(a=st.integers(0, 999), b=st.integers(0, 999))
def test_any_labels_are_reached_from_any_others(a, b):
    before, after = scene(a, dtype=np.int32), scene(b, dtype=np.int32)
    exact = _applied(before, difference(before, after, exact_ids=True))
    np.testing.assert_array_equal(exact, after)
    _require_same_objects(_applied(before, difference(before, after)), after)


@given(seed=st.integers(0, 999), wished=st.lists(wishes, max_size=5))
def test_what_a_user_did_is_reached_with_the_same_ids(seed, wished):
    before = scene(seed)
    store = ArrayStore(before.copy())
    for wish in wished:
        correction = plan(store, wish)
        if correction is not None:
            corrections.apply(correction, store)
    found = difference(before, store.labels, exact_ids=True)
    np.testing.assert_array_equal(_applied(before, found), store.labels)
    # and back again, one by one
    for correction in reversed(found):
        corrections.apply(correction.inverse(), store)
    np.testing.assert_array_equal(store.labels, before)


@given(seed=st.integers(0, 999), shuffle=st.integers(0, 999))
def test_new_numbers_for_the_same_objects_are_no_correction(seed, shuffle):
    before = scene(seed)
    numbers = np.random.default_rng(shuffle).permutation(np.arange(1, 60))
    after = np.concatenate([[0], numbers])[before]
    assert difference(before, after) == []


def _two():
    labels = np.zeros((30, 40), np.int32)
    labels[5:15, 5:15], labels[5:15, 20:30] = 1, 2
    return labels


@pytest.mark.parametrize("exact_ids", [False, True])
@pytest.mark.parametrize("kind", ["add", "remove", "redraw", "merge", "split"])
def test_each_kind_is_recognised(kind, exact_ids):
    before, after = _two(), _two()
    if kind == "add":
        after[20:25, 3:9] = 7
    elif kind == "remove":
        after[after == 2] = 0
    elif kind == "redraw":
        after[5:18, 5:12] = 1
    elif kind == "merge":
        after[after == 2] = 1
        after[8:12, 15:20] = 1
    else:
        after[5:15, 11:15] = 7
    (found,) = difference(before, after, exact_ids=exact_ids, plane=(3,), classes={1: 4, 2: 4})
    assert found.kind == kind
    assert found.plane == (3,)
    assert all(p.class_id == (0 if p.label == 7 and kind == "add" else 4) for p in found.after)
    flat = difference(before, after, exact_ids=exact_ids)
    np.testing.assert_array_equal(_applied(before, flat), after)


def test_an_object_moved_far_is_another_one_unless_ids_are_to_be_exact():
    before, after = _two(), _two()
    after[after == 2] = 0
    after[20:26, 30:36] = 2
    assert [c.kind for c in difference(before, after)] == ["remove", "add"]
    assert [c.kind for c in difference(before, after, exact_ids=True)] == ["redraw"]


def test_a_brush_stroke_over_a_neighbour_names_both():
    before, after = _two(), _two()
    after[8:12, 12:23] = 1
    (found,) = difference(before, after)
    assert (found.kind, found.labels) == ("redraw", (1, 2))


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("painted", [False, True])
def test_a_painted_window_is_completed_from_the_labels_around_it(tmp_path, on_disk, painted):
    labels = np.zeros((60, 60), np.uint16)
    labels[5:40, 10:20], labels[5:40, 20:30], labels[50, 50] = 1, 2, 3
    window = (10, 12, 25, 28)
    after = labels.copy()
    here = np.s_[window[0] : window[2], window[1] : window[3]]
    after[here][2:9, :12] = 1
    after[here][12:, 14:] = 9
    shown = (after if painted else labels).copy()
    store = pyramid_of(shown, tmp_path / "l.zarr") if on_disk else ArrayStore(shown)
    found = difference_at(store, labels[here], after[here], window[:2])
    assert {label for c in found for label in c.labels} == {1, 2, 9}
    # whole objects, not what the window shows of them
    assert {p.label: p.area_px for p in found[0].before} == {1: 350, 2: 350}
    np.testing.assert_array_equal(_applied(labels, found), after)
    np.testing.assert_array_equal(pixels(store), shown)


@given(
    seed=st.integers(0, 999),
    other=st.integers(0, 999),
    corner=st.tuples(st.integers(0, 20), st.integers(0, 27)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_any_change_of_any_window_is_reached(seed, other, corner, size):
    before, after = scene(seed), scene(seed)
    here = np.s_[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
    after[here] = scene(other)[here]
    for shown in (before, after):
        found = difference_at(ArrayStore(shown.copy()), before[here], after[here], corner)
        np.testing.assert_array_equal(_applied(before, found), after)


def test_only_label_images_of_one_shape_are_compared():
    labels = np.zeros(SHAPE_YX, np.uint8)
    for other in (np.zeros((3, 3), np.uint8), np.zeros(SHAPE_YX), np.zeros((1, *SHAPE_YX), int)):
        with pytest.raises(CorrectionError, match="one shape"):
            difference(labels, other)
    assert difference(labels, labels) == []
