"""COCO's objects: what is drawn of polygons, run lengths and crowds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.train.coco_masks import CocoLabels, decode_runs, parse_object
from tests.train.coco_scenes import annotate, to_compressed, to_polygons, to_runs
from tests.train.scenes import disc_labels

if TYPE_CHECKING:
    from collections.abc import Callable

Segmentation = Any


WAYS: list[Callable[[np.ndarray], Segmentation]] = [to_polygons, to_runs, to_compressed]


def labels_of(annotations: list[dict[str, Any]]) -> CocoLabels:
    return CocoLabels("a.json", None, tuple(parse_object(a, {}) for a in annotations))


@st.composite
def label_images(draw: st.DrawFn) -> np.ndarray:
    """Any small objects with the ids 1..N, also in pieces and with holes."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    labels = rng.integers(0, draw(st.integers(1, 6)), shape)
    return np.unique(np.append(labels, 0), return_inverse=True)[1][:-1].reshape(shape)


@given(label_images(), st.sampled_from([to_runs, to_compressed]))
def test_run_lengths_are_exact(
    labels: np.ndarray, way: Callable[[np.ndarray], Segmentation]
) -> None:
    drawn = labels_of(annotate(labels, way)).draw(labels.shape)
    assert drawn.dtype == np.int32
    assert np.array_equal(drawn, labels)


@given(st.integers(0, 2**31), st.integers(1, 8), st.floats(3, 14))
def test_polygons_keep_the_objects(seed: int, n: int, radius_px: float) -> None:
    labels = disc_labels(n, 120, radius_px, seed)
    drawn = labels_of(annotate(labels, to_polygons)).draw(labels.shape)
    for i in range(1, n + 1):
        both, either = ((drawn == i) & (labels == i)).sum(), ((drawn == i) | (labels == i)).sum()
        assert both > 0.9 * either


def test_a_polygon_by_hand() -> None:
    # the square of pixels 2..4 down and 1..6 along; corners lie on pixels' corners
    box = labels_of([{"id": 1, "segmentation": [[1, 2, 7, 2, 7, 5, 1, 5]]}]).draw((8, 9))
    expected = np.zeros((8, 9), int)
    expected[2:5, 1:7] = 1
    assert np.array_equal(box, expected)


def test_parts_are_one_object_and_beyond_the_edge_is_cut() -> None:
    parts = [[0, 0, 3, 0, 3, 3, 0, 3], [6, 6, 50, 6, 50, 50, 6, 50], [-9, 7, 2, 7, 2, 20, -9, 20]]
    drawn = labels_of([{"id": 5, "segmentation": parts}]).draw((10, 10))
    assert np.unique(drawn).tolist() == [0, 1]
    assert drawn.sum() == 9 + 16 + 6


@pytest.mark.parametrize("way", WAYS)
def test_smaller_objects_lie_on_top(way: Callable[[np.ndarray], Segmentation]) -> None:
    small, large = np.zeros((2, 30, 30), bool)
    large[2:28, 2:28] = True
    small[10:20, 10:20] = True
    masks = [small, large]
    for order in ((0, 1), (1, 0)):
        annotations = [{"id": k, "segmentation": way(masks[k])} for k in order]
        drawn = labels_of(annotations).draw((30, 30))
        assert drawn[15, 15] == order.index(0) + 1
        assert drawn[3, 15] == order.index(1) + 1


def test_more_objects_than_16_bits_count() -> None:
    polygons = [[[x, y, x + 1, y, x + 1, y + 1, x, y + 1]] for y in range(270) for x in range(270)]
    annotations = [{"id": i, "segmentation": p} for i, p in enumerate(polygons)]
    drawn = labels_of(annotations).draw((270, 270))
    assert np.array_equal(drawn.ravel(), np.arange(1, 270 * 270 + 1))


def test_crowds_are_unsupervised_beneath_objects() -> None:
    labels = disc_labels(4, 96, 8).astype(int)
    crowd = np.zeros(labels.shape, bool)
    crowd[:48] = True
    annotations = annotate(labels, to_runs)
    annotations.append({"id": 7, "segmentation": to_runs(crowd), "iscrowd": 1})
    drawn = labels_of(annotations).draw(labels.shape)
    assert np.array_equal(drawn, np.where(crowd & (labels == 0), -1, labels))
    # also where the crowd is smaller than the object
    cover = [{"id": 8, "segmentation": to_runs(np.ones(labels.shape, bool))}]
    assert (labels_of(cover + annotations[-1:]).draw(labels.shape) == 1).all()


@given(st.lists(st.integers(0, 2**40), max_size=30))
def test_compressed_counts_of_any_size(counts: list[int]) -> None:
    """Encoded here from the documented format, number by number."""
    text = bytearray()
    for i, count in enumerate(counts):
        value, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text.append(48 + bits + 0x20 * more)
    assert decode_runs(bytes(text)).tolist() == counts
