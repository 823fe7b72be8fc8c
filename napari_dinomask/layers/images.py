"""Image layers: what is on display, and how it is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer

from dinomask.errors import AxesError
from dinomask.image.axes import PLANE_AXES, UNKNOWN, letters
from dinomask.image.source import Image, open_image
from dinomask.image.stack import Stack, open_stack
from dinomask.image.units import size_um
from napari_dinomask.session import LayerFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from napari.components import Dims, ViewerModel
    from napari.layers import Layer

    Array = npt.NDArray[Any]

MAP = "dinomask_map"
"""In the metadata of image layers that show what the model sees, and are no images."""

_SAMPLES = 3


@dataclasses.dataclass(frozen=True)
class PlaneView:
    """Which plane of a layer is on display.

    Attributes
    ----------
    axes : a letter an axis of the layer's data, `s` last for RGB
    index : position on each axis in data pixels, 0 on the displayed ones
    displayed : the layer's axes along the canvas's height and width
    stacked : of the axes t and z, in this order, those of which all planes are meant; empty for
        the one on display
    """

    axes: str
    index: tuple[int, ...]
    displayed: tuple[int, int]
    stacked: str = ""

    @property
    def plane(self) -> dict[str, int]:
        """Index on each of the axes z and t."""
        return {a: i for a, i in zip(self.axes, self.index, strict=False) if a in PLANE_AXES}

    @property
    def channel(self) -> int:
        """Index of the channel on display; 0 if the layer has no such axis."""
        return self.index[self.axes.index("c")] if "c" in self.axes else 0

    @property
    def label_axes(self) -> tuple[int, ...]:
        """The layer's axes in the order in which the library gives labels: planes, then y, x."""
        return (*(self.axes.index(a) for a in self.stacked), *self.displayed)

    @property
    def place(self) -> tuple[int, ...]:
        """Where the plane on display lies among all that are meant."""
        return tuple(self.plane[axis] for axis in self.stacked)

    @property
    def origin(self) -> tuple[int, ...]:
        """The layer's pixel at which its labels begin."""
        begun = {self.axes.index(a) for a in self.stacked}
        return tuple(0 if i in begun else index for i, index in enumerate(self.index))

    def at(self, plane: Mapping[str, int]) -> PlaneView:
        """Return the view of another plane, by its index along t and z."""
        named = zip(self.axes, self.index, strict=False)
        index = tuple(plane.get(a, i) if a in PLANE_AXES else i for a, i in named)
        return dataclasses.replace(self, index=index)


def image_layers(viewer: ViewerModel) -> list[ImageLayer]:
    """Return the image layers, the topmost first; maps drawn by DINOmask are none."""
    layers = [layer for layer in reversed(viewer.layers) if isinstance(layer, ImageLayer)]
    return [layer for layer in layers if MAP not in layer.metadata]


def view_of(layer: ImageLayer, dims: Dims) -> PlaneView:
    """Find out which plane of a layer the viewer shows.

    Raises
    ------
    AxesError
        If the layer's axes can't be told apart, or its plane is not on display.
    """
    shape = shape_of(layer)[: layer.ndim]
    offset = dims.ndim - layer.ndim
    rows, columns = (axis - offset for axis in dims.order[-2:])
    if rows < 0 or columns < 0:
        raise AxesError(
            expected=f"the canvas to show two axes of the layer {layer.name!r}",
            got="a view across other axes",
            remedy="Choose another order of the axes below the canvas.",
        )
    names = _name_axes(layer, rows, columns)
    position = layer.world_to_data(world_point(layer, dims))
    index = [0 if i in (rows, columns) else round(float(position[i])) for i in range(layer.ndim)]
    for name, i, size in zip(names, index, shape, strict=True):
        if not 0 <= i < size:
            raise AxesError(
                expected=f"a plane of {layer.name!r} from 0 to {size - 1} along {name}",
                got=f"{i} on display",
                remedy="Move the slider below the canvas to where the layer can be seen.",
            )
    return PlaneView(names + ("s" if layer.rgb else ""), tuple(index), (rows, columns))


def all_planes_of(layer: ImageLayer, view: PlaneView) -> PlaneView:
    """Return the view of a layer that means all of its planes, not only the one on display."""
    sizes = dict(zip(view.axes, shape_of(layer), strict=False))
    return dataclasses.replace(view, stacked="".join(a for a in PLANE_AXES if sizes.get(a, 1) > 1))


def facts_of(layer: ImageLayer, view: PlaneView) -> LayerFacts:
    """Collect what a form needs to know of a layer."""
    shape, (rows, columns) = shape_of(layer), view.displayed
    units = layer.units
    named = zip(view.axes, view.index, shape, strict=False)
    return LayerFacts(
        name=layer.name,
        shape_yx=(shape[rows], shape[columns]),
        n_channels=shape[view.axes.index("c")] if "c" in view.axes else 1,
        is_rgb=bool(layer.rgb),
        pixel_size_um=size_um(
            abs(layer.scale[rows]), abs(layer.scale[columns]), units[rows], units[columns]
        ),
        plane=tuple((a, i, size) for a, i, size in named if a in PLANE_AXES and size > 1),
        shown_channel=view.channel,
        path=_path(layer),
        whole=bool(view.stacked),
    )


def open_layer(layer: ImageLayer, view: PlaneView, channels: tuple[int, ...]) -> Image:
    """Open the displayed plane of a layer as an image; safe in a thread.

    Parameters
    ----------
    layer : grey, RGB, N-D or multiscale
    view : from `view_of`
    channels : along the layer's channel axis; empty takes all

    Raises
    ------
    InputError
        If the layer can't be read.
    """
    return open_image(layer, axes=view.axes, channels=_read(layer, channels), plane=view.plane)


def open_planes(layer: ImageLayer, view: PlaneView, channels: tuple[int, ...]) -> Stack:
    """Open all planes of a layer as a stack; like `open_layer` otherwise."""
    return open_stack(layer, axes=view.axes, channels=_read(layer, channels))


def _read(layer: ImageLayer, channels: tuple[int, ...]) -> tuple[int, ...]:
    """Return channels as the library counts them: the samples of colours apart."""
    if not layer.rgb:
        return channels
    return tuple(c * _SAMPLES + s for c in channels for s in range(_SAMPLES))


def shape_of(layer: Layer) -> tuple[int, ...]:
    """Return the shape of the finest level."""
    return tuple(int(n) for n in (layer.data[0] if layer.multiscale else layer.data).shape)


def _path(layer: ImageLayer) -> Path | None:
    """Return the file a layer was read from, if it still is there."""
    path = Path(layer.source.path or "")
    return path if layer.source.path and path.exists() else None


def _name_axes(layer: ImageLayer, rows: int, columns: int) -> str:
    """Name a layer's axes by its labels; those without a known one are stacks."""
    names = list(letters(layer.axis_labels))
    for i, name in enumerate(names):
        if name not in (*PLANE_AXES, "c"):
            names[i] = UNKNOWN
    names[rows], names[columns] = "y", "x"
    free = [a for a in "zt" if a not in names]
    for i in reversed(range(len(names))):
        if names[i] != UNKNOWN:
            continue
        if not free:
            raise AxesError(
                expected="at most the axes t, c and z besides the plane on display",
                got=f"a layer of shape {shape_of(layer)} with axes {tuple(layer.axis_labels)}",
                remedy="Name the axes with layer.axis_labels, or segment a part of it.",
            )
        names[i] = free.pop(0)
    return "".join(names)


def world_point(layer: Layer, dims: Dims) -> Array:
    """Return where the viewer stands, in the layer's own units."""
    point = np.array(dims.point[-layer.ndim :], float)
    units = (dims.units or ())[-layer.ndim :]
    for i, (shown, own) in enumerate(zip(units, layer.units, strict=False)):
        if shown != own:
            point[i] = (point[i] * shown).to(own).magnitude
    return point
