"""Where a layer lies in the viewer, and what of it the canvas shows."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dinomask.layers.images import shape_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_dinomask.layers.images import PlaneView

    Array = npt.NDArray[Any]
    Box = tuple[int, int, int, int]

_PLANE_NDIM = 2

_MARGIN = 2 / 3
"""Share of the canvas that a window fills that is looked at."""


def placement(
    layer: Layer, index: Array, displayed: tuple[int, int] = (0, 0), factor: float = 1
) -> dict[str, Any]:
    """Return the transform of another layer, whose origin is a layer's pixel `index`.

    Parameters
    ----------
    layer : of the same axes
    index : shape (ndim,), may lie between pixels
    displayed, factor : axes along which the other layer's pixels are larger
    """
    shift = np.asarray(layer.data_to_world(index)) - layer.data_to_world(np.zeros(layer.ndim))
    # a layer's affine acts after its translate
    shift = np.linalg.solve(layer.affine.linear_matrix, shift)
    scale = np.array(layer.scale)
    if factor != 1:
        scale[list(displayed)] *= factor
    return {
        "scale": scale,
        "translate": layer.translate + shift,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


class Lifted:
    """An array of labels as one of more axes, in another order, read only where it is sliced.

    Parameters
    ----------
    array : what is sliced
    axes : for each of its axes, which of the whole it is; the last two are height and width
    ndim : axes of the whole; those not in `axes` have length 1
    """

    def __init__(self, array: Any, axes: tuple[int, ...], ndim: int) -> None:
        self._array = array
        self._axes = axes
        self.dtype = array.dtype
        self.ndim = ndim
        window = [range(1)] * ndim
        for axis, size in zip(axes, array.shape, strict=True):
            window[axis] = range(int(size))
        self._show(window)

    def _show(self, window: list[range]) -> None:
        self._window = window
        self.shape = tuple(len(part) for part in window)
        self.size = int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> Any:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            i = keys.index(Ellipsis)
            keys[i : i + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        keys += [slice(None)] * (self.ndim - len(keys))
        parts = [
            part[k if isinstance(k, slice) else int(k)]
            for part, k in zip(self._window, keys, strict=True)
        ]
        if len(self._axes) > _PLANE_NDIM and all(isinstance(part, range) for part in parts):
            # napari cuts out what is on the canvas before it chooses a plane of it
            cut = Lifted(self._array, self._axes, self.ndim)
            cut._show(parts)
            return cut
        return self._read(parts)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self._read(list(self._window)), dtype)

    def _read(self, parts: list[Any]) -> Array:
        """Read what an index, or a range of them, on each axis selects."""
        block = np.asarray(self._array[tuple(_slice(parts[axis]) for axis in self._axes)])
        # what was read begins at 0 now
        rest = [
            (slice(None) if axis in self._axes else _slice(part)) if isinstance(part, range) else 0
            for axis, part in enumerate(parts)
        ]
        return np.asarray(lift(block, self.ndim, self._axes)[tuple(rest)])


def _slice(part: int | range) -> slice:
    part = range(part, part + 1) if isinstance(part, int) else part
    return slice(part.start, part.stop, part.step)


def lift(array: Array, ndim: int, axes: tuple[int, ...]) -> Array:
    """Return a view of an array with further axes of length 1, and the others in their places.

    Parameters
    ----------
    array : of labels, the last two axes height and width
    ndim : axes of the view
    axes : where each of the array's axes is among them
    """
    shape = [1] * ndim
    for axis, size in zip(axes, array.shape, strict=True):
        shape[axis] = size
    return array.transpose(np.argsort(axes)).reshape(shape)


def visible_window(viewer: ViewerModel, layer: Layer, displayed: tuple[int, int]) -> Box | None:
    """Return what of a layer the canvas shows, in pixels of the finest level; None if nothing.

    `Layer.corner_pixels` would be less exact: it holds whole chunks of a pyramid.
    """
    if viewer.dims.ndisplay != 2:
        return None
    axes = list(displayed)
    camera = viewer.scene.camera
    half = np.array(viewer.canvas.size, float) / (2 * camera.zoom)
    middle = np.array(camera.center[-2:], float)
    corners = []
    for sign in itertools.product((-1, 1), repeat=2):
        point = np.array(layer.data_to_world(np.zeros(layer.ndim)), float)
        point[axes] = (middle + sign * half) * _own_units(viewer, layer)[axes]
        corners.append(np.asarray(layer.world_to_data(point))[axes])
    shape = np.array(shape_of(layer))[axes]
    # a pixel's middle has whole coordinates
    first = np.clip(np.floor(np.min(corners, axis=0) + 0.5), 0, shape).astype(int).tolist()
    end = np.clip(np.ceil(np.max(corners, axis=0) + 0.5), 0, shape).astype(int).tolist()
    if end[0] <= first[0] or end[1] <= first[1]:
        return None
    return first[0], first[1], end[0], end[1]


def look_at(
    viewer: ViewerModel,
    layer: Layer,
    view: PlaneView,
    window_yxyx_px: tuple[float, float, float, float],
) -> None:
    """Move the camera, and the sliders, to a window of a layer's plane."""
    axes = list(view.displayed)
    corners = np.array([view.index, view.index], float)[:, : layer.ndim]
    corners[:, axes] = np.reshape(window_yxyx_px, (2, 2))
    world = np.array([layer.data_to_world(corner) for corner in corners])
    world /= _own_units(viewer, layer)
    offset = viewer.dims.ndim - layer.ndim
    for axis in set(range(layer.ndim)) - set(axes):
        viewer.dims.set_point(offset + axis, world[0, axis])
    viewer.scene.camera.center = tuple(world.mean(axis=0)[axes])
    size = np.abs(world[1] - world[0])[axes]
    viewer.scene.camera.zoom = _MARGIN * float(np.min(np.array(viewer.canvas.size) / size))


def _own_units(viewer: ViewerModel, layer: Layer) -> Array:
    """Return how many of a layer's units make one of the viewer's, for each of its axes."""
    factors = np.ones(layer.ndim)
    units = (viewer.dims.units or ())[-layer.ndim :]
    for i, (shown, own) in enumerate(zip(units, layer.units, strict=False)):
        if shown != own:
            factors[i] = (1 * shown).to(own).magnitude
    return factors
