"""Chosen labels are shown over their layer, which stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_dinomask.layers import CHOSEN_SUFFIX, PaintLayer
from napari_dinomask.layers.paint import Coded, CodeTable

if TYPE_CHECKING:
    from napari.layers import Labels

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def labels(viewer: ViewerModel) -> Labels:
    """A stack of two planes with 16 squares each, of half a µm a pixel."""
    plane = np.arange(1, 17, dtype=np.int32).reshape(4, 4).repeat(8, 0).repeat(8, 1)
    return viewer.add_labels(
        np.stack([plane, 20 + plane]), name="cells", scale=(2.0, 0.5, 0.5), translate=(0, 3, 5)
    )


def _shown(layer: Any, level: int = 0) -> set[int]:
    return set(np.unique(np.asarray(layer.data[level])).tolist())


@given(
    st.lists(st.integers(1, 2**40), min_size=1, max_size=20, unique=True),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=20),
)
def test_codes_are_those_of_the_labels_whatever_their_size(
    known: list[int], asked: list[int]
) -> None:
    table = CodeTable()
    codes = np.arange(1, len(known) + 1, dtype=np.uint8)
    table.set(np.array(known), codes)
    code_of = dict(zip(known, codes.tolist(), strict=True))
    pixels = np.array([*known, *asked])
    assert table.look_up(pixels).tolist() == [code_of.get(p, 0) for p in pixels.tolist()]


def test_levels_of_a_pyramid_share_the_table() -> None:
    table = CodeTable()
    labels_yx = np.arange(16).reshape(4, 4)
    fine, coarse = Coded(labels_yx, table), Coded(labels_yx[::2, ::2], table)
    table.set(np.array([2, 8]), 5)
    assert fine[0].tolist() == [0, 0, 5, 0]
    assert np.asarray(coarse).tolist() == [[0, 5], [5, 0]]
    table.set(np.array([], np.int64), 5)
    assert not np.asarray(fine).any()


def test_it_lies_on_the_plane_and_shows_only_the_chosen(
    viewer: ViewerModel, labels: Labels
) -> None:
    before = labels.data.copy()
    viewer.layers.selection.active = labels
    paint = PaintLayer(viewer, labels, (1, 0, 0), (1, 2), CHOSEN_SUFFIX, contour_px=2)
    paint.show(np.array([21, 36]), np.array([1, 2]), [RED, BLUE])
    layer = paint.layer
    assert layer is not None
    assert layer.name == "cells" + CHOSEN_SUFFIX
    assert _shown(layer) == {0, 1, 2}
    assert _shown(layer, 1) == {0, 1, 2}
    corner = layer.data_to_world((0, 0, 0))
    assert np.allclose(corner, labels.data_to_world((1, 0, 0)))
    assert layer.get_value(corner) is not None
    assert np.allclose(layer.colormap.map(np.array([2]))[0], (*BLUE, 1))
    # the user's own layer stays as it is, and in hand
    assert np.array_equal(labels.data, before)
    assert viewer.layers.selection.active is labels


def test_others_are_shown_in_the_same_layer_until_it_is_taken_away(
    viewer: ViewerModel, labels: Labels
) -> None:
    paint = PaintLayer(viewer, labels, (0, 0, 0), (1, 2), CHOSEN_SUFFIX)
    paint.show(np.array([], np.int64), 1, [RED])
    assert not paint.is_open
    paint.show(np.array([4]), 1, [RED])
    first = paint.layer
    paint.show_alike(np.array([1, 2, 3]), RED)
    assert paint.layer is first
    # neighbours have codes of their own, or they would share an outline
    assert len(_shown(first)) == 4
    assert all(np.allclose(first.colormap.map(np.array([c]))[0], (*RED, 1)) for c in (2, 3, 4))
    viewer.layers.remove(first)
    assert not paint.is_open
    paint.show(np.array([4]), 1, [RED])
    assert paint.is_open
    paint.remove()
    assert len(viewer.layers) == 1
    paint.refresh()


def test_it_follows_the_labels(viewer: ViewerModel, labels: Labels) -> None:
    paint = PaintLayer(viewer, labels, (0, 0, 0), (1, 2), CHOSEN_SUFFIX)
    paint.show(np.array([1]), 1, [RED])
    labels.data[0][labels.data[0] == 1] = 0
    paint.refresh()
    assert paint.layer is not None
    assert _shown(paint.layer) == {0}


def test_it_is_lifted_above_layers_that_came_later(viewer: ViewerModel, labels: Labels) -> None:
    paint = PaintLayer(viewer, labels, (0, 0, 0), (1, 2), CHOSEN_SUFFIX)
    paint.show(np.array([1]), 1, [RED])
    viewer.add_image(np.zeros((32, 32)))
    paint.lift()
    assert viewer.layers[-1] is paint.layer
