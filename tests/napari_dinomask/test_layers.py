"""Layers of every kind: what is read from them, and where the result is put."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel

from dinomask.errors import AxesError
from dinomask.instances import Instances
from dinomask.run.segment import Segmentation
from dinomask.tiles.stitch import Stitched
from napari_dinomask.layers import (
    add_result,
    drawn_diameter_px,
    facts_of,
    image_layers,
    open_layer,
    start_drawing,
    view_of,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

rng = np.random.default_rng(0)
STACK_TZYX = rng.integers(0, 999, (3, 5, 40, 60), np.uint16)


def _segmentation(labels_yx: Array) -> Segmentation:
    """Return a result of label 1 and 3; 2 lost all its pixels."""
    table = pd.DataFrame(
        {
            "id": np.array([1, 3], np.uint32),
            "score": np.array([0.9, 0.6], np.float32),
            "class": np.array([0, 0], np.int32),
            "area_px": [int((labels_yx == i).sum()) for i in (1, 3)],
            "centroid_y": [1.0, 2.0],
            "centroid_x": [3.0, 4.0],
        }
    )
    none = np.zeros(0, np.int64)
    stitched = Stitched(Instances.empty(), none, none.astype(np.uint32), 0)
    return Segmentation(stitched, table, labels_yx, 8.0, (), {"model": {"name": "tiny"}})


def _labels(shape: tuple[int, int]) -> Array:
    labels_yx = np.zeros(shape, np.uint32)
    labels_yx[2:8, 3:13] = 1
    labels_yx[20:30, 5:9] = 3
    return labels_yx


def _read(viewer: ViewerModel, channels: tuple[int, ...] = ()) -> Array:
    layer = image_layers(viewer)[0]
    image = open_layer(layer, view_of(layer, viewer.dims), channels)
    return image.read((0, 0, *image.shape_yx))


def test_the_displayed_plane_of_a_stack_is_read() -> None:
    viewer = ViewerModel()
    viewer.add_image(STACK_TZYX, scale=(2, 5, 0.5, 0.5), translate=(0, 100, 0, 0))
    viewer.dims.current_step = (2, 3, 0, 0)
    np.testing.assert_array_equal(_read(viewer)[0], STACK_TZYX[2, 3])
    facts = facts_of(viewer.layers[0], view_of(viewer.layers[0], viewer.dims))
    assert facts.plane == (("t", 2, 3), ("z", 3, 5))


def test_a_view_across_the_stack_is_read_as_it_is_seen() -> None:
    viewer = ViewerModel()
    viewer.add_image(STACK_TZYX[0])
    viewer.dims.order = (1, 2, 0)
    viewer.dims.set_point(1, 17)
    np.testing.assert_array_equal(_read(viewer)[0], STACK_TZYX[0, :, 17].T)


def test_units_of_other_layers_do_not_move_the_plane() -> None:
    viewer = ViewerModel()
    viewer.add_image(STACK_TZYX[0], scale=(2, 1, 1), units=("µm", "µm", "µm"))
    viewer.add_points(np.zeros((1, 3)), scale=(500, 500, 500), units=("nm", "nm", "nm"))
    viewer.dims.set_current_step(0, viewer.dims.nsteps[0] - 1)
    np.testing.assert_array_equal(_read(viewer)[0], STACK_TZYX[0, -1])


def test_channels_are_the_shown_one_a_chosen_one_or_all() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(STACK_TZYX[0], axis_labels=("c", "y", "x"))
    viewer.dims.set_current_step(0, 4)
    facts = facts_of(layer, view_of(layer, viewer.dims))
    assert (facts.n_channels, facts.shown_channel, facts.plane) == (5, 4, ())
    np.testing.assert_array_equal(_read(viewer, (1,))[0], STACK_TZYX[0, 1])
    np.testing.assert_array_equal(_read(viewer), STACK_TZYX[0])


def test_colour_stays_colour() -> None:
    viewer = ViewerModel()
    pixels = rng.integers(0, 255, (40, 50, 3), np.uint8)
    layer = viewer.add_image(pixels, rgb=True)
    assert facts_of(layer, view_of(layer, viewer.dims)).is_rgb
    np.testing.assert_array_equal(_read(viewer), np.moveaxis(pixels, -1, 0))


def test_the_finest_level_of_a_pyramid_is_read() -> None:
    viewer = ViewerModel()
    pyramid = [STACK_TZYX[0, 0], STACK_TZYX[0, 0, ::2, ::2]]
    layer = viewer.add_image(pyramid, multiscale=True)
    assert facts_of(layer, view_of(layer, viewer.dims)).shape_yx == (40, 60)
    np.testing.assert_array_equal(_read(viewer)[0], pyramid[0])


def test_a_plane_that_is_not_on_display_is_an_error_with_a_remedy() -> None:
    viewer = ViewerModel()
    viewer.add_image(STACK_TZYX[0])
    layer = viewer.add_image(STACK_TZYX[0, :2])
    viewer.dims.set_current_step(0, 4)
    with pytest.raises(AxesError, match="slider"):
        view_of(layer, viewer.dims)


def test_more_axes_than_names_is_an_error() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((2, 2, 2, 8, 8)))
    with pytest.raises(AxesError, match="axis_labels"):
        view_of(layer, viewer.dims)


@pytest.mark.parametrize(
    ("order", "transform"),
    [
        ((0, 1, 2), {"scale": (3, 0.5, 0.25), "translate": (7, -2, 5)}),
        ((1, 2, 0), {"scale": (3, 0.5, 0.25), "translate": (7, -2, 5)}),
        ((2, 0, 1), {"affine": np.diag((2, 3, 4, 1)), "translate": (7, -2, 5)}),
        ((0, 1), {"rotate": 30, "scale": (2, 1), "translate": (7, -2)}),
        ((0, 1), {"shear": [0.3], "affine": np.array([[0, 1, 2], [1, 0, 3], [0, 0, 1]])}),
    ],
)
def test_the_result_covers_the_pixels_it_was_made_of(
    order: tuple[int, ...], transform: dict[str, Any]
) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(rng.random((50, 40, 60)[-len(order) :]), **transform)
    viewer.dims.order = order
    viewer.dims.set_point(range(len(order)), layer.data_to_world((11, 12, 13)[: len(order)]))
    view = view_of(layer, viewer.dims)
    labels_yx = _labels(facts_of(layer, view).shape_yx)
    result = add_result(viewer, layer, view, _segmentation(labels_yx))
    pixel = np.array(view.index)
    pixel[list(view.displayed)] = (4, 7)
    world = layer.data_to_world(pixel)
    assert result.data[tuple(np.round(result.world_to_data(world)).astype(int))] == 1
    assert result.units == layer.units


def test_features_are_aligned_with_labels() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((40, 50)), name="cells")
    labels_yx = _labels((40, 50))
    result = add_result(viewer, layer, view_of(layer, viewer.dims), _segmentation(labels_yx))
    features = result.features
    assert result.name == "cells · DINOmask"
    assert list(features["index"]) == [0, 1, 2, 3]
    assert list(features["area_px"]) == [0, 60, 0, 40]
    assert features["score"][3] == pytest.approx(0.6)
    assert np.isnan(features["score"][0])
    assert result.metadata["dinomask"]["model"]["name"] == "tiny"


def test_a_second_result_leaves_the_first_alone() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((40, 50)))
    view = view_of(layer, viewer.dims)
    first = add_result(viewer, layer, view, _segmentation(_labels((40, 50))))
    first.data[0, 0] = 9
    second = add_result(viewer, layer, view, _segmentation(_labels((40, 50))))
    assert first.data[0, 0] == 9
    assert first.name != second.name
    assert len(viewer.layers) == 3


def test_a_drawn_cell_is_measured_in_pixels_of_the_image() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(STACK_TZYX, scale=(1, 1, 0.5, 0.5), translate=(0, 0, 9, 9))
    shapes = start_drawing(viewer, layer)
    view = view_of(layer, viewer.dims)
    assert drawn_diameter_px(shapes, layer, view) is None
    frame_yx = np.array([[0, 0], [0, 20], [20, 20], [20, 0]])
    shapes.add_ellipses(np.pad(frame_yx, ((0, 0), (2, 0))))
    assert drawn_diameter_px(shapes, layer, view) == pytest.approx(20)
    # in a layer of the user's own, in world coordinates
    own = viewer.add_shapes(frame_yx, shape_type="rectangle")
    assert drawn_diameter_px(own, layer, view) == pytest.approx(40)
    assert start_drawing(viewer, layer) is shapes


def test_a_click_is_no_cell() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((40, 50)))
    shapes = start_drawing(viewer, layer)
    shapes.add_ellipses(np.array([[5, 5], [5, 5.1], [5.1, 5.1], [5.1, 5]]))
    assert drawn_diameter_px(shapes, layer, view_of(layer, viewer.dims)) is None
