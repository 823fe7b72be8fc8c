"""Label images: pixels by probability, the same however they are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import TileConfig
from dinomask.instances import Instances, paste_probability
from dinomask.tiles.plan import plan_tiles
from dinomask.tiles.render import Drawing, instance_table, render_image, render_window
from dinomask.tiles.stitch import Stitched, stitch
from tests.tiles.scenes import disks


def as_stitched(found: Instances, shape_yx: tuple[int, int]) -> Stitched:
    plan = plan_tiles(shape_yx, 112 / max(shape_yx), TileConfig())
    return stitch(plan, [(0, found)])


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Stitched, tuple[int, int]]:
    """Random masks that overlap much, some beyond the image, some below a pixel."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(1, 90)), draw(st.integers(1, 90)))
    n = draw(st.integers(0, 25))
    first = rng.uniform(-15, 1, (n, 2)) + rng.uniform(0, 1, (n, 2)) * shape
    sides = np.exp(rng.uniform(-1.5, 3.7, (n, 2)))
    # coarse levels of probability and score make ties common
    masks = (rng.integers(0, 5, (n, 8, 8)) * 63).astype(np.uint8)
    scores = (rng.integers(1, 5, n) / 5).astype(np.float32)
    boxes = np.hstack([first, first + sides]).round(1).astype(np.float32)
    return as_stitched(Instances(boxes, scores, np.zeros(n, np.int32), masks), shape), shape


def by_the_rule(stitched: Stitched, shape_yx: tuple[int, int]) -> np.ndarray:
    """The rule read aloud: stack all probabilities, sort the claims of each pixel."""
    labels = np.zeros(shape_yx, np.uint32)
    claims: dict[tuple[int, int], list[tuple[float, float, int]]] = {}
    found = stitched.instances
    for i, id_ in enumerate(stitched.ids.tolist()):
        drawn, (top, left) = paste_probability(found.masks[i], found.boxes_yxyx_px[i])
        for y, x in np.argwhere(drawn >= 0.5):
            if 0 <= y + top < shape_yx[0] and 0 <= x + left < shape_yx[1]:
                claim = (-float(drawn[y, x]), -float(found.scores[i]), id_)
                claims.setdefault((int(y + top), int(x + left)), []).append(claim)
    for place, found_here in claims.items():
        labels[place] = min(found_here)[2]
    return labels


@given(crowds())
def test_a_pixel_goes_to_the_surest_then_the_best_then_the_first(
    case: tuple[Stitched, tuple[int, int]],
) -> None:
    stitched, shape = case
    np.testing.assert_array_equal(
        render_window(stitched, (0, 0, *shape)), by_the_rule(stitched, shape)
    )


@given(crowds(), st.integers(1, 64))
def test_pixels_and_table_are_the_same_however_the_image_is_cut(
    case: tuple[Stitched, tuple[int, int]], side_px: int
) -> None:
    stitched, shape = case
    whole, table = render_image(stitched, shape)
    pieces = np.zeros(shape, np.uint32)
    drawing = Drawing(stitched, shape)
    for (y0, x0, y1, x1), labels in drawing.windows(side_px):
        pieces[y0:y1, x0:x1] = labels
    np.testing.assert_array_equal(pieces, whole)
    assert drawing.table().equals(table)


@given(crowds())
def test_the_table_measures_the_label_image(case: tuple[Stitched, tuple[int, int]]) -> None:
    stitched, shape = case
    labels, table = render_image(stitched, shape)
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    assert table["id"].tolist() == ids.tolist()
    assert table["area_px"].tolist() == areas.tolist()
    for row in table.to_dict("records"):
        y, x = np.nonzero(labels == row["id"])
        assert row["centroid_y"] == pytest.approx(y.mean())
        assert row["centroid_x"] == pytest.approx(x.mean())
        box = [row[name] for name in ("y0", "x0", "y1", "x1")]
        assert box == [y.min(), x.min(), y.max() + 1, x.max() + 1]


def test_a_table_row_says_what_was_found() -> None:
    stitched = as_stitched(disks([(20, 30), (20, 1000)], [10, 10], [0.5, 0.75]), (40, 60))
    boxes = np.array([[15, 25, 25, 35], [40, 60, 0, 0]])
    centroids = np.array([[20.0, 30.0], [0.0, 0.0]])
    table = instance_table(stitched, boxes, np.array([78, 0]), centroids)
    assert table.to_dict("records") == [
        {
            "id": 1,
            "y0": 15,
            "x0": 25,
            "y1": 25,
            "x1": 35,
            "score": 0.5,
            "class": 0,
            "area_px": 78,
            "centroid_y": 20.0,
            "centroid_x": 30.0,
            "tile": 0,
            "cut": False,
        }
    ]


@pytest.mark.parametrize(("n", "dtype"), [(65535, np.uint16), (65536, np.uint32)])
def test_ids_take_as_few_bytes_as_they_need(n: int, dtype: type) -> None:
    boxes = np.zeros((n, 4), np.float32)
    boxes[:, 1] = np.arange(n)
    boxes[:, 2:] = boxes[:, :2] + 1
    found = Instances(
        boxes, np.ones(n, np.float32), np.zeros(n, np.int32), np.full((n, 1, 1), 255, np.uint8)
    )
    drawing = Drawing(as_stitched(found, (1, n)), (1, n))
    _, first = next(drawing.windows(1024))
    assert first.dtype == dtype
    np.testing.assert_array_equal(first[0], np.arange(1, 1025))
