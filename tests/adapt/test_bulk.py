"""One correction of many objects: the same as many corrections, and taken back in one step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.adapt import applying, bulk, corrections
from dinomask.adapt.events import Correction
from dinomask.adapt.journal import Journal
from dinomask.adapt.label_store import ArrayStore
from dinomask.errors import ConflictError, CorrectionError
from tests.adapt.label_scenes import SHAPE_YX, pyramid_of, scene

some_labels = st.lists(st.integers(1, 12), min_size=1, max_size=9, unique=True)


def _there(store: ArrayStore, labels: list[int], plane: tuple[int, ...] = ()) -> list[int]:
    return sorted(set(labels) & set(np.unique(store.labels[plane]).tolist()))


@given(seed=st.integers(0, 999), labels=some_labels)
def test_objects_are_found_as_one_by_one(seed, labels):
    store = ArrayStore(scene(seed), {3: 1})
    there = _there(store, labels)
    if not there:
        return
    found = bulk.find_all(store, labels)
    assert found == tuple(store.find(label) for label in there)


@given(seed=st.integers(0, 999), labels=some_labels)
def test_removing_many_leaves_what_removing_each_leaves(seed, labels):
    store, other = ArrayStore(scene(seed)), ArrayStore(scene(seed))
    there = _there(store, labels)
    if not there:
        return
    before = store.labels.copy()
    correction = bulk.remove_all(store, labels)
    applying.apply(correction, store)
    for label in there:
        applying.apply(corrections.remove(other, label), other)
    assert np.array_equal(store.labels, other.labels)
    applying.apply(correction.inverse(), store)
    assert np.array_equal(store.labels, before)
    assert Correction.from_json(correction.as_json()).before == correction.before


@given(seed=st.integers(0, 999), labels=some_labels, square=st.integers(1, 9))
def test_square_by_square_is_the_same_as_at_once(seed, labels, square):
    store, other = ArrayStore(scene(seed)), ArrayStore(scene(seed))
    if not _there(store, labels):
        return
    correction = bulk.remove_all(store, labels)
    window = applying.apply(correction, store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(applying, "WHOLE_PX", 0)
        patch.setattr(applying, "_SQUARE_PX", square)
        assert applying.apply(correction, other) == window
        assert np.array_equal(store.labels, other.labels)
        applying.apply(correction.inverse(), other)
        assert np.array_equal(other.labels, scene(seed))
        # an object that was touched elsewhere is noticed in whatever square it is
        y, x = np.argwhere(correction.before[-1].mask_yx)[-1] + correction.before[-1].corner_yx_px
        other.labels[y, x] = 0
        changed = other.labels.copy()
        with pytest.raises(ConflictError):
            applying.apply(correction, other)
        assert np.array_equal(other.labels, changed)


def test_classes_are_set_and_taken_back_in_one_step(tmp_path):
    store = ArrayStore(scene(3), {2: 1})
    journal = Journal.open(tmp_path / "a.journal.jsonl", "image", SHAPE_YX)
    there = _there(store, list(range(1, 10)))
    change = bulk.classify_all(store, {label: label % 3 for label in there})
    assert journal.carry_out(change, store) is None
    assert [store.class_of(label) for label in there] == [label % 3 for label in there]
    journal.undo(store)
    assert [store.class_of(label) for label in there] == [int(label == 2) for label in there]
    assert not journal.can_undo


def test_many_are_found_right_in_one_line(tmp_path):
    store = ArrayStore(scene(3))
    journal = Journal.open(tmp_path / "a.journal.jsonl", "image", SHAPE_YX)
    journal.carry_out(bulk.accept_all(store, range(1, 10)), store)
    again = Journal.open(tmp_path / "a.journal.jsonl", "image", SHAPE_YX)
    assert len(again.corrections()) == 1
    assert sorted(again.objects()) == _there(store, list(range(1, 10)))


def test_planes_of_a_stack_and_labels_on_disk(tmp_path):
    labels = scene(5, (2, *SHAPE_YX))
    store = ArrayStore(labels.copy())
    there = _there(store, list(range(1, 10)), (1,))
    applying.apply(bulk.remove_all(store, there[:3], plane=(1,)), store)
    assert np.array_equal(store.labels[0], labels[0])
    assert not np.isin(store.labels[1], there[:3]).any()
    disk = pyramid_of(labels[1], tmp_path / "l.zarr")
    applying.apply(bulk.remove_all(disk, there[:3]), disk)
    assert np.array_equal(np.asarray(disk.pyramid.levels[0][...]), store.labels[1])


def test_labels_may_be_as_large_as_their_type():
    labels_yx = scene(7).astype(np.int64)
    large = np.where(labels_yx > 0, labels_yx + 2**40, 0)
    found = bulk.find_all(ArrayStore(large), [2**40 + n for n in range(1, 10)])
    expected = bulk.find_all(ArrayStore(labels_yx), range(1, 10))
    assert [p.label - 2**40 for p in found] == [p.label for p in expected]
    assert all(np.array_equal(a.mask_yx, b.mask_yx) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("labels", [[], [0], [99], [-4]])
def test_nothing_to_correct_is_said(labels):
    with pytest.raises(CorrectionError, match="objects that are there"):
        bulk.remove_all(ArrayStore(scene(1)), labels)


def test_negative_classes_are_refused():
    with pytest.raises(CorrectionError, match="0 or more"):
        bulk.classify_all(ArrayStore(scene(1)), {1: -1})
