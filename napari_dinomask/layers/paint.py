"""Colours and outlines over labels, without touching them: what is chosen, what is alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from napari.utils.colormaps.standardize_color import transform_color

from napari_dinomask.layers.place import placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.components import ViewerModel

    Array = npt.NDArray[Any]

CHOSEN_SUFFIX = " · chosen"
COLOURS_SUFFIX = " · colours"
MOST_COLOURS = 255
"""Colours fit into a byte, which napari draws without looking at every label."""

_COARSEST_PX = 1024
_LARGEST_TABLE = 2**26
"""Labels above this are looked for, as a table up to them would take too much memory."""

_TINTS = 31
"""Codes of one colour: neighbours should not share one, or they get one outline."""


class Coded:
    """A level of a label image as a code for each label, looked up where it is read.

    Parameters
    ----------
    labels : any array of labels that can be sliced
    table : code of each label, shape (largest label + 1,), uint8; shared between levels, and
        replaced in place
    """

    def __init__(self, labels: Any, table: CodeTable) -> None:
        self._labels = labels
        self._table = table
        self.shape = tuple(int(n) for n in labels.shape)
        self.dtype = np.dtype(np.uint8)
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> Array:
        return self._table.look_up(np.asarray(self._labels[key]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[...], dtype)


class CodeTable:
    """A code for each label; 0 for those without one."""

    def __init__(self) -> None:
        self._labels: Array = np.zeros(1, np.int64)
        self._codes: Array = np.zeros(1, np.uint8)
        self._is_dense = True

    def set(self, labels: Array, codes: Array | int) -> None:
        """Give some labels codes, and all others 0."""
        given = np.broadcast_to(np.asarray(codes, np.uint8), labels.shape)
        highest = int(labels.max(initial=0))
        self._is_dense = highest < _LARGEST_TABLE
        if self._is_dense:
            # one more, for labels that are none of these
            self._codes = np.zeros(highest + 2, np.uint8)
            self._codes[labels] = given
        else:
            order = np.argsort(labels)
            self._labels, self._codes = labels[order], given[order]

    def look_up(self, labels: Array) -> Array:
        """Return the code of every pixel, uint8."""
        if self._is_dense:
            return np.take(self._codes, labels, mode="clip")
        place = np.searchsorted(self._labels, labels).clip(max=len(self._labels) - 1)
        found = self._labels[place] == labels
        return np.where(found, self._codes[place], 0).astype(np.uint8)


class PaintLayer:
    """Shows some objects of a Labels layer in colours of their own; the layer stays as it is.

    It is a pyramid that looks labels up as they are drawn, so that thousands of objects take no
    longer than one.

    Parameters
    ----------
    viewer : where
    labels : whose objects are shown
    place : index of the plane on the axes of the labels, 0 on the displayed ones
    displayed : axes of the labels along height and width
    suffix : of the layer's name
    contour_px : width of outlines in pixels of the canvas's level; 0 fills
    """

    def __init__(
        self,
        viewer: ViewerModel,
        labels: Labels,
        place: Sequence[int],
        displayed: tuple[int, int],
        suffix: str,
        contour_px: int = 0,
        opacity: float = 0.7,
    ) -> None:
        self._viewer = viewer
        self._labels = labels
        self._place = tuple(place)
        self._displayed = displayed
        self._suffix = suffix
        self._contour_px = contour_px
        self._opacity = opacity
        self._table = CodeTable()
        self.layer: Labels | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is such a layer in the viewer."""
        return self.layer is not None and self.layer in self._viewer.layers

    def show(self, labels: Array, codes: Array | int, colours: Sequence[Any]) -> None:
        """Show objects, and no others.

        Parameters
        ----------
        labels : their labels
        codes : shape as `labels` or one for all, 1 to `len(colours)`
        colours : of the codes 1, 2, …; at most `MOST_COLOURS`
        """
        self._table.set(np.asarray(labels, np.int64), codes)
        table: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
        table |= dict(enumerate(colours, start=1))
        if self.layer is None or not self.is_open:
            if len(labels):
                self._add(table)
            return
        # another colormap takes napari longer than another table
        if not _is_same(self.layer.colormap, table):
            self.layer.colormap = DirectLabelColormap(color_dict=table)
        self.layer.refresh(extent=False, thumbnail=False)

    def show_alike(self, labels: Array, colour: Any) -> None:
        """Show objects in one colour, each with its own outline."""
        codes = np.asarray(labels, np.int64) % _TINTS + 1
        self.show(labels, codes.astype(np.uint8), [colour] * _TINTS)

    def lift(self) -> None:
        """Move it above the other layers."""
        layers = self._viewer.layers
        if self.is_open and layers[-1] is not self.layer:
            layers.move(layers.index(self.layer), len(layers))

    def refresh(self) -> None:
        """Show the labels as they are now."""
        if self.is_open and self.layer is not None and self.layer.visible:
            self.layer.refresh(extent=False, thumbnail=False)

    def remove(self) -> None:
        """Take it away, unless the user did."""
        if self.is_open:
            self._viewer.layers.remove(self.layer)
        self.layer = None

    def _add(self, table: dict[int | None, Any]) -> None:
        index = np.array(self._place, float)
        index[list(self._displayed)] = 0
        active = self._viewer.layers.selection.active
        # all is set before the viewer has it, which would draw it anew at every change
        self.layer = Labels(
            [Coded(level, self._table) for level in self._levels()],
            multiscale=True,
            name=self._labels.name + self._suffix,
            opacity=self._opacity,
            colormap=DirectLabelColormap(color_dict=table),
            **placement(self._labels, index),
        )
        self.layer.contour = self._contour_px
        self.layer.editable = False
        self._viewer.add_layer(self.layer)
        self._viewer.layers.selection.active = active

    def _levels(self) -> list[Any]:
        """Return the plane at ever coarser steps, at least two."""
        if self._labels.multiscale:
            # labels on disk, which hold one plane
            return list(self._labels.data)
        whole = self._labels.data
        axes = self._displayed
        here = [slice(None) if a in axes else slice(i, i + 1) for a, i in enumerate(self._place)]
        levels = [whole[tuple(here)]]
        coarser = tuple(slice(None, None, 2 if a in axes else 1) for a in range(whole.ndim))
        while len(levels) < 2 or max(levels[-1].shape) > _COARSEST_PX:
            levels.append(levels[-1][coarser])
        return levels


def _is_same(colormap: Any, table: dict[int | None, Any]) -> bool:
    known = getattr(colormap, "color_dict", {})
    return len(known) == len(table) and all(
        key in known and np.array_equal(known[key], transform_color(colour)[0])
        for key, colour in table.items()
    )
