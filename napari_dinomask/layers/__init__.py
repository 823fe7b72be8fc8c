"""The plugin's only hand on napari layers: what is read from them and written to them."""

from napari_dinomask.layers.cell import (
    CELL_LAYER,
    drawn_diameter_px,
    prepare_drawing,
    start_drawing,
    stop_drawing,
)
from napari_dinomask.layers.cells import CellsOnPlane
from napari_dinomask.layers.corrected import (
    CorrectedLayer,
    add_empty,
    correctable,
    made_by,
)
from napari_dinomask.layers.hand import Hand, Stroke
from napari_dinomask.layers.heat import HeatLayer
from napari_dinomask.layers.images import (
    PlaneView,
    all_planes_of,
    facts_of,
    image_layers,
    open_layer,
    open_planes,
    view_of,
)
from napari_dinomask.layers.paint import CHOSEN_SUFFIX, COLOURS_SUFFIX, PaintLayer
from napari_dinomask.layers.pen import (
    PEN_COLOUR,
    PEN_SUFFIX,
    REGION_COLOUR,
    REGION_SUFFIX,
    Lines,
)
from napari_dinomask.layers.place import look_at, visible_window
from napari_dinomask.layers.pointer import Pointer, cell_at
from napari_dinomask.layers.region import EDIT_SUFFIX, RegionLayer
from napari_dinomask.layers.results import (
    PREVIEW_SUFFIX,
    RESULT_SUFFIX,
    PreviewLayer,
    add_result,
    add_saved,
    saved_layers,
    saved_path,
)
from napari_dinomask.layers.token_colours import (
    BEFORE_SUFFIX,
    FEATURES_SUFFIX,
    TokenColourLayer,
)

__all__ = [
    "BEFORE_SUFFIX",
    "CELL_LAYER",
    "CHOSEN_SUFFIX",
    "COLOURS_SUFFIX",
    "EDIT_SUFFIX",
    "FEATURES_SUFFIX",
    "PEN_COLOUR",
    "PEN_SUFFIX",
    "PREVIEW_SUFFIX",
    "REGION_COLOUR",
    "REGION_SUFFIX",
    "RESULT_SUFFIX",
    "CellsOnPlane",
    "CorrectedLayer",
    "Hand",
    "HeatLayer",
    "Lines",
    "PaintLayer",
    "PlaneView",
    "Pointer",
    "PreviewLayer",
    "RegionLayer",
    "Stroke",
    "TokenColourLayer",
    "add_empty",
    "add_result",
    "add_saved",
    "all_planes_of",
    "cell_at",
    "correctable",
    "drawn_diameter_px",
    "facts_of",
    "image_layers",
    "look_at",
    "made_by",
    "open_layer",
    "open_planes",
    "prepare_drawing",
    "saved_layers",
    "saved_path",
    "start_drawing",
    "stop_drawing",
    "view_of",
    "visible_window",
]
