"""A part of a label image on disk as a layer that can be edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import InputError
from dinomask.tiles.edit import LabelPyramid, Region
from napari_dinomask.layers.corrected import plane_of
from napari_dinomask.layers.place import lift, placement, visible_window
from napari_dinomask.layers.results import axes_on_disk, coarsest_level, saved_path, show_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import pandas as pd
    from napari.components import ViewerModel
    from napari.layers import Labels

    Box = tuple[int, int, int, int]

EDIT_SUFFIX = " · editing"
LARGEST_EDIT_PX = 4096
"""Longest side of an edited part: 32 MB of labels, as much as napari paints on with ease."""


class RegionLayer:
    """The part of a label image that is on display, to be painted on; written as it is changed.

    Parameters
    ----------
    viewer : where
    overview : a layer of labels on disk, on display
    on_changed : called at each edit, undo and redo

    Attributes
    ----------
    labels : the layer to be painted on
    window_yxyx_px : where it lies, in pixels of the finest level
    is_whole_view : whether it is all of the view, not only its middle

    Raises
    ------
    InputError
        If nothing of the labels is on display, or the file is gone or another.
    OutputError
        If the file can't be written.
    """

    def __init__(
        self, viewer: ViewerModel, overview: Labels, on_changed: Callable[[], None]
    ) -> None:
        path = saved_path(overview)
        axes = axes_on_disk(overview)
        displayed = (axes[-2], axes[-1])
        window = visible_window(viewer, overview, displayed)
        place = _place(viewer, overview, axes)
        if path is None or window is None or place is None:
            raise InputError(
                expected="labels on the canvas",
                got="a view beside them, or in 3-D",
                remedy="Move to the labels in 2-D, then edit what you see.",
            )
        self._viewer = viewer
        self._overview = overview
        self._on_changed = on_changed
        self._axes = axes
        self.window_yxyx_px = cut_middle(window, LARGEST_EDIT_PX)
        self.is_whole_view = self.window_yxyx_px == window
        self._pyramid = LabelPyramid.open(path, writable=True)
        self._region = Region(self._pyramid, self.window_yxyx_px, place)
        new_id = self._pyramid.next_id()
        index = np.zeros(overview.ndim)
        index[list(axes)] = (*place, *self.window_yxyx_px[:2])
        self.labels = viewer.add_labels(
            lift(self._region.labels_yx, overview.ndim, displayed),
            name=overview.name + EDIT_SUFFIX,
            opacity=overview.opacity,
            **placement(overview, index),
        )
        self.labels.selected_label = new_id
        self.labels.mode = "paint"
        # napari's own key would take the largest id of this part only
        self.labels.bind_key("M", lambda _: self.take_new_label(), overwrite=True)
        for event in (self.labels.events.labels_update, self.labels.events.set_data):
            event.connect(self._tell)
        self.labels.events.selected_label.connect(self._keep_from_foreign_id)

    @property
    def is_open(self) -> bool:
        """Whether the layer is still there."""
        return self.labels in self._viewer.layers

    def take_new_label(self) -> None:
        """Take an id into hand that no object of the whole image has.

        Raises
        ------
        OutputError
            If there is none left.
        """
        self.labels.selected_label = self._new_id()
        self.labels.mode = "paint"

    def write(self) -> bool:
        """Write what was changed, in any thread; tell whether there was anything.

        Raises
        ------
        OutputError
            If it can't be written.
        """
        return self._region.write() is not None

    def remeasure(self) -> pd.DataFrame | None:
        """Bring the table on disk up to date, in any thread; None if nothing of it changed.

        Raises
        ------
        OutputError
            If it can't be written.
        """
        return self._region.remeasure()

    def show_table(self, table: pd.DataFrame) -> None:
        """Show in the overview what the table says of each object now."""
        if self._overview in self._viewer.layers:
            show_table(self._overview, table)

    def refresh_overview(self) -> None:
        """Show in the overview what was written."""
        if self._overview in self._viewer.layers:
            if len(self._axes) == 2:
                # napari keeps a view of the coarsest level
                coarsest_yx = coarsest_level(self._pyramid)
                shown = np.asarray(self._overview.data[-1])
                shown[...] = lift(coarsest_yx, self._overview.ndim, self._axes)
            self._overview.refresh(extent=False)

    def close(self) -> None:
        """Take the layer away and go back to the overview."""
        for event in (self.labels.events.labels_update, self.labels.events.set_data):
            event.disconnect(self._tell)
        self.labels.events.selected_label.disconnect(self._keep_from_foreign_id)
        if self.is_open:
            self._viewer.layers.remove(self.labels)
        if self._overview in self._viewer.layers:
            self._viewer.layers.selection.active = self._overview

    def _new_id(self) -> int:
        # what was painted last may not be written yet
        highest = int(self._region.labels_yx.max(initial=0))
        return max(self._pyramid.next_id(), highest + 1)

    def _keep_from_foreign_id(self, event: Any = None) -> None:
        """Take a new id in place of one whose object lies elsewhere.

        napari's button for a new label takes the largest id of this part only,
        and two objects would become one.
        """
        chosen, new_id = int(self.labels.selected_label), self._new_id()
        if 0 < chosen < new_id and not (self._region.labels_yx == chosen).any():
            self.labels.selected_label = new_id

    def _tell(self, event: Any = None) -> None:
        self._on_changed()


def _place(viewer: ViewerModel, overview: Labels, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the index of the plane on display in the file; None if there is none."""
    if len(axes) == 2:
        return ()
    displayed = (axes[-2], axes[-1])
    plane = plane_of(overview, viewer.dims, displayed)
    if plane is None:
        return None
    others = [axis for axis in range(overview.ndim) if axis not in displayed]
    return tuple(plane[others.index(axis)] for axis in axes[:-2])


def cut_middle(window_yxyx_px: Box, longest_px: int) -> Box:
    """Cut a window down to its middle where it is too large."""
    y0, x0, y1, x1 = window_yxyx_px
    height, width = min(y1 - y0, longest_px), min(x1 - x0, longest_px)
    top, left = y0 + (y1 - y0 - height) // 2, x0 + (x1 - x0 - width) // 2
    return top, left, top + height, left + width
