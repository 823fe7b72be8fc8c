"""Crashes and full disks between the journal and the labels."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from dinomask.adapt import corrections
from dinomask.adapt.journal import Journal
from dinomask.adapt.label_store import ArrayStore, PyramidStore
from dinomask.errors import ConflictError, OutputError
from dinomask.tiles.edit import LabelPyramid
from tests.adapt.label_scenes import SHAPE_YX, pixels, plan, pyramid_of, scene
from tests.limits import full_disk

WISH = {"kind": "redraw", "seed": 3, "keep_others": False}


def _open(path):
    return Journal.open(path, "pixels", SHAPE_YX)


def _replayed(labels, journal):
    store = ArrayStore(labels.copy())
    for correction in journal.corrections():
        corrections.apply(correction, store)
    return store.labels


def test_a_disk_that_is_full_changes_neither_journal_nor_labels(tmp_path):
    store, journal = ArrayStore(scene(1)), _open(tmp_path / "a.jsonl")
    journal.carry_out(corrections.remove(store, 3), store)
    before, labels = journal.path.read_bytes(), pixels(store)
    correction = plan(store, WISH)
    with full_disk(len(before) + 40), pytest.raises(OutputError, match="labels were not changed"):
        journal.carry_out(correction, store)
    assert journal.path.read_bytes() == before
    np.testing.assert_array_equal(pixels(store), labels)
    with full_disk(len(before) + 40), pytest.raises(OutputError):
        journal.undo(store)
    np.testing.assert_array_equal(pixels(store), labels)
    # there is room again
    journal.carry_out(correction, store)
    assert len(_open(journal.path).history()) == 2


def test_a_first_event_that_does_not_fit_leaves_no_broken_journal(tmp_path):
    store, journal = ArrayStore(scene(1)), _open(tmp_path / "a.jsonl")
    with full_disk(100), pytest.raises(OutputError):
        journal.carry_out(plan(store, WISH), store)
    assert _open(journal.path).torn is None
    journal.carry_out(plan(store, WISH), store)
    assert len(_open(journal.path).history()) == 1


def test_a_journal_that_cannot_be_written_changes_no_labels(tmp_path):
    store = ArrayStore(scene(1))
    labels = pixels(store)
    for path in (tmp_path / "missing" / "a.jsonl", tmp_path / "read_only" / "a.jsonl"):
        if path.parent.name == "read_only":
            path.parent.mkdir(mode=0o500)
            if os.access(path.parent, os.W_OK):
                continue  # root writes everywhere
        with pytest.raises(OutputError, match="permissions"):
            _open(path).carry_out(corrections.remove(store, 3), store)
    np.testing.assert_array_equal(pixels(store), labels)


@pytest.mark.parametrize("undone", [False, True])
@pytest.mark.parametrize("share_written", [0.0, 0.5, 0.9])
def test_labels_that_were_left_behind_are_brought_up(tmp_path, share_written, undone):
    first = scene(1)
    store, journal = pyramid_of(first, tmp_path / "l.zarr"), _open(tmp_path / "a.jsonl")
    states = [pixels(store)]
    journal.carry_out(plan(store, WISH), store)
    states.append(pixels(store))
    if undone:
        journal.undo(store)
        states.append(pixels(store))
    # as the crash left them: a part of the last change is written
    left = states[-2].copy()
    changed = np.argwhere(left != states[-1])
    written = tuple(changed[: int(share_written * len(changed))].T)
    left[written] = states[-1][written]
    assert (left != states[-1]).any()
    store.write((0, 0), left)
    again = _open(journal.path)
    assert again.catch_up(store) == (left != states[-1]).sum()
    np.testing.assert_array_equal(pixels(store), states[-1])
    assert again.catch_up(store) == 0


def test_the_next_correction_brings_the_labels_up_by_itself(tmp_path):
    first = scene(1)
    store, journal = ArrayStore(first.copy()), _open(tmp_path / "a.jsonl")
    journal.record(corrections.remove(store, 3))
    again = _open(journal.path)
    again.carry_out(plan(ArrayStore(_replayed(first, again)), WISH), store)
    np.testing.assert_array_equal(pixels(store), _replayed(first, again))


def test_labels_saved_long_ago_are_brought_up_and_others_refused(tmp_path):
    first = scene(1)
    store, journal = ArrayStore(first.copy()), _open(tmp_path / "a.jsonl")
    for seed in range(8):
        for kind in ("add", "redraw", "split", "remove"):
            correction = plan(store, {"kind": kind, "seed": seed, "keep_others": False})
            if correction is not None:
                journal.carry_out(correction, store)
        if seed % 3 == 2:
            journal.undo(store)
    saved = ArrayStore(first.copy())
    assert _open(journal.path).catch_up(saved, last=None) > 0
    np.testing.assert_array_equal(saved.labels, store.labels)
    foreign = ArrayStore(np.full_like(first, 500))
    with pytest.raises(ConflictError, match="no correction put there"):
        _open(journal.path).catch_up(foreign, last=None)
    assert (foreign.labels == 500).all()


class _FullPyramid(PyramidStore):
    """Labels on a disk that has no room left, while `is_full`."""

    is_full = True

    def write(self, corner_yx_px, labels_yx, plane=()):
        if self.is_full:
            raise OutputError(expected="room", got="none", remedy="Free some.")
        super().write(corner_yx_px, labels_yx, plane)


def test_a_recorded_correction_whose_labels_did_not_fit_is_written_later(tmp_path):
    first = scene(1)
    pyramid_of(first, tmp_path / "l.zarr")
    store = _FullPyramid(LabelPyramid.open(tmp_path / "l.zarr", writable=True), {})
    journal = _open(tmp_path / "a.jsonl")
    with pytest.raises(OutputError):
        journal.carry_out(corrections.remove(store, 3), store)
    np.testing.assert_array_equal(pixels(store), first)
    store.is_full = False
    journal.carry_out(corrections.remove(store, 4), store)
    np.testing.assert_array_equal(pixels(store), _replayed(first, journal))
    assert len(journal.corrections()) == 2


def test_levels_left_behind_by_the_finest_are_brought_up(tmp_path):
    store, journal = pyramid_of(scene(1), tmp_path / "l.zarr"), _open(tmp_path / "a.jsonl")
    coarse = store.pyramid.levels[1]
    before = np.asarray(coarse[...])
    journal.carry_out(plan(store, WISH), store)
    after = np.asarray(coarse[...])
    assert (before != after).any()
    coarse[...] = before
    _open(journal.path).catch_up(store)
    np.testing.assert_array_equal(coarse[...], after)


SCRIPT = """
import itertools, sys
from pathlib import Path
from dinomask.adapt.journal import Journal
from dinomask.adapt.label_store import PyramidStore
from dinomask.errors import CorrectionError
from dinomask.tiles.edit import LabelPyramid
from tests.adapt.label_scenes import SHAPE_YX, plan
folder = Path(sys.argv[1])
store = PyramidStore(LabelPyramid.open(folder / "l.zarr", writable=True), {})
journal = Journal.open(folder / "a.jsonl", "pixels", SHAPE_YX)
journal.catch_up(store)
kinds = ("add", "redraw", "split", "merge")
for number in itertools.count(len(journal.history())):
    if number % 5 == 4:
        journal.undo(store)
    wish = {"kind": kinds[number % 4], "seed": number, "keep_others": False}
    correction = plan(store, wish)
    if correction is not None:
        journal.carry_out(correction, store)
"""


def test_a_session_that_is_killed_over_and_over_loses_nothing(tmp_path, repository):
    first = scene(1)
    store = pyramid_of(first, tmp_path / "l.zarr")
    path, sizes = tmp_path / "a.jsonl", [0]
    for number in range(2):
        worker = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=repository)
        deadline = time.monotonic() + 120
        # killed while at it, a little later each time
        while not path.exists() or path.stat().st_size < sizes[-1] + 2000:
            assert worker.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(0.011 * number)
        worker.kill()
        worker.wait()
        sizes.append(path.stat().st_size)
        journal = _open(path)
        journal.catch_up(store)
        np.testing.assert_array_equal(pixels(store), _replayed(first, journal))
        coarse = np.asarray(store.pyramid.levels[1][...])
        np.testing.assert_array_equal(coarse, pixels(store)[::2, ::2])
    assert len(journal.history()) > 4
