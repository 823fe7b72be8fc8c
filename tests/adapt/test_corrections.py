"""Corrections: exact, invertible, and refused where the labels show something else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.adapt import corrections
from dinomask.adapt.corrections import Correction, Piece, Reviewed
from dinomask.adapt.label_store import ArrayStore
from dinomask.adapt.overlay_store import OverlayStore
from dinomask.errors import ConflictError, CorrectionError, JournalError, OutputError
from tests.adapt.label_scenes import SHAPE_YX, pixels, plan, pyramid_of, scene, wishes


def _require_inverse(store, wished):
    """Apply as many wishes as can be; take them back in reverse; compare every step."""
    states, done = [pixels(store)], []
    for wish in wished:
        correction = plan(store, wish)
        if correction is None:
            continue
        corrections.apply(correction, store)
        done.append(correction)
        states.append(pixels(store))
    for correction in reversed(done):
        np.testing.assert_array_equal(pixels(store), states.pop())
        corrections.apply(correction.inverse(), store)
    np.testing.assert_array_equal(pixels(store), states.pop())
    return done


@given(seed=st.integers(0, 999), wished=st.lists(wishes, max_size=12))
def test_apply_then_inverse_restores_labels_in_memory(seed, wished):
    _require_inverse(ArrayStore(scene(seed)), wished)


@given(seed=st.integers(0, 999), wished=st.lists(wishes, max_size=6))
def test_apply_then_inverse_restores_a_stack(seed, wished):
    _require_inverse(ArrayStore(scene(seed, (2, 3, *SHAPE_YX))), wished)


@given(seed=st.integers(0, 999), wished=st.lists(wishes, min_size=1, max_size=6))
def test_apply_then_inverse_restores_labels_on_disk(tmp_path_factory, seed, wished):
    store = pyramid_of(scene(seed), tmp_path_factory.mktemp("p") / "l.zarr")
    _require_inverse(store, wished)
    first, second = (np.asarray(level[...]) for level in store.pyramid.levels)
    np.testing.assert_array_equal(second, first[::2, ::2])


def test_all_kinds_are_among_the_random_corrections():
    rng = np.random.default_rng(0)
    kinds = set()
    for seed in range(40):
        kind = ["add", "remove", "redraw", "merge", "split", "classify", "accept"][seed % 7]
        wish = {"kind": kind, "seed": int(rng.integers(2**16)), "keep_others": bool(seed % 2)}
        kinds |= {c.kind for c in _require_inverse(ArrayStore(scene(seed)), [wish])}
    assert kinds == {"add", "remove", "redraw", "merge", "split", "classify", "accept"}


@given(seed=st.integers(0, 999), wished=st.lists(wishes, max_size=6))
def test_memory_disk_and_overlay_agree(tmp_path_factory, seed, wished):
    labels = scene(seed)
    memory = ArrayStore(labels.copy())
    overlay = OverlayStore(pyramid_of(labels, tmp_path_factory.mktemp("p") / "l.zarr"))
    for wish in wished:
        correction = plan(memory, wish)
        if correction is None:
            continue
        on_top = plan(overlay, wish)
        # ids of undone objects are not given again, so those of new ones may differ
        assert (on_top.kind, on_top.before) == (correction.kind, correction.before)
        corrections.apply(correction, memory)
        corrections.apply(correction, overlay)
        np.testing.assert_array_equal(overlay.read((0, 0, *SHAPE_YX)), memory.labels)
    np.testing.assert_array_equal(pixels(overlay.base), labels)


@given(seed=st.integers(0, 999), wish=wishes)
def test_json_and_back_is_the_same_event(seed, wish):
    correction = plan(ArrayStore(scene(seed)), wish)
    if correction is not None:
        assert Correction.from_json(json.loads(json.dumps(correction.as_json()))) == correction


@given(seed=st.integers(0, 999), wish=wishes, spot=st.integers(0, 10**6))
def test_a_correction_of_what_the_labels_do_not_show_changes_nothing(seed, wish, spot):
    store = ArrayStore(scene(seed))
    correction = plan(store, wish)
    if correction is None:
        return
    pieces = [*correction.before, *correction.after]
    piece = pieces[spot % len(pieces)]
    inside = np.argwhere(piece.mask_yx)
    y, x = inside[spot % len(inside)] + piece.corner_yx_px
    store.labels[y, x] = 777
    before = store.labels.copy()
    with pytest.raises(ConflictError, match="nothing was changed"):
        corrections.apply(correction, store)
    np.testing.assert_array_equal(store.labels, before)


def test_a_correction_twice_is_refused():
    store = ArrayStore(scene(1))
    removal = corrections.remove(store, 3)
    corrections.apply(removal, store)
    with pytest.raises(ConflictError, match="label 3"):
        corrections.apply(removal, store)
    with pytest.raises(CorrectionError, match="object 3"):
        corrections.remove(store, 3)


def test_drawing_over_a_neighbour_takes_its_pixels_and_gives_them_back():
    labels = np.zeros((10, 10), np.uint16)
    labels[2:8, 2:5], labels[0, 9] = 1, 2
    store = ArrayStore(labels.copy())
    drawn = corrections.add(store, np.ones((4, 4), bool), (3, 4), class_id=2)
    assert [piece.label for piece in drawn.before] == [1]
    assert {piece.label: piece.area_px for piece in drawn.after} == {1: 14, 3: 16}
    corrections.apply(drawn, store)
    assert (store.labels == 3).sum() == 16
    assert store.class_of(3) == 2
    corrections.apply(drawn.inverse(), store)
    np.testing.assert_array_equal(store.labels, labels)


def test_a_neighbour_painted_over_altogether_is_gone_and_comes_back():
    labels = np.zeros((6, 6), np.uint16)
    labels[2, 2:4], labels[5, 5] = 1, 2
    store = ArrayStore(labels.copy())
    drawn = corrections.redraw(store, 2, np.ones((4, 4), bool), (1, 1))
    assert [piece.label for piece in drawn.before] == [1, 2]
    assert [piece.label for piece in drawn.after] == [2]
    corrections.apply(drawn, store)
    assert 1 not in store.labels
    corrections.apply(drawn.inverse(), store)
    np.testing.assert_array_equal(store.labels, labels)


def test_a_proposal_can_leave_its_neighbours_alone():
    labels = np.zeros((8, 8), np.uint16)
    labels[:, :4] = 1
    store = ArrayStore(labels)
    proposal = corrections.add(store, np.ones((3, 6), bool), (2, 2), keep_others=True)
    assert proposal.before == ()
    assert proposal.after[0].box_yxyx_px == (2, 4, 5, 8)
    with pytest.raises(CorrectionError, match="on other objects altogether"):
        corrections.add(store, np.ones((2, 2), bool), (0, 0), keep_others=True)


def test_what_reaches_beyond_the_border_is_cut_and_what_lies_beyond_refused():
    store = ArrayStore(np.zeros((8, 8), np.uint8))
    drawn = corrections.add(store, np.ones((4, 4), bool), (-2, 6))
    assert drawn.after[0].box_yxyx_px == (0, 6, 2, 8)
    with pytest.raises(CorrectionError, match="at least one pixel"):
        corrections.add(store, np.ones((4, 4), bool), (20, 20))
    with pytest.raises(CorrectionError, match="at least one pixel"):
        corrections.add(store, np.zeros((4, 4), bool), (2, 2))


def test_a_single_pixel_is_an_object():
    store = ArrayStore(np.zeros((3, 3), np.uint8))
    dot = corrections.add(store, np.ones((1, 1), bool), (2, 2))
    corrections.apply(dot, store)
    assert corrections.label_at(store, (2.99, 2.0)) == 1
    assert corrections.label_at(store, (3.0, 2.0)) == 0
    assert corrections.label_at(store, (-0.1, 0.0)) == 0
    assert dot.after[0].centre_yx_px == (2.5, 2.5)
    with pytest.raises(CorrectionError, match="split"):
        corrections.split(store, 1, np.array([[0.0, 2.5], [3.0, 2.5]]))
    corrections.apply(corrections.remove(store, 1), store)
    assert not store.labels.any()


def test_merging_keeps_the_first_id_and_class_and_closes_the_crack():
    labels = np.zeros((9, 20), np.uint16)
    labels[2:7, 1:6], labels[2:7, 7:12], labels[4, 19] = 1, 2, 3
    store = ArrayStore(labels.copy(), {2: 5})
    joined = corrections.merge(store, [2, 1])
    (kept,) = joined.after
    assert (kept.label, kept.class_id) == (2, 5)
    # the ends of the crack stay round
    assert kept.area_px == 50 + 3
    (apart,) = corrections.merge(store, [2, 1], fill_gap_px=0).after
    assert apart.area_px == 50
    (far,) = corrections.merge(store, [1, 3]).after
    assert far.area_px == 26
    for wrong in ([1], [1, 1], []):
        with pytest.raises(CorrectionError, match="two objects"):
            corrections.merge(store, wrong)


def test_splitting_keeps_the_id_with_the_largest_part_and_the_class_with_all():
    labels = np.zeros((12, 12), np.uint16)
    labels[1:11, 1:11] = 4
    store = ArrayStore(labels, {4: 2})
    parted = corrections.split(store, 4, np.array([[0.0, 4.0], [12.0, 4.0]]))
    assert {p.label: (p.area_px, p.class_id) for p in parted.after} == {4: (70, 2), 5: (30, 2)}


def test_classes_are_checked_and_restored():
    store = ArrayStore(scene(2))
    first = corrections.classify(store, 5, 3)
    stale = corrections.classify(store, 5, 1)
    assert corrections.apply(first, store) is None
    assert store.class_of(5) == 3
    with pytest.raises(ConflictError, match="class 3"):
        corrections.apply(stale, store)
    corrections.apply(first.inverse(), store)
    assert store.class_of(5) == 0
    with pytest.raises(CorrectionError, match="class"):
        corrections.classify(store, 5, -1)


def test_labels_that_ran_out_and_labels_too_large_are_refused():
    store = ArrayStore(np.full((2, 2), 255, np.uint8))
    with pytest.raises(OutputError, match="255"):
        corrections.add(store, np.ones((1, 1), bool), (0, 0))
    piece = Piece(300, (0, 0), np.ones((1, 1), bool))
    with pytest.raises(ConflictError, match="up to 255"):
        corrections.apply(Correction("add", (), (piece,)), ArrayStore(np.zeros((2, 2), np.uint8)))


@pytest.mark.parametrize("plane", [(), (2,), (0, 0), (-1,)])
def test_a_plane_that_is_not_there_is_refused(plane):
    store = ArrayStore(scene(0, (2, *SHAPE_YX)))
    with pytest.raises(CorrectionError, match="plane"):
        corrections.remove(store, 1, plane=plane)


def test_only_writable_whole_numbers_are_labels():
    frozen = np.zeros((3, 3), np.uint8)
    frozen.flags.writeable = False
    for wrong in (np.zeros((3, 3)), np.zeros(3, np.uint8), frozen):
        with pytest.raises(CorrectionError, match="whole numbers"):
            ArrayStore(wrong)


def test_a_window_beyond_memory_is_refused():
    class Endless(ArrayStore):
        shape_yx = (10**6, 10**6)

        def find(self, label, near=None, plane=()):
            return Piece(label, (label * 10**5, label * 10**5), np.ones((2, 2), bool))

    with pytest.raises(CorrectionError, match="nearer"):
        corrections.merge(Endless(np.zeros((1, 1), np.int32)), [1, 9])


def test_damaged_events_are_told():
    good = corrections.remove(ArrayStore(scene(3)), 4).as_json()
    for change in (
        {"kind": "explode"},
        {"before": [], "after": []},
        {"before": [{"label": 1}]},
        {"before": [{**good["before"][0], "counts": [1, 5000]}]},
        {"plane": ["x"]},
    ):
        with pytest.raises(JournalError):
            Correction.from_json({**good, **change})
    with pytest.raises(JournalError):
        Reviewed.from_json({"polygon": [[0, 0]], "plane": [], "author": "", "time": "", "id": ""})


def test_a_reviewed_region_counts_pixels_by_their_centres():
    region = Reviewed.of_box((1, 2, 4, 6), (3,))
    assert region.box_yxyx_px == (1, 2, 4, 6)
    expected = np.zeros((8, 8), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(region.mask((0, 0, 8, 8)), expected)
    np.testing.assert_array_equal(region.mask((2, 3, 9, 9)), np.pad(expected, 1)[3:10, 4:10])
    triangle = Reviewed(np.array([[0.0, 0.0], [0.0, 4.0], [4.0, 0.0]]))
    assert triangle.mask((0, 0, 4, 4)).sum() in range(6, 11)
    assert Reviewed.from_json(json.loads(json.dumps(triangle.as_json()))) == triangle
    for wrong in (np.zeros((2, 2)), np.zeros((3, 3)), np.full((3, 2), np.nan)):
        with pytest.raises(CorrectionError, match="three corners"):
            Reviewed(wrong)
