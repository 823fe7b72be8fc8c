"""The state of a review and its files, without a window."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from dinomask.adapt.journal import Journal
from dinomask.adapt.label_store import ArrayStore
from dinomask.config import SegmentConfig
from dinomask.errors import CorrectionError, InputError, JournalError
from dinomask.image import open_image
from napari_dinomask.corrections import Review
from napari_dinomask.review_actions import CLASS_KEYS, COMMANDS, TOOLS
from napari_dinomask.review_files import (
    EarlierReviewError,
    first_labels_path,
    forget_unused,
    median_diameter_px,
    open_review,
)
from napari_dinomask.review_wording import parse_names, say_counts, say_keys
from napari_dinomask.session import LayerFacts, config_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]

SHAPE = (40, 60)


@pytest.fixture
def labels_yx() -> Array:
    """Two squares side by side, and one apart."""
    labels = np.zeros(SHAPE, np.int32)
    labels[5:15, 5:15], labels[5:15, 15:25], labels[25:35, 40:50] = 1, 2, 3
    return labels


@pytest.fixture
def image(labels_yx: Array) -> Any:
    return open_image((labels_yx > 0).astype(np.uint8) * 100)


@pytest.fixture
def review(labels_yx: Array, image: Any, tmp_path: Path) -> Review:
    journal = Journal.open(tmp_path / "a.journal.jsonl", image.identity, SHAPE)
    return Review("a", ArrayStore(labels_yx), journal, image, SegmentConfig())


def _proposal(mask_yx: Array, corner: tuple[int, int], rank: int = 0) -> Any:
    return SimpleNamespace(
        mask_yx=mask_yx, corner_yx_px=corner, class_id=0, rank=rank, n_ranks=3, score=0.5
    )


def test_what_the_model_proposes_keeps_clear_of_others(review: Review, labels_yx: Array) -> None:
    before = labels_yx.copy()
    question = review.ask_at((20.0, 20.0))
    done = review.take(question, _proposal(np.ones((10, 10), bool), (10, 14)))
    assert done.text.startswith("Added 4")
    assert "size 1 of 3" in done.text
    assert (labels_yx == 4).sum() == 50
    np.testing.assert_array_equal(labels_yx[before > 0], before[before > 0])


def test_another_size_takes_the_place_of_the_last_one_only(
    review: Review, labels_yx: Array
) -> None:
    assert review.ask_next_size() is None
    question = review.ask_at((22.0, 32.0))
    review.take(question, _proposal(np.ones((4, 4), bool), (20, 30)))
    assert review.is_fresh(4)
    again = review.ask_next_size()
    assert again is not None
    assert (again.replaces, again.rank, again.point_yx_px) == (4, 1, (22.0, 32.0))
    assert not review.labels_but(again, (20, 30, 24, 34)).any()
    review.take(again, _proposal(np.ones((8, 8), bool), (18, 28), rank=1))
    assert (labels_yx == 4).sum() == 64
    review.undo()
    assert (labels_yx == 4).sum() == 16
    review.accept((6.0, 6.0))
    assert review.ask_next_size() is None


def test_deleted_objects_are_remembered_until_they_are_back(review: Review) -> None:
    review.remove((6.0, 6.0))
    (piece,) = review.deleted(())
    assert (piece.label, piece.area_px) == (1, 100)
    review.undo()
    assert review.deleted(()) == []


def test_a_line_splits_the_object_it_crosses_longest(review: Review, labels_yx: Array) -> None:
    done = review.split([(10.0, 3.0), (10.0, 17.0)])
    assert done.text == "Split 1 into 2"
    assert set(np.unique(labels_yx[5:15, 5:15])) == {1, 4}
    assert (labels_yx[5:15, 15:25] == 2).all()
    with pytest.raises(CorrectionError, match="across a cell"):
        review.split([(38.0, 2.0), (38.0, 30.0)])


def test_merging_takes_two_clicks_and_a_second_on_the_same_lets_go(
    review: Review, labels_yx: Array
) -> None:
    review.merge((6.0, 6.0))
    assert review.picked == 1
    review.merge((7.0, 7.0))
    assert review.picked == 0
    assert not review.journal.can_undo
    review.merge((6.0, 6.0))
    assert review.merge((38.0, 2.0)) is None
    assert review.picked == 0
    review.merge((6.0, 6.0))
    review.merge((6.0, 20.0))
    assert (labels_yx[5:15, 5:25] == 1).all()


def test_on_background_there_is_nothing_to_do(review: Review) -> None:
    beside = (38.0, 2.0)
    assert review.remove(beside) is None
    assert review.accept(beside) is None
    assert review.classify(beside, 1) is None
    assert review.remove((-5.0, 900.0)) is None
    assert review.undo() is None
    assert not review.journal.path.exists()


def test_a_painted_window_becomes_events_that_undo(review: Review, labels_yx: Array) -> None:
    before = labels_yx.copy()
    labels_yx[30:38, 45:55] = 3
    window = np.s_[24:39, 38:58]
    done = review.painted(before[window], labels_yx[window].copy(), (24, 38), ())
    assert done is not None
    assert done.text == "Painted: redraw"
    review.undo()
    np.testing.assert_array_equal(labels_yx, before)


def test_a_region_ends_at_the_image_and_must_have_area(review: Review) -> None:
    review.vouch([(-50.0, -50.0), (-50.0, 30.0), (20.0, 30.0), (20.0, -50.0)])
    (region,) = review.journal.reviewed()
    assert region.box_yxyx_px == (0, 0, 20, 30)
    for flat in ([(1.0, 1.0), (1.0, 9.0), (1.0, 5.0)], [(-9.0, -9.0), (-9.0, -1.0), (-1.0, -9.0)]):
        with pytest.raises(CorrectionError, match="area"):
            review.vouch(flat)
    assert review.counts() == {"region": 1}


def _open(image: Any, labels: Array, tmp_path: Path, begin: Any = "ask") -> Any:
    beside = tmp_path / "cells_labels.zarr"
    return open_review(lambda: image, labels.copy(), beside, "cells", "tiny", begin)


def test_labels_that_were_never_saved_are_restored(
    image: Any, labels_yx: Array, tmp_path: Path
) -> None:
    opened = _open(image, labels_yx, tmp_path)
    assert opened.restored is None
    assert opened.journal.path == tmp_path / "cells_labels.journal.jsonl"
    left = labels_yx.copy()
    review = Review("a", ArrayStore(left), opened.journal, image, SegmentConfig())
    review.remove((6.0, 6.0))
    review.merge((6.0, 20.0))
    review.merge((30.0, 45.0))
    # a crash tears the last line
    with opened.journal.path.open("ab") as file:
        file.write(b'{"n": 4, "ac')
    again = _open(image, labels_yx, tmp_path)
    assert "cut short" in again.journal.torn
    np.testing.assert_array_equal(again.restored, left)
    for known in (left, np.zeros_like(left)):
        restored = _open(image, known, tmp_path).restored
        assert restored is None or np.array_equal(restored, left)


def test_other_labels_are_asked_about_and_nothing_is_lost(
    image: Any, labels_yx: Array, tmp_path: Path
) -> None:
    opened = _open(image, labels_yx, tmp_path)
    left = labels_yx.copy()
    Review("a", ArrayStore(left), opened.journal, image, SegmentConfig()).remove((6.0, 6.0))
    other = np.where(labels_yx == 3, 9, 0).astype(np.int32)
    with pytest.raises(EarlierReviewError) as refused:
        _open(image, other, tmp_path)
    assert refused.value.n_corrections == 1
    np.testing.assert_array_equal(_open(image, other, tmp_path, "go on").restored, left)
    anew = _open(image, other, tmp_path, "anew")
    assert not anew.journal.history()
    np.testing.assert_array_equal(tifffile.imread(first_labels_path(anew.journal.path)), other)
    (kept,) = tmp_path.glob("cells_labels.*.journal.jsonl")
    assert "remove" in kept.read_text(encoding="utf-8")


def test_a_changed_image_is_refused_with_a_remedy(
    image: Any, labels_yx: Array, tmp_path: Path
) -> None:
    opened = _open(image, labels_yx, tmp_path)
    Review("a", ArrayStore(labels_yx), opened.journal, image, SegmentConfig()).remove((6.0, 6.0))
    changed = open_image(np.full(SHAPE, 7, np.uint8))
    with pytest.raises(JournalError, match="other pixels"):
        _open(changed, labels_yx, tmp_path)


def test_damaged_first_labels_are_explained(image: Any, labels_yx: Array, tmp_path: Path) -> None:
    opened = _open(image, labels_yx, tmp_path)
    Review("a", ArrayStore(labels_yx), opened.journal, image, SegmentConfig()).remove((6.0, 6.0))
    first_labels_path(opened.journal.path).write_bytes(b"nothing")
    with pytest.raises(InputError, match="begin the review anew"):
        _open(image, labels_yx, tmp_path)


def test_looking_leaves_no_files(image: Any, labels_yx: Array, tmp_path: Path) -> None:
    opened = _open(image, labels_yx, tmp_path)
    forget_unused(opened.journal)
    assert not list(tmp_path.iterdir())


def test_the_usual_size_needs_a_few_objects() -> None:
    labels = np.zeros((30, 60), np.int32)
    for i in range(5):
        labels[2:12, 12 * i : 12 * i + 10] = i + 1
    assert median_diameter_px(labels) == pytest.approx(np.sqrt(400 / np.pi))
    labels[labels == 5] = 0
    assert median_diameter_px(labels) is None


def test_settings_come_from_the_run_that_made_the_labels() -> None:
    facts = LayerFacts("a", SHAPE, 3, False, None, (), 2)
    assert config_of({}, facts).channels == (2,)
    settings = {
        "model": "small",
        "adapter": "mine",
        "channels": [1],
        "tiles": {"tile_px": 224, "halo_px": 64},
        "normalise": {"low_pct": 2.0},
    }
    config = config_of({"settings": settings}, facts)
    assert (config.model, config.adapter, config.channels) == ("small", "mine", (1,))
    assert config.tiles.tile_px == 224
    assert config.normalise.low_pct == 2.0


def test_every_key_does_one_thing_and_is_shown() -> None:
    keys = [act.key for act in (*TOOLS, *COMMANDS)] + list(CLASS_KEYS)
    assert len(set(keys)) == len(keys)
    shown = say_keys(parse_names(" resting, , <dividing>"))
    assert all(act.shown_key in shown for act in COMMANDS)
    assert "&lt;dividing&gt;" in shown
    assert find_names(shown) == 2


def find_names(shown: str) -> int:
    return shown.count("It is of class")


def test_counts_in_words() -> None:
    assert say_counts({}) == "Nothing corrected so far."
    assert say_counts({"add": 3, "region": 1}) == "3\u00a0added · 1\u00a0reviewed region"


def test_the_state_of_a_review_needs_neither_qt_nor_torch() -> None:
    code = (
        "import sys, napari_dinomask.corrections, napari_dinomask.review_files\n"
        "import napari_dinomask.review_wording, napari_dinomask.asking\n"
        "heavy = {'torch', 'qtpy', 'napari'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_rehearsal_loads_all_that_the_first_correction_needs() -> None:
    code = (
        "import sys, numpy as np\n"
        "from napari_dinomask.corrections import Review\n"
        "from napari_dinomask.open_reviews import rehearse\n"
        "from dinomask.adapt.label_store import ArrayStore\n"
        "from dinomask.adapt import corrections as plan\n"
        "rehearse()\n"
        "known = set(sys.modules)\n"
        "labels = np.zeros((60, 60), np.int32)\n"
        "labels[10:30, 10:30], labels[10:30, 32:50] = 1, 2\n"
        "store = ArrayStore(labels)\n"
        "plan.split(store, 1, np.array([[5.0, 20.0], [35.0, 20.0]]))\n"
        "plan.merge(store, [1, 2])\n"
        "plan.Reviewed.of_box((1, 1, 9, 9)).mask((0, 0, 60, 60))\n"
        "late = sorted(set(sys.modules) - known)\n"
        "sys.exit(f'imported {late[:9]}' if late else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
