"""Which tile next: what the model doubts, and what is unlike the known."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from dinomask.adapt import suggest as module
from dinomask.adapt.reviewed import Reviewed
from dinomask.adapt.suggest import Candidate, assess, choose, count_doubts, suggest
from dinomask.config import SegmentConfig
from dinomask.errors import CancelledError
from dinomask.image import open_image
from dinomask.instances import Instances
from dinomask.run.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.image.source import Image
    from dinomask.run.progress import Progress


def tile(
    n: int, at: tuple[float, ...] = (0.0, 0.0), reviewed: float = 0.0, i: int = 0
) -> Candidate:
    return Candidate("image", (i, 0, i + 1, 1), n, 0, np.array(at), reviewed)


def numbers(candidates: list[Candidate], n: int) -> list[int]:
    return [s.window_yxyx_px[0] for s in choose(candidates, n)]


def test_doubts_decide_among_equals_and_novelty_among_doubts() -> None:
    found = [tile(3, (0.0, 0.0), i=0), tile(9, (1.0, 1.0), i=1), tile(4, (5.0, -4.0), i=2)]
    assert numbers(found, 1) == [1]
    # next to the reviewed tile nine doubts are worth less than four far away
    known = tile(30, (1.01, 1.0), reviewed=0.9, i=3)
    assert numbers([*found, known], 3) == [2, 0, 1]


def test_images_take_turns_where_doubts_are_alike() -> None:
    same = [dataclasses.replace(tile(9, (i, 0.0)), image=name) for i, name in enumerate("aaab")]
    first, second = (s.image for s in choose(same, 2))
    assert {first, second} == {"a", "b"}


def test_a_tile_full_of_specks_does_not_come_before_what_is_new() -> None:
    known = tile(9, (0.0, 0.0), reviewed=1.0, i=0)
    specks, new = tile(200, (1.0, 0.0), i=1), tile(16, (10.0, 0.0), i=2)
    assert numbers([known, specks, new], 1) == [2]


def test_what_is_reviewed_is_not_suggested_again() -> None:
    found = [tile(9, (0.0, 1.0), reviewed=1.0, i=0), tile(0, (4.0, 0.0), i=1)]
    assert numbers(found, 5) == [1]
    assert choose([tile(9, reviewed=1.0)]) == []
    assert choose([]) == []


def test_a_partly_reviewed_tile_counts_in_part() -> None:
    found = [tile(10, (0.0, 1.0), reviewed=0.4, i=0), tile(7, (4.0, 0.0), i=1)]
    assert numbers(found, 1) == [1]
    assert numbers([dataclasses.replace(found[0], reviewed=0.2), found[1]], 1) == [0]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.tuples(*[st.floats(-9, 9)] * 3),
            st.floats(0, 1),
        ),
        max_size=12,
    ),
    st.integers(0, 14),
)
def test_choosing(tiles: list[tuple[int, tuple[float, ...], float]], n: int) -> None:
    found = [tile(*t, i=i) for i, t in enumerate(tiles)]
    chosen = choose(found, n)
    open_ones = [c for c in found if c.reviewed <= 0.5]
    assert len(chosen) == min(n, len(open_ones))
    windows = [s.window_yxyx_px for s in chosen]
    assert len(set(windows)) == len(windows)
    assert set(windows) <= {c.window_yxyx_px for c in open_ones}
    assert all(0 <= s.novelty <= 1 and s.reason for s in chosen)
    # more suggestions begin with the same ones
    assert choose(found, n + 1)[:n] == chosen


def test_reasons_are_sentences() -> None:
    known = tile(0, (0.0, 0.0), reviewed=1.0)
    near = tile(0, (0.0, 0.1), i=1)
    doubtful = Candidate("image", (2, 0, 3, 1), 12, 1, np.array([9.0, 9.0]))
    first, second = choose([known, near, doubtful], 2)
    assert first.reason == (
        "12 objects are neither surely right nor surely wrong, 1 is missed in a mirrored view,"
        " and it looks unlike what is reviewed or suggested already"
    )
    assert (
        second.reason == "the model is sure of all it finds here; a look tells whether it is right"
    )
    (alone,) = choose([tile(1)])
    assert alone.reason == "1 object is neither surely right nor surely wrong"


def discs(centres: list[tuple[float, float]], scores: list[float]) -> Instances:
    y, x = np.mgrid[:28, :28] - 13.5
    mask = np.where(y**2 + x**2 < 13**2, 255, 0).astype(np.uint8)
    boxes = np.array([[y - 10, x - 10, y + 10, x + 10] for y, x in centres], np.float32)
    n = len(centres)
    return Instances(
        boxes.reshape(n, 4),
        np.array(scores, np.float32),
        np.zeros(n, np.int32),
        np.repeat(mask[None], n, axis=0),
    )


def test_doubts_by_hand() -> None:
    core = (0.0, 0.0, 100.0, 100.0)
    places = [(20.0, 20.0), (20.0, 60.0), (60.0, 20.0), (60.0, 60.0), (20.0, 120.0)]
    # sure in both; sure in one; doubtful in both; doubtful in one, sure in the other; outside
    plain = discs(places, [0.9, 0.8, 0.3, 0.25, 0.4])
    mirrored = discs([places[0], places[2], places[3]], [0.7, 0.55, 0.7])
    assert count_doubts(plain, mirrored, 0.5, (140, 140), core) == (1, 1)
    assert count_doubts(mirrored, plain, 0.5, (140, 140), core) == (1, 1)
    # at a lower threshold other scores are doubtful
    assert count_doubts(plain, mirrored, 0.25, (140, 140), core) == (0, 1)
    moved = discs([(20.0, 22.0), (20.0, 75.0)], [0.9, 0.9])
    assert count_doubts(discs(places[:2], [0.9, 0.9]), moved, 0.5, (140, 140), core) == (0, 2)
    assert count_doubts(Instances.empty(), Instances.empty(), 0.5, (140, 140), core) == (0, 0)


CONFIG = SegmentConfig(threads=1)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(CONFIG)


@pytest.fixture(scope="module")
def image(sample_nuclei: Path) -> Image:
    """Nuclei, of which a corner is blurred by a nearly white veil, and an empty side."""
    pixels = tifffile.imread(sample_nuclei)[:380, :500].astype(np.float32)
    chance = np.random.default_rng(0)
    floor = np.median(pixels)
    pixels[190:, :250] = floor + 0.1 * (pixels[190:, :250] - floor)
    pixels[190:, :250] += chance.normal(0, pixels.std() * 0.06, (190, 250))
    pixels[:, 250:] = floor
    return open_image(pixels)


def test_the_hard_corner_comes_first_and_empty_tiles_never(
    image: Image, predictor: Predictor
) -> None:
    seen: list[Progress] = []
    found = assess(image, predictor, CONFIG, 26.0, on_progress=seen.append)
    assert seen[-1].done == seen[-1].total > len(found) >= 3
    assert all(c.window_yxyx_px[1] < 250 for c in found)
    assert {c.feature.shape for c in found} == {(192,)}
    first = choose(found, 1)[0]
    y0, _, y1, _ = first.window_yxyx_px
    assert (y0 + y1) / 2 > 190
    assert "neither surely right" in first.reason
    y0, x0, y1, x1 = first.window_yxyx_px
    assert (y1 - y0) * (x1 - x0) > 50 * 50


def test_what_is_reviewed_is_known(
    image: Image, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower = Reviewed.of_box((185, -10, 500, 500))
    chosen = suggest(image, predictor, CONFIG, 26.0, n=9, reviewed=[lower])
    assert chosen
    assert all(s.window_yxyx_px[0] < 185 for s in chosen)
    # of a large image only the busiest places are looked at
    monkeypatch.setattr(module, "MOST_TILES", 2)
    assert 1 <= len(assess(image, predictor, CONFIG, 26.0)) <= 2


def test_it_can_be_cancelled(image: Image, predictor: Predictor) -> None:
    def stop(progress: Progress) -> None:
        raise CancelledError(expected="to finish", got="a cancel", remedy="Ask again.")

    with pytest.raises(CancelledError):
        suggest(image, predictor, CONFIG, 26.0, on_progress=stop)
