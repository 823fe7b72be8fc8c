"""Clicks on an image, whichever layer is active."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dinomask.layers.corrected import plane_of
from napari_dinomask.layers.hand import CLICK_PX, key_names
from napari_dinomask.layers.images import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Labels

    from napari_dinomask.layers.images import PlaneView

    Array = npt.NDArray[Any]
    Point = tuple[float, float]


class Pointer:
    """Tells where an image is clicked; dragging still moves the camera.

    Parameters
    ----------
    viewer, layer, view : the plane
    on_click : told the place in image pixels, and the keys that were held, by napari's names
    with_keys : whether clicks with a key held are told, too
    """

    def __init__(
        self,
        viewer: ViewerModel,
        layer: ImageLayer,
        view: PlaneView,
        on_click: Callable[[Point, frozenset[str]], None],
        with_keys: bool = False,
    ) -> None:
        self._viewer = viewer
        self._layer = layer
        self._view = view
        self._on_click = on_click
        self._with_keys = with_keys
        viewer.mouse_drag_callbacks.append(self._drag)

    def close(self) -> None:
        """Let go."""
        self._viewer.mouse_drag_callbacks.remove(self._drag)

    def _drag(self, viewer: Any, event: Any) -> Iterator[None]:
        point = self._point_at(event.position)
        keys = key_names(event.modifiers)
        if event.button != 1 or point is None or (keys and not self._with_keys):
            return
        first, is_click = event.pos, True
        yield
        while event.type == "mouse_move":
            moved = max(abs(event.pos[0] - first[0]), abs(event.pos[1] - first[1]))
            is_click &= bool(moved <= CLICK_PX)
            yield
        if is_click:
            self._on_click(point, keys)

    def _point_at(self, position: Any) -> Point | None:
        layer = self._layer
        if layer not in self._viewer.layers or self._viewer.dims.ndisplay != 2:
            return None
        data = np.asarray(layer.world_to_data(position[-layer.ndim :]))
        y, x = (float(data[axis]) + 0.5 for axis in self._view.displayed)
        height, width = (shape_of(layer)[axis] for axis in self._view.displayed)
        return (y, x) if 0 <= y < height and 0 <= x < width else None


def cell_at(
    viewer: ViewerModel, labels: Labels, displayed: tuple[int, int], point_yx_px: Point
) -> tuple[int, Array, tuple[int, int]] | None:
    """Return label, mask and corner of the cell at a point of the plane on display.

    Parameters
    ----------
    labels : in memory, lying on the image pixel for pixel
    displayed : its axes along height and width
    """
    plane = plane_of(labels, viewer.dims, displayed)
    if plane is None or labels not in viewer.layers:
        return None
    leading = [axis for axis in range(labels.ndim) if axis not in displayed]
    labels_yx = np.asarray(labels.data).transpose([*leading, *displayed])[plane]
    label = int(labels_yx[int(point_yx_px[0]), int(point_yx_px[1])])
    if not label:
        return None
    mask = labels_yx == label
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return label, tight.copy(), (int(rows[0]), int(columns[0]))
