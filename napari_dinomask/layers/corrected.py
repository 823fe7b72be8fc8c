"""A Labels layer that is being corrected: written through, and watched for what others paint."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from dinomask.adapt.label_store import ArrayStore
from dinomask.errors import InputError
from napari_dinomask.layers.images import shape_of, world_point
from napari_dinomask.layers.place import lift, placement
from napari_dinomask.layers.results import RESULT_SUFFIX, saved_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt
    from napari.components import Dims, ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_dinomask.layers.images import PlaneView

    Array = npt.NDArray[Any]
    Box = tuple[int, int, int, int]
    Point = tuple[float, float]
    Place = tuple[int, ...]
    OnPainted = Callable[[Array, Array, tuple[int, int], Place], bool]


class CorrectedLayer:
    """A Labels layer in memory as a store of labels, and what is painted on it as an event.

    Parameters
    ----------
    viewer : where it is
    labels : the layer
    displayed : its axes along height and width
    on_painted : told what a window showed before and shows now, its corner and plane, when
        the user painted with napari's tools or something else changed the labels; False
        puts the labels back

    Attributes
    ----------
    store : the labels; what is written there shows at once

    Raises
    ------
    InputError
        If the layer can't be changed in place.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        labels: Labels,
        displayed: tuple[int, int],
        on_painted: OnPainted,
    ) -> None:
        _require_editable(labels)
        self.labels = labels
        self.displayed = displayed
        self._viewer = viewer
        self._on_painted = on_painted
        self._leading = [axis for axis in range(labels.ndim) if axis not in displayed]
        self._quiet = 0
        self._dirty: Box | None = None
        self._held: list[tuple[Any, ...]] | None = None
        self.store = _LayerStore(self)
        self._known = self.store.labels.copy()
        labels.events.labels_update.connect(self._on_update)
        labels.events.paint.connect(self._on_paint)
        labels.events.set_data.connect(self._on_set_data)

    @property
    def is_open(self) -> bool:
        """Whether the layer is still there."""
        return self.labels in self._viewer.layers

    @property
    def array(self) -> Array:
        """The labels with height and width last; a view."""
        data: Array = self.labels.data
        return data.transpose([*self._leading, *self.displayed])

    @property
    def plane(self) -> Place | None:
        """Index of the plane on display; None if there is none, as in 3-D."""
        return plane_of(self.labels, self._viewer.dims, self.displayed)

    def point_at(self, position: Any) -> Point | None:
        """Return a place of the canvas in pixels of the labels; None outside of them."""
        if self.plane is None:
            return None
        data = np.asarray(self.labels.world_to_data(position[-self.labels.ndim :]))
        # a pixel's middle has whole coordinates in napari
        y, x = (float(data[axis]) + 0.5 for axis in self.displayed)
        height, width = self.store.shape_yx
        return (y, x) if 0 <= y < height and 0 <= x < width else None

    def put(self, plane: Place, corner_yx_px: tuple[int, int], labels_yx: Array) -> None:
        """Write a window, and show it."""
        (y, x), (height, width) = corner_yx_px, labels_yx.shape
        here = (*plane, slice(y, y + height), slice(x, x + width))
        rows, columns = np.nonzero(self.array[here] != labels_yx)
        if not len(rows):
            return
        indices: list[Any] = [None] * self.labels.ndim
        indices[self.displayed[0]], indices[self.displayed[1]] = rows + y, columns + x
        for axis, index in zip(self._leading, plane, strict=True):
            indices[axis] = np.full(len(rows), index)
        with self.quietly():
            self.labels.data_setitem(tuple(indices), labels_yx[rows, columns])
        self._known[here] = self.array[here]

    def hold(self) -> None:
        """Write to the labels without showing it, so that a thread may do so."""
        self._held = []

    def show_held(self) -> None:
        """Show what was written since, and write as before again."""
        held, self._held = self._held or [], None
        for here in held:
            self._known[here] = self.array[here]
        if held:
            with self.quietly():
                self.labels.refresh(extent=False)

    def replace(self, labels: Array) -> None:
        """Put other labels of the same shape in the place of all."""
        with self.quietly():
            self.array[...] = labels
            self._known[...] = labels
            self.labels.refresh(extent=False)

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Change the labels without hearing of it."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1

    def close(self) -> None:
        """Stop watching."""
        self.labels.events.labels_update.disconnect(self._on_update)
        self.labels.events.paint.disconnect(self._on_paint)
        self.labels.events.set_data.disconnect(self._on_set_data)

    def _on_update(self, event: Any) -> None:
        """Take note of where the layer shows other labels, in displayed pixels."""
        if self._quiet or len(event.offset) != 2:
            return
        (y, x), (height, width) = event.offset, event.data.shape[:2]
        box = (int(y), int(x), int(y) + height, int(x) + width)
        a = self._dirty or box
        self._dirty = (*map(min, a[:2], box[:2]), *map(max, a[2:], box[2:]))

    def _on_paint(self, event: Any) -> None:
        """Tell of a stroke that ended."""
        dirty, self._dirty = self._dirty, None
        if not self._quiet and dirty is not None:
            self._compare(dirty)

    def _on_set_data(self, event: Any) -> None:
        """Tell of a change by other means, such as napari's own undo."""
        if self._quiet or self.plane is None or self.array.shape != self._known.shape:
            return
        self.store.labels = self.array
        known = self._known[self.plane]
        if not np.array_equal(known, self.array[self.plane]):
            self._compare((0, 0, *self.store.shape_yx))

    def _compare(self, box: Box) -> None:
        plane = self.plane
        if plane is None:
            return
        y0, x0, y1, x1 = box
        before, after = (a[plane][y0:y1, x0:x1] for a in (self._known, self.array))
        differs = before != after
        rows, columns = (np.flatnonzero(differs.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return
        tight = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        corner = (y0 + int(rows[0]), x0 + int(columns[0]))
        before, after = before[tight].copy(), after[tight].copy()
        if self._on_painted(before, after, corner, plane):
            self._known[plane][y0:y1, x0:x1][tight] = after
        else:
            self.put(plane, corner, before)


class _LayerStore(ArrayStore):
    """Labels of a layer, which shows what is written."""

    def __init__(self, layer: CorrectedLayer) -> None:
        super().__init__(layer.array)
        self._layer = layer

    def write(
        self, corner_yx_px: tuple[int, int], labels_yx: Array, plane: tuple[int, ...] = ()
    ) -> None:
        """Write labels and show them, unless that is held back."""
        held = self._layer._held
        if held is not None:
            super().write(corner_yx_px, labels_yx, plane)
            (y, x), (height, width) = corner_yx_px, labels_yx.shape
            held.append((*plane, slice(y, y + height), slice(x, x + width)))
            return
        super().write(corner_yx_px, self.labels[plane][:0, :0], plane)
        self._layer.put(plane, corner_yx_px, labels_yx)


def plane_of(labels: Labels, dims: Dims, displayed: tuple[int, int]) -> tuple[int, ...] | None:
    """Return the index of a layer's plane on display on its other axes; None if there is none."""
    offset = dims.ndim - labels.ndim
    if dims.ndisplay != 2 or tuple(a - offset for a in dims.order[-2:]) != displayed:
        return None
    position = labels.world_to_data(world_point(labels, dims))
    shape = shape_of(labels)
    leading = [axis for axis in range(labels.ndim) if axis not in displayed]
    place = tuple(round(float(position[axis])) for axis in leading)
    inside = all(0 <= i < shape[axis] for i, axis in zip(place, leading, strict=True))
    return place if inside else None


def correctable(viewer: ViewerModel, image: ImageLayer, view: PlaneView) -> list[Labels]:
    """Return the Labels layers that lie on an image pixel for pixel, the active one first."""
    active = viewer.layers.selection.active
    found = [
        layer
        for layer in reversed(viewer.layers)
        if isinstance(layer, Labels) and _lies_on(layer, image, view)
    ]
    return sorted(found, key=lambda layer: layer is not active)


def add_empty(viewer: ViewerModel, image: ImageLayer, view: PlaneView) -> Labels:
    """Add a Labels layer without an object on the plane of an image that is on display."""
    shape = shape_of(image)
    empty = np.zeros((shape[view.displayed[0]], shape[view.displayed[1]]), np.int32)
    return viewer.add_labels(
        lift(empty, image.ndim, view.displayed),
        name=image.name + RESULT_SUFFIX,
        **placement(image, np.array(view.index[: image.ndim])),
    )


def made_by(labels: Labels) -> dict[str, Any]:
    """Return the report of the run that made a layer; empty for other layers."""
    report = labels.metadata.get("dinomask")
    return report if isinstance(report, dict) else {}


def _lies_on(labels: Labels, image: ImageLayer, view: PlaneView) -> bool:
    if labels.multiscale or labels.ndim > image.ndim:
        return False
    missing = image.ndim - labels.ndim
    rows, columns = (axis - missing for axis in view.displayed)
    if min(rows, columns) < 0:
        return False
    shape, own = shape_of(image), shape_of(labels)
    same_size = all(own[a - missing] == shape[a] for a in view.displayed)
    corners = [np.zeros(image.ndim), np.array(shape[: image.ndim], float)]
    axes = list(view.displayed)
    ends = [np.asarray(image.data_to_world(corner))[axes] for corner in corners]
    ours = [
        np.asarray(labels.data_to_world(corner[missing:]))[[rows, columns]] for corner in corners
    ]
    size = np.abs(ends[1] - ends[0]) / np.array([shape[a] for a in axes])
    return same_size and all(
        bool(np.all(np.abs(a - b) < size / 2)) for a, b in zip(ends, ours, strict=True)
    )


def _require_editable(labels: Labels) -> None:
    if saved_path(labels) is not None or not isinstance(labels.data, np.ndarray):
        raise InputError(
            expected="labels in memory",
            got=f"the layer {labels.name!r}, which is read from disk where it is looked at",
            remedy="Press “Edit this view” in the Segment panel, and correct that part.",
        )
