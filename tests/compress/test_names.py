"""Names of points in a plot don't lie on each other where there is room."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dinomask.compress.bench.names import ANCHORS, spread_names

SHAPE = (600.0, 300.0)


def boxes(points, sizes, anchors):
    corners = np.array(points) - np.array(sizes) * np.array(anchors)
    return np.concatenate([corners, corners + sizes], axis=1)


def overlap(one, other):
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(sides.clip(min=0).prod())


def test_points_at_one_place_get_their_names_at_different_sides():
    points, sizes = [(300, 150)] * 4, [(80, 12)] * 4
    found = boxes(points, sizes, spread_names(points, sizes, SHAPE))
    assert all(overlap(found[i], found[j]) == 0 for i in range(4) for j in range(i))


def test_a_name_stays_within_the_plot_and_off_points_without_one():
    edge = [(2, 150), (300, 3), (598, 297)]
    sizes = [(80, 12)] * 3
    for box in boxes(edge, sizes, spread_names(edge, sizes, SHAPE)):
        assert (box[:2] >= 0).all() and (box[2:] <= SHAPE).all()
    (alone,) = spread_names([(300, 150)], [(80, 12)], SHAPE)
    (beside,) = spread_names([(300, 150), (300, 140)], [(80, 12)], SHAPE)
    assert alone == ANCHORS[0] != beside


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(0, 300)), min_size=1, max_size=30))
def test_every_name_gets_a_place(points):
    anchors = spread_names(points, [(90, 12)] * len(points), SHAPE)
    assert len(anchors) == len(points) and set(anchors) <= set(ANCHORS)
