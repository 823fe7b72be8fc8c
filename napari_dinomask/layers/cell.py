"""The layer to draw one cell in."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Shapes

from napari_dinomask.layers.images import shape_of
from napari_dinomask.layers.place import placement
from napari_dinomask.session import cell_diameter_px

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_dinomask.layers.images import PlaneView

CELL_LAYER = "one cell"
_CELL_COLOUR = "#ffd43b"


@functools.cache
def prepare_drawing() -> None:
    """Let napari compile what it needs for shapes, in a thread.

    It takes ten seconds the first time on a machine, which it would otherwise do in the window's
    own thread when a layer of shapes is added.
    """
    Shapes(ndim=2)


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
            edge_width=max(1.0, max(shape_of(layer)[: layer.ndim]) / 400),
            **placement(layer, np.zeros(layer.ndim)),
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
