"""Every object has a colour, and the legend says which."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_dinomask.colouring import CATEGORIES, STEPS, colour_by


def test_classes_have_colours_of_their_own_the_largest_first() -> None:
    colouring = colour_by(pd.Series([0, 1, 1, 1, 2, 2], name="class"))
    assert [(c.name, c.count) for c in colouring.categories] == [("1", 3), ("2", 2), ("0", 1)]
    assert colouring.limits is None
    for category in colouring.categories:
        assert len(colouring.rows_of(category.code)) == category.count
    assert len({colouring.colours[c.code] for c in colouring.categories}) == 3


def test_more_classes_than_colours_leave_the_smallest_to_one_grey() -> None:
    names = [f"c{i}" for i in range(20) for _ in range(i + 1)]
    colouring = colour_by(pd.Series(names, name="image"))
    assert len(colouring.categories) == len(CATEGORIES) + 1
    rest = colouring.categories[-1]
    assert rest.name == "13 others"
    assert sum(c.count for c in colouring.categories) == len(names)


@pytest.mark.parametrize("missing", [None, np.nan])
def test_objects_without_a_value_are_grey_and_said_so(missing: float | None) -> None:
    colouring = colour_by(pd.Series([1.0, missing, 1.0], name="cluster"))
    assert [(c.name, c.count) for c in colouring.categories] == [("1", 2), ("none", 1)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_colours_of_numbers_grow_with_them(values: list[float]) -> None:
    column = pd.Series([*values, 0.5, 0.25, 0.125, 0.3, 0.7, 0.9, 0.11, 0.13], name="score")
    colouring = colour_by(column)
    assert colouring.limits is not None
    order = np.argsort(column.to_numpy(), kind="stable")
    assert (np.diff(colouring.codes[order].astype(int)) >= 0).all()
    assert colouring.codes.max() < STEPS


def test_numbers_that_are_not_there_or_all_alike_have_a_colour_too() -> None:
    column = pd.Series([2.5, 2.5, np.nan, np.inf], name="area_px")
    colouring = colour_by(column)
    assert colouring.limits == (2.5, 2.5)
    assert (colouring.codes == STEPS).tolist() == [False, False, True, True]
    nothing = colour_by(pd.Series([np.nan, np.nan], name="score", dtype=float))
    assert len(nothing.codes) == 2


def test_names_of_clusters_are_whole_numbers() -> None:
    column = pd.Series(np.arange(30) % 10, name="cluster").astype(float)
    assert all("." not in c.name for c in colour_by(column).categories)
    # a column of as many different numbers that is none of names is a scale
    assert colour_by(pd.Series(np.arange(30) % 10, name="area_px")).limits is not None
