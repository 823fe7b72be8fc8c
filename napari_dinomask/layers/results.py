"""Labels layers: the preview of a run, and its result in memory or on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from dinomask.tiles.edit import LabelPyramid
from dinomask.tiles.outputs import table_path
from napari_dinomask.layers.place import Plane, lift, placement

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from dinomask.run.segment import Segmentation
    from dinomask.tiles.preview import Preview
    from napari_dinomask.layers.images import PlaneView

    Array = npt.NDArray[Any]

RESULT_SUFFIX = " · DINOmask"
PREVIEW_SUFFIX = " · so far"
_OPACITY = 0.6
_PATH, _DISPLAYED = "dinomask_labels", "dinomask_displayed"


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
    return viewer.add_labels(
        lift(labels_yx, layer.ndim, view.displayed),
        name=layer.name + RESULT_SUFFIX,
        features=_features(segmentation.table, int(labels_yx.max(initial=0))),
        metadata={"dinomask": segmentation.report},
        opacity=_OPACITY,
        **placement(layer, np.array(view.index)),
    )


def add_saved(
    viewer: ViewerModel,
    layer: ImageLayer,
    view: PlaneView,
    path: Path,
    segmentation: Segmentation | None = None,
) -> Labels:
    """Show labels on disk as a pyramid that is read where it is looked at.

    Parameters
    ----------
    layer, view : what they were made of
    path : a label image in OME-Zarr, as a run writes it
    segmentation : the run, if it was made just now

    Raises
    ------
    InputError
        If the file holds something else.
    """
    import pandas as pd

    pyramid = LabelPyramid.open(path)
    levels = [*pyramid.levels[:-1], coarsest_level(pyramid)]
    if len(pyramid.levels) == 1:
        levels.insert(0, pyramid.levels[0])
    if layer.ndim > 2 or view.displayed != (0, 1):
        levels = [Plane(level, (), layer.ndim, view.displayed) for level in levels]
    table = None if segmentation is None else segmentation.table
    if table is None and table_path(path).exists():
        table = pd.read_parquet(table_path(path))
    return viewer.add_labels(
        # pyramids can't be edited, which is right: it would not be written
        levels,
        multiscale=True,
        name=layer.name + RESULT_SUFFIX,
        features=None if table is None else _features(table, int(table["id"].max() or 0)),
        metadata={
            "dinomask": None if segmentation is None else segmentation.report,
            _PATH: path,
            _DISPLAYED: view.displayed,
        },
        opacity=_OPACITY,
        **placement(layer, np.array(view.index)),
    )


def coarsest_level(pyramid: LabelPyramid) -> Array:
    """Return the last level in memory; a second one where there is but one.

    napari keeps a view of the last level, and takes a single one for no pyramid.
    """
    last = np.asarray(pyramid.levels[-1][...])
    return last[::2, ::2].copy() if len(pyramid.levels) == 1 else last


def saved_path(layer: Any) -> Path | None:
    """Return the label image on disk that a layer shows; None for other layers."""
    path = layer.metadata.get(_PATH) if isinstance(layer, Labels) else None
    return path if isinstance(path, Path) else None


def saved_layers(viewer: ViewerModel) -> list[Labels]:
    """Return the layers of labels on disk, the active one first, then from the top."""
    found = [layer for layer in reversed(viewer.layers) if saved_path(layer) is not None]
    active = viewer.layers.selection.active
    return sorted(found, key=lambda layer: layer is not active)


def displayed_axes(labels: Labels) -> tuple[int, int]:
    """Return the axes of a layer of labels on disk that are height and width."""
    rows, columns = labels.metadata[_DISPLAYED]
    return int(rows), int(columns)


class PreviewLayer:
    """What a run found so far, on the plane it works on; the user can't edit it.

    Parameters
    ----------
    viewer, layer, view : as for the result
    preview : which the run draws into
    """

    def __init__(
        self, viewer: ViewerModel, layer: ImageLayer, view: PlaneView, preview: Preview
    ) -> None:
        self._viewer = viewer
        levels = [Plane(level, (), layer.ndim, view.displayed) for level in preview.levels]
        index = np.array(view.index, float)
        # the middle of the image pixels that the first preview pixel stands for
        index[list(view.displayed)] = (preview.factor - 1) / 2
        active = viewer.layers.selection.active
        self.labels = viewer.add_labels(
            levels if len(levels) > 1 else levels[0],
            multiscale=len(levels) > 1,
            name=layer.name + PREVIEW_SUFFIX,
            opacity=_OPACITY,
            **placement(layer, index, view.displayed, preview.factor),
        )
        self.labels.editable = False
        viewer.layers.selection.active = active

    def refresh(self) -> None:
        """Show what was drawn since."""
        if self.labels in self._viewer.layers and self.labels.visible:
            self.labels.refresh(extent=False)

    def remove(self) -> None:
        """Take it away, unless the user did."""
        if self.labels in self._viewer.layers:
            self._viewer.layers.remove(self.labels)


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
