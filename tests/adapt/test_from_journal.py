"""What corrections say to a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.adapt import corrections, from_journal
from dinomask.adapt.from_journal import join_boxes, taught_from_journal
from dinomask.adapt.journal import Journal
from dinomask.adapt.label_store import ArrayStore
from dinomask.adapt.reviewed import Reviewed
from dinomask.image.source import open_image
from dinomask.instances import REFUTED
from tests.train.scenes import disc_labels, image_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def labels() -> np.ndarray:
    return disc_labels(6, 120, 9, 3).astype(np.int32)


def _opened(labels: np.ndarray, tmp_path: Path) -> tuple:
    image = open_image(image_of(labels))
    return image, ArrayStore(labels), Journal.open(tmp_path / "j.jsonl", "id", labels.shape)


def test_only_what_was_touched_is_known(labels: np.ndarray, tmp_path: Path) -> None:
    before = labels.copy()
    image, store, journal = _opened(labels, tmp_path)
    journal.carry_out(corrections.accept(store, 2), store)
    journal.carry_out(corrections.remove(store, 5), store)
    journal.carry_out(corrections.classify(store, 3, 1), store)
    (known,) = taught_from_journal(image, store, journal)
    assert known.n_objects == 2
    assert known.reviewed_px == 0
    assert np.array_equal(known.labels_yx > 0, (before == 2) | (before == 3))
    assert np.array_equal(known.labels_yx == REFUTED, before == 5)
    assert known.classes.tolist() == [0, 0, 1]


def test_a_reviewed_region_knows_its_objects_and_its_ground(
    labels: np.ndarray, tmp_path: Path
) -> None:
    image, store, journal = _opened(labels, tmp_path)
    journal.record(Reviewed.of_box((0, 0, 120, 60)))
    (known,) = taught_from_journal(image, store, journal)
    inside = [i for i in range(1, 7) if (np.nonzero(labels == i)[1] < 60).mean() > 0.5]
    assert known.n_objects == len(inside)
    assert np.array_equal(known.labels_yx > 0, np.isin(labels, inside))
    ground = (labels == 0) & (np.arange(120)[None] < 60)
    assert np.array_equal(known.labels_yx == 0, ground)


def test_what_was_undone_is_not_known(labels: np.ndarray, tmp_path: Path) -> None:
    image, store, journal = _opened(labels, tmp_path)
    journal.carry_out(corrections.remove(store, 5), store)
    journal.undo(store)
    assert taught_from_journal(image, store, journal) == []


def test_an_object_drawn_where_one_was_removed_counts(labels: np.ndarray, tmp_path: Path) -> None:
    mask = labels == 5
    image, store, journal = _opened(labels, tmp_path)
    journal.carry_out(corrections.remove(store, 5), store)
    journal.carry_out(corrections.add(store, mask, (0, 0)), store)
    (known,) = taught_from_journal(image, store, journal)
    assert not (known.labels_yx == REFUTED).any()
    assert np.array_equal(known.labels_yx > 0, mask)


def test_of_a_large_image_windows_are_taken(
    labels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_journal, "WHOLE_PX", 1000)
    image, store, journal = _opened(labels, tmp_path)
    journal.carry_out(corrections.accept(store, 1), store)
    (known,) = taught_from_journal(image, store, journal, context_px=10)
    rows, cols = np.nonzero(labels == 1)
    shape = (
        min(np.max(rows) + 11, 120) - max(np.min(rows) - 10, 0),
        min(np.max(cols) + 11, 120) - max(np.min(cols) - 10, 0),
    )
    assert known.labels_yx.shape == shape
    assert known.image_cyx.shape[1:] == shape
    assert known.samples_cn.shape[1] == 120 * 120
    assert (known.labels_yx > 0).sum() == (labels == 1).sum()


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50), st.integers(0, 50), st.integers(1, 20), st.integers(1, 20)
        ).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])),
        max_size=12,
    )
)
def test_joined_boxes_cover_all_and_do_not_overlap(boxes: list) -> None:
    joined = join_boxes(boxes)
    covered = np.zeros((80, 80), int)
    for y0, x0, y1, x1 in joined:
        covered[y0:y1, x0:x1] += 1
    assert covered.max(initial=0) <= 1
    for y0, x0, y1, x1 in boxes:
        assert covered[y0:y1, x0:x1].all()
