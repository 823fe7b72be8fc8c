"""Two segmentations of one plane in one layer, parted by a line that can be moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from napari_dinomask.layers.place import Lifted, placement

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_dinomask.layers.images import PlaneView

    Array = npt.NDArray[Any]

SWIPE_SUFFIX = " · before | after"
SAME_COLOUR = "#74c0fc"
GAINED_COLOUR = "#40c057"
LOST_COLOUR = "#fa5252"
CHANGED_COLOUR = "#fab005"
_MOST_COLOURED = 60_000
"""napari takes seconds to colour more labels one by one."""

_OPACITY = 0.55


class Swiped:
    """Left of an edge one label image, from it on another, composed where it is read.

    Labels of the second one are raised by `offset`, so that no two objects share a number.

    Parameters
    ----------
    before_yx, after_yx : of one shape (H, W)
    """

    def __init__(self, before_yx: Array, after_yx: Array) -> None:
        self.offset = int(before_yx.max(initial=0))
        self.shape = before_yx.shape
        self.dtype = np.dtype(np.int32)
        self.ndim = 2
        self.edge_px = self.shape[1] // 2
        self._before_yx = before_yx
        self._after_yx = after_yx

    def __getitem__(self, key: Any) -> Array:
        rows, columns = key
        first, end, step = columns.indices(self.shape[1])
        edge = min(max(self.edge_px, first), end)
        # with a step, the second part begins at the next column of the grid
        second = first + -(-(edge - first) // step) * step
        after = self._after_yx[rows, second:end:step].astype(self.dtype)
        after[after > 0] += self.offset
        before = self._before_yx[rows, first:edge:step].astype(self.dtype)
        return np.concatenate([before, after], axis=1)


class SwipeLayer:
    """Shows before and after of a window of an image layer's plane; can't be edited.

    Parameters
    ----------
    viewer, layer, view : the plane
    corner_yx_px : where the window begins
    before_yx, after_yx : label images of the window

    Attributes
    ----------
    labels : the layer
    """

    def __init__(
        self,
        viewer: ViewerModel,
        layer: ImageLayer,
        view: PlaneView,
        corner_yx_px: tuple[int, int],
        before_yx: Array,
        after_yx: Array,
    ) -> None:
        self._viewer = viewer
        self._swiped = Swiped(before_yx, after_yx)
        index = np.array(view.index, float)
        index[list(view.displayed)] = corner_yx_px
        active = viewer.layers.selection.active
        self.labels = viewer.add_labels(
            Lifted(self._swiped, view.displayed, layer.ndim),
            name=layer.name + SWIPE_SUFFIX,
            multiscale=False,
            opacity=_OPACITY,
            **placement(layer, index),
        )
        self.labels.editable = False
        viewer.layers.selection.active = active

    @property
    def is_open(self) -> bool:
        """Whether the layer is still there."""
        return self.labels in self._viewer.layers

    @property
    def width_px(self) -> int:
        """Columns of the window."""
        return int(self._swiped.shape[1])

    def colour(self, gained: Iterable[int], lost: Iterable[int], changed: Iterable[int]) -> None:
        """Colour objects by what became of them.

        Parameters
        ----------
        gained : labels of the second image
        lost : labels of the first image
        changed : labels of the second image
        """
        offset = self._swiped.offset
        n_labels = offset + int(self._swiped._after_yx.max(initial=0))
        if n_labels > _MOST_COLOURED:
            return
        colours: dict[int | None, Any] = {None: SAME_COLOUR, 0: "transparent"}
        colours |= {offset + int(label): GAINED_COLOUR for label in gained}
        colours |= {int(label): LOST_COLOUR for label in lost}
        colours |= {offset + int(label): CHANGED_COLOUR for label in changed}
        self.labels.colormap = DirectLabelColormap(color_dict=colours)

    def move_edge(self, edge_px: int) -> None:
        """Show the first image left of this column, the second one from there on."""
        self._swiped.edge_px = edge_px
        if self.is_open and self.labels.visible:
            self.labels.refresh(extent=False)

    def remove(self) -> None:
        """Take it away, unless the user did."""
        if self.is_open:
            self._viewer.layers.remove(self.labels)
