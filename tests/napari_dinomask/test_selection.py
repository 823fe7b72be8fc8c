"""What is chosen stays chosen; a lasso catches exactly what is inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_dinomask.selection import Cloud, Selection

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

KEYS = st.lists(st.integers(0, 2**40), max_size=30)


def _star(radii: list[float]) -> Array:
    """Return a polygon that doesn't cross itself, around (0, 0)."""
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return np.array(radii)[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])


@given(
    radii=st.lists(st.floats(0.1, 10), min_size=3, max_size=25),
    seed=st.integers(0, 2**32 - 1),
    shift=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
)
def test_a_lasso_catches_exactly_the_points_inside(
    radii: list[float], seed: int, shift: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-12, 12, (300, 2)) + shift
    keys = rng.permutation(10_000)[:300].astype(np.int64)
    corners = _star(radii) + shift
    polygon = shapely.Polygon(corners)
    # a point on the very edge belongs to neither side
    clear = shapely.distance(polygon.exterior, shapely.points(points)) > 1e-9
    cloud = Cloud(keys[clear], points[clear])
    expected = keys[clear][shapely.contains_xy(polygon, points[clear])]
    assert cloud.inside(corners).tolist() == expected.tolist()


def test_a_lasso_that_crosses_itself_leaves_out_what_it_encloses_twice() -> None:
    # a pentagram: its middle is enclosed twice
    angles = np.arange(5) * 4 * np.pi / 5
    corners = np.column_stack([np.cos(angles), np.sin(angles)])
    tip = 0.8 * corners[0]
    cloud = Cloud(np.array([1, 2], np.int64), np.array([[0.0, 0.0], tip]))
    assert cloud.inside(corners).tolist() == [2]


@pytest.mark.parametrize("corners", [np.empty((0, 2)), np.zeros((1, 2)), np.ones((2, 2))])
def test_less_than_three_corners_catch_nothing(corners: Array) -> None:
    cloud = Cloud(np.array([5], np.int64), np.ones((1, 2)))
    assert not len(cloud.inside(corners))


def test_the_nearest_point_is_found_within_reach() -> None:
    cloud = Cloud(np.array([7, 3], np.int64), np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert cloud.nearest((0.9, 0.1), (0.5, 0.5)) == 3
    assert cloud.nearest((0.5, 3.0), (0.5, 0.5)) is None
    # the reach is a matter of pixels, which need not be square
    assert cloud.nearest((0.0, 3.0), (0.1, 4.0)) == 7
    assert Cloud(np.empty(0, np.int64), np.empty((0, 2))).nearest((0, 0), (1, 1)) is None


@given(first=KEYS, second=KEYS)
def test_a_selection_is_a_set_of_keys(first: list[int], second: list[int]) -> None:
    selection = Selection()
    selection.choose(first)
    selection.choose(second, "add")
    assert set(selection.keys.tolist()) == set(first) | set(second)
    assert selection.keys.tolist() == sorted(set(first) | set(second))
    selection.choose(second, "remove")
    assert set(selection.keys.tolist()) == set(first) - set(second)
    assert all((key in selection) == (key in set(first) - set(second)) for key in first + second)


@given(keys=st.lists(st.integers(0, 2**40), min_size=1, max_size=30, unique=True), data=st.data())
def test_sorting_and_filtering_a_table_leaves_the_same_objects_chosen(
    keys: list[int], data: st.DataObject
) -> None:
    chosen = data.draw(st.sets(st.sampled_from(keys)))
    table = pd.DataFrame({"key": keys, "area": np.arange(len(keys))[::-1]})
    selection = Selection()
    selection.choose(chosen)
    for shown in (table, table.sort_values("area"), table[table["area"] % 2 == 0]):
        mask = selection.mask(shown["key"].to_numpy())
        assert set(shown["key"][mask]) == chosen & set(shown["key"])
    assert set(selection.keys.tolist()) == chosen


def test_listeners_hear_of_other_objects_only() -> None:
    selection, heard = Selection(), []
    selection.listen(lambda: heard.append(selection.keys.tolist()))
    selection.choose([3, 1])
    selection.choose([1, 3])
    selection.toggle(1)
    selection.toggle(2)
    selection.keep([2, 9])
    selection.clear()
    selection.clear()
    assert heard == [[1, 3], [3], [2, 3], [2], []]


def test_the_keys_of_a_selection_cant_be_changed_by_the_way() -> None:
    selection = Selection()
    selection.choose([1, 2])
    with pytest.raises(ValueError, match="read-only"):
        selection.keys[0] = 9
