"""Layers of every kind: what is read from them, and where the result is put."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel

from dinomask.errors import AxesError
from dinomask.instances import Instances
from dinomask.run.segment import Segmentation
from dinomask.tiles import preview as preview_module
from dinomask.tiles.render import render_window
from dinomask.tiles.stitch import Stitched
from dinomask.tiles.write import write_labels
from napari_dinomask.layers import (
    PreviewLayer,
    add_result,
    add_saved,
    drawn_diameter_px,
    facts_of,
    image_layers,
    look_at,
    open_layer,
    saved_layers,
    saved_path,
    start_drawing,
    view_of,
    visible_window,
)
from napari_dinomask.layers.place import Lifted, lift

if TYPE_CHECKING:
    from pathlib import Path

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


ORDERS = [(0, 1, 2), (1, 2, 0), (2, 1, 0)]


@pytest.mark.parametrize("order", ORDERS)
def test_a_plane_is_sliced_like_the_array_it_stands_for(order: tuple[int, int, int]) -> None:
    plane_yx = rng.integers(0, 99, (30, 40))
    displayed = (order[1], order[2])
    plane = Lifted(plane_yx, displayed, 3)
    whole = lift(plane_yx, 3, displayed)
    assert plane.shape == whole.shape
    np.testing.assert_array_equal(plane, whole)
    keys: list[Any] = [slice(None)] * 3
    keys[order[1]], keys[order[2]] = slice(3, 20), slice(5, 9)
    for key in (
        tuple(keys),
        tuple(0 if i == order[0] else k for i, k in enumerate(keys)),
        tuple(7 if i == order[1] else k for i, k in enumerate(keys)),
        (Ellipsis, keys[2]),
        keys[0],
    ):
        np.testing.assert_array_equal(plane[key], whole[key])


@pytest.mark.parametrize("axes", [(0, 1, 3, 4), (3, 0, 4, 2), (1, 4, 2, 0)])
def test_planes_are_sliced_like_the_array_they_stand_for(axes: tuple[int, ...]) -> None:
    planes = rng.integers(0, 99, (3, 5, 30, 40))
    lazy, whole = Lifted(planes, axes, 5), lift(planes, 5, axes)
    assert lazy.shape == whole.shape
    np.testing.assert_array_equal(lazy, whole)
    keys: list[Any] = [slice(None)] * 5
    keys[axes[2]], keys[axes[3]] = slice(3, 20), slice(5, 30, 2)
    cut, part = lazy[tuple(keys)], whole[tuple(keys)]
    # nothing is read before a plane is chosen
    assert isinstance(cut, Lifted)
    np.testing.assert_array_equal(cut, part)
    chosen: list[Any] = [0] * 5
    chosen[axes[0]], chosen[axes[1]] = -1, 3
    chosen[axes[2]], chosen[axes[3]] = slice(None), slice(1, 7)
    np.testing.assert_array_equal(cut[tuple(chosen)], part[tuple(chosen)])
    assert isinstance(cut[tuple(chosen)], np.ndarray)
    with pytest.raises(IndexError):
        lazy[40]


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_looked_at_is_on_the_canvas(order: tuple[int, int, int]) -> None:
    viewer = ViewerModel()
    scale, units = (3.0, 0.5, 0.25), ("µm", "µm", "µm")
    layer = viewer.add_image(
        rng.random((50, 400, 600)), scale=scale, translate=(7, -2, 5), units=units
    )
    viewer.dims.order = order
    viewer.dims.set_point(order[0], float(layer.data_to_world((11, 12, 13))[order[0]]))
    view = view_of(layer, viewer.dims)
    whole = visible_window(viewer, layer, view.displayed)
    assert whole is not None
    wanted = (10, 12, 25, 33)
    look_at(viewer, layer, view, wanted)
    window = visible_window(viewer, layer, view.displayed)
    assert window is not None
    y0, x0, y1, x1 = window
    assert (y0 <= 10, x0 <= 12, y1 >= 25, x1 >= 33) == (True,) * 4
    assert view_of(layer, viewer.dims) == view
    viewer.scene.camera.center = (1e6, 1e6)
    assert visible_window(viewer, layer, view.displayed) is None


@pytest.mark.parametrize("order", ORDERS)
def test_a_result_on_disk_lies_where_one_in_memory_would(
    order: tuple[int, int, int], tmp_path: Path
) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(rng.random((50, 40, 60)), scale=(3, 0.5, 0.25), translate=(7, -2, 5))
    viewer.dims.order = order
    viewer.dims.set_point(range(3), layer.data_to_world((11, 12, 13)))
    view = view_of(layer, viewer.dims)
    shape_yx = facts_of(layer, view).shape_yx
    boxes = np.array([[2, 3, 8, 13], [20, 5, 30, 9]], np.float32)
    found = Instances(
        boxes,
        np.ones(2, np.float32),
        np.zeros(2, np.int32),
        np.full((2, 28, 28), 255, np.uint8),
    )
    stitched = Stitched(found, np.zeros(2, np.int64), np.array([1, 2], np.uint32), 0)
    table = write_labels(stitched, shape_yx, tmp_path / "l.zarr")
    labels_yx = render_window(stitched, (0, 0, *shape_yx))
    memory = add_result(
        viewer, layer, view, dataclasses.replace(_segmentation(labels_yx), table=table)
    )
    disk = add_saved(viewer, layer, view, tmp_path / "l.zarr")
    np.testing.assert_array_equal(np.asarray(disk.data[0]), memory.data)
    np.testing.assert_array_equal(disk.translate, memory.translate)
    pd.testing.assert_frame_equal(disk.features, memory.features)
    assert not disk.editable
    assert saved_layers(viewer) == [disk]
    assert saved_path(memory) is None


def test_a_coarse_preview_covers_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_module, "LARGEST_SIDE_PX", 25)
    viewer = ViewerModel()
    layer = viewer.add_image(rng.random((80, 100)), scale=(0.5, 0.5), translate=(3, 4))
    preview = preview_module.Preview((80, 100))
    shown = PreviewLayer(viewer, layer, view_of(layer, viewer.dims), preview)
    assert viewer.layers.selection.active is layer
    # extents end in the middle of the outermost pixels
    half = np.array([[-0.5], [0.5]])
    np.testing.assert_allclose(
        shown.labels.extent.world + half * shown.labels.scale,
        layer.extent.world + half * layer.scale,
    )
    shown.remove()
    shown.remove()
    assert list(viewer.layers) == [layer]
