"""The plugin's only hand on napari layers: what is read from them and written to them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Shapes

from dinomask.errors import AxesError
from dinomask.image.axes import PLANE_AXES, UNKNOWN, letters
from dinomask.image.source import Image, open_image
from dinomask.image.units import size_um
from napari_dinomask.session import LayerFacts, cell_diameter_px

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from napari.components import Dims, ViewerModel
    from napari.layers import Labels, Layer

    from dinomask.run.segment import Segmentation

    Array = npt.NDArray[Any]

RESULT_SUFFIX = " · DINOmask"
CELL_LAYER = "one cell"
_CELL_COLOUR = "#ffd43b"
_SAMPLES = 3


@dataclasses.dataclass(frozen=True)
class PlaneView:
    """Which plane of a layer is on display.

    Attributes
    ----------
    axes : a letter an axis of the layer's data, `s` last for RGB
    index : position on each axis in data pixels, 0 on the displayed ones
    displayed : the layer's axes along the canvas's height and width
    """

    axes: str
    index: tuple[int, ...]
    displayed: tuple[int, int]

    @property
    def plane(self) -> dict[str, int]:
        """Index on each of the axes z and t."""
        return {a: i for a, i in zip(self.axes, self.index, strict=False) if a in PLANE_AXES}

    @property
    def channel(self) -> int:
        """Index of the channel on display; 0 if the layer has no such axis."""
        return self.index[self.axes.index("c")] if "c" in self.axes else 0


def image_layers(viewer: ViewerModel) -> list[ImageLayer]:
    """Return the image layers, the topmost first."""
    return [layer for layer in reversed(viewer.layers) if isinstance(layer, ImageLayer)]


def view_of(layer: ImageLayer, dims: Dims) -> PlaneView:
    """Find out which plane of a layer the viewer shows.

    Raises
    ------
    AxesError
        If the layer's axes can't be told apart, or its plane is not on display.
    """
    shape = _shape(layer)[: layer.ndim]
    offset = dims.ndim - layer.ndim
    rows, columns = (axis - offset for axis in dims.order[-2:])
    if rows < 0 or columns < 0:
        raise AxesError(
            expected=f"the canvas to show two axes of the layer {layer.name!r}",
            got="a view across other axes",
            remedy="Choose another order of the axes below the canvas.",
        )
    names = _name_axes(layer, rows, columns)
    position = layer.world_to_data(_world_point(layer, dims))
    index = [0 if i in (rows, columns) else round(float(position[i])) for i in range(layer.ndim)]
    for name, i, size in zip(names, index, shape, strict=True):
        if not 0 <= i < size:
            raise AxesError(
                expected=f"a plane of {layer.name!r} from 0 to {size - 1} along {name}",
                got=f"{i} on display",
                remedy="Move the slider below the canvas to where the layer can be seen.",
            )
    return PlaneView(names + ("s" if layer.rgb else ""), tuple(index), (rows, columns))


def facts_of(layer: ImageLayer, view: PlaneView) -> LayerFacts:
    """Collect what a form needs to know of a layer."""
    shape, (rows, columns) = _shape(layer), view.displayed
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
    if layer.rgb:
        channels = tuple(c * _SAMPLES + s for c in channels for s in range(_SAMPLES))
    return open_image(layer, axes=view.axes, channels=channels, plane=view.plane)


def add_result(
    viewer: ViewerModel, layer: ImageLayer, view: PlaneView, segmentation: Segmentation
) -> Labels:
    """Show a segmentation as a new Labels layer that lies on the plane it was made of.

    Row i of the layer's `features` belongs to label i; row 0 is the background.
    """
    labels_yx = segmentation.labels_yx
    if labels_yx is None:
        msg = "the segmentation was written to a file and holds no labels"
        raise ValueError(msg)
    rows, columns = view.displayed
    shape = [1] * layer.ndim
    shape[rows], shape[columns] = labels_yx.shape
    data = (labels_yx if rows < columns else labels_yx.T).reshape(shape)
    return viewer.add_labels(
        data,
        name=layer.name + RESULT_SUFFIX,
        features=_features(segmentation.table, int(labels_yx.max(initial=0))),
        metadata={"dinomask": segmentation.report},
        opacity=0.6,
        **_placement(layer, np.array(view.index)),
    )


def start_drawing(viewer: ViewerModel, layer: ImageLayer) -> Shapes:
    """Return a layer to draw one cell in, active, with the ellipse in hand."""
    known = [s for s in viewer.layers if isinstance(s, Shapes) and s.name == CELL_LAYER]
    shapes = next((s for s in known if s.ndim == layer.ndim), None)
    if shapes is None:
        shapes = viewer.add_shapes(
            ndim=layer.ndim,
            name=CELL_LAYER,
            edge_color=_CELL_COLOUR,
            face_color="transparent",
            edge_width=max(1.0, max(_shape(layer)[: layer.ndim]) / 400),
            **_placement(layer, np.zeros(layer.ndim)),
        )
    viewer.layers.selection.active = shapes
    shapes.mode = "add_ellipse"
    return shapes


def stop_drawing(viewer: ViewerModel, shapes: Shapes, layer: ImageLayer | None) -> None:
    """Put the pen away and go back to the image; a layer without a drawing goes too."""
    shapes.mode = "pan_zoom"
    if not len(shapes.data) and shapes in viewer.layers:
        viewer.layers.remove(shapes)
    if layer is not None and layer in viewer.layers:
        viewer.layers.selection.active = layer


def drawn_diameter_px(shapes: Shapes, layer: ImageLayer, view: PlaneView) -> float | None:
    """Return the diameter of the cell drawn last, in pixels of an image layer.

    None when there is no shape, or it is a mere click.
    """
    if not len(shapes.data):
        return None
    vertices = [
        layer.world_to_data(shapes.data_to_world(vertex))[list(view.displayed)]
        for vertex in shapes.data[-1]
    ]
    diameter_px = cell_diameter_px(str(shapes.shape_type[-1]), np.array(vertices))
    return diameter_px if diameter_px >= 1 else None


def _shape(layer: ImageLayer) -> tuple[int, ...]:
    """Return the shape of the finest level."""
    return tuple(int(n) for n in (layer.data[0] if layer.multiscale else layer.data).shape)


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
                got=f"a layer of shape {_shape(layer)} with axes {tuple(layer.axis_labels)}",
                remedy="Name the axes with layer.axis_labels, or segment a part of it.",
            )
        names[i] = free.pop(0)
    return "".join(names)


def _world_point(layer: Layer, dims: Dims) -> Array:
    """Return where the viewer stands, in the layer's own units."""
    point = np.array(dims.point[-layer.ndim :], float)
    units = (dims.units or ())[-layer.ndim :]
    for i, (shown, own) in enumerate(zip(units, layer.units, strict=False)):
        if shown != own:
            point[i] = (point[i] * shown).to(own).magnitude
    return point


def _placement(layer: ImageLayer, index: Array) -> dict[str, Any]:
    """Return the transform that puts a layer's pixel `index` at the origin of another."""
    shift = np.asarray(layer.data_to_world(index)) - layer.data_to_world(np.zeros(layer.ndim))
    # a layer's affine acts after its translate
    shift = np.linalg.solve(layer.affine.linear_matrix, shift)
    return {
        "scale": layer.scale,
        "translate": layer.translate + shift,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def _features(table: pd.DataFrame, max_label: int) -> pd.DataFrame:
    """Align the table of instances with labels: row number = label."""
    features = table.set_index("id").reindex(range(max_label + 1))
    features.insert(0, "index", np.arange(max_label + 1))
    # pixels that own no instance: the background, and ids that others cover
    features = features.fillna({"area_px": 0, "class": 0})
    features = features.astype({"area_px": np.int64, "class": np.int64})
    features["diameter_px"] = np.sqrt(4 / np.pi * features["area_px"])
    columns = ["index", "score", "class", "area_px", "diameter_px", "centroid_y", "centroid_x"]
    return features[columns].reset_index(drop=True)
