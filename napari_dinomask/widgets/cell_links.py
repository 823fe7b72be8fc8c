"""Chosen and coloured cells in the image, and clicks on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_dinomask.layers import (
    CHOSEN_SUFFIX,
    COLOURS_SUFFIX,
    PaintLayer,
    Pointer,
    cell_at,
    look_at,
)
from napari_dinomask.widgets.scatter import CHOSEN_COLOUR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Labels

    from napari_dinomask.colouring import Colouring
    from napari_dinomask.selection import How, Keys, Selection
    from napari_dinomask.widgets.explain_target import ExplainTarget

    Box = tuple[int, int, int, int]
    Point = tuple[float, float]

_OUTLINE_PX = 2
_FILL_OPACITY = 0.6
_LEAST_PX = 12
_AROUND = 1.0
"""Widths of a cell that are shown on each side of it."""


class CellLinks:
    """Shows what is chosen on the map in the image, and chooses what is clicked in the image.

    Parameters
    ----------
    target : with labels
    labels : the target's
    place : index of the plane on the axes of the labels
    selection : shared with the map
    """

    def __init__(
        self,
        target: ExplainTarget,
        labels: Labels,
        place: Sequence[int],
        selection: Selection,
    ) -> None:
        self._target = target
        self._labels = labels
        self._selection = selection
        self._pointer: Pointer | None = None
        self._is_hiding = False
        where = (target.viewer, labels, place, target.labels_displayed)
        self._chosen = PaintLayer(*where, CHOSEN_SUFFIX, contour_px=_OUTLINE_PX, opacity=1.0)
        self._colours = PaintLayer(*where, COLOURS_SUFFIX, opacity=_FILL_OPACITY)
        selection.listen(self.show_chosen)

    def activate(self) -> None:
        """Listen to clicks on the image."""
        if self._pointer is None:
            target = self._target
            self._pointer = Pointer(
                target.viewer, target.image, target.view, self._on_click, with_keys=True
            )

    def deactivate(self) -> None:
        """Listen no more."""
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            pointer.close()

    def close(self) -> None:
        """Take the layers away."""
        self.deactivate()
        self._selection.forget(self.show_chosen)
        self._chosen.remove()
        self._colours.remove()
        self._show_labels(True)

    def show_chosen(self) -> None:
        """Outline the chosen cells."""
        self._chosen.show_alike(self._selection.keys, CHOSEN_COLOUR)

    def show_colours(self, keys: Keys, colouring: Colouring | None) -> None:
        """Fill cells with the colours of their points; without a colouring, none."""
        if colouring is None:
            self._colours.remove()
            self._show_labels(True)
            return
        colours = [tuple(c / 255 for c in rgb) for rgb in colouring.colours]
        self._colours.show(keys, colouring.codes + 1, colours)
        self._chosen.lift()
        # or two colours would mix
        self._show_labels(False)

    def refresh(self) -> None:
        """Follow the labels after a correction."""
        self._chosen.refresh()
        self._colours.refresh()

    def jump(self, boxes: Sequence[Box]) -> None:
        """Show cells, given by their boxes, with what is around them."""
        if not boxes or self._target.image not in self._target.viewer.layers:
            return
        corners = np.array(boxes)
        (y0, x0), (y1, x1) = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
        size = np.median(np.maximum(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]))
        margin = max(_LEAST_PX, _AROUND * float(size))
        window = (y0 - margin, x0 - margin, y1 + margin, x1 + margin)
        look_at(self._target.viewer, self._target.image, self._target.view, window)

    def _show_labels(self, wanted: bool) -> None:
        """Hide the labels while others are painted over them, unless the user did."""
        if self._is_hiding and wanted:
            self._labels.visible = True
            self._is_hiding = False
        elif not wanted and self._labels.visible and not self._is_hiding:
            self._labels.visible = False
            self._is_hiding = True

    def _on_click(self, point_yx_px: Point, keys: frozenset[str]) -> None:
        target = self._target
        found = cell_at(target.viewer, self._labels, target.labels_displayed, point_yx_px)
        how: How = "replace"
        if "Shift" in keys:
            how = "add"
        elif keys & {"Control", "Alt"}:
            how = "remove"
        if found is not None:
            self._selection.choose([found[0]], how)
        elif how == "replace":
            self._selection.clear()
