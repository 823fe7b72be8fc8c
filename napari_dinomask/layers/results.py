"""Labels layers: the preview of a run, and its result in memory or on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from dinomask.errors import InputError
from dinomask.tiles.edit import LabelPyramid
from dinomask.tiles.outputs import table_path
from napari_dinomask.layers.images import shape_of
from napari_dinomask.layers.place import Lifted, lift, placement

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from dinomask.run.planes import StackSegmentation
    from dinomask.run.segment import Segmentation
    from dinomask.tiles.preview import Preview
    from napari_dinomask.layers.images import PlaneView

    Array = npt.NDArray[Any]

RESULT_SUFFIX = " · DINOmask"
PREVIEW_SUFFIX = " · so far"
_OPACITY = 0.6
_PATH, _AXES = "dinomask_labels", "dinomask_axes"
_NO_PLANE = -1


def add_result(
    viewer: ViewerModel,
    layer: ImageLayer,
    view: PlaneView,
    segmentation: Segmentation | StackSegmentation,
) -> Labels:
    """Show a segmentation as a new Labels layer that lies on the planes it was made of.

    Row i of the layer's `features` belongs to label i; row 0 is the background.
    """
    from dinomask.run.segment import Segmentation

    is_plane = isinstance(segmentation, Segmentation)
    labels = segmentation.labels_yx if is_plane else segmentation.labels
    if labels is None:
        msg = "the segmentation was written to a file and holds no labels"
        raise ValueError(msg)
    return viewer.add_labels(
        lift(labels, layer.ndim, view.label_axes),
        name=layer.name + RESULT_SUFFIX,
        features=_features(segmentation.table, int(labels.max(initial=0)), view.stacked),
        metadata={"dinomask": segmentation.report},
        opacity=_OPACITY,
        **placement(layer, np.array(view.origin)),
    )


def add_saved(
    viewer: ViewerModel,
    layer: ImageLayer,
    view: PlaneView,
    path: Path,
    segmentation: Segmentation | StackSegmentation | None = None,
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
        If the file holds something else, such as labels of other planes.
    """
    import pandas as pd

    pyramid = LabelPyramid.open(path)
    _require_fit(pyramid, layer, view)
    levels = _levels_of_planes(pyramid, layer, view) if view.stacked else _levels(pyramid)
    if not view.stacked and (layer.ndim > 2 or view.displayed != (0, 1)):
        levels = [Lifted(level, view.displayed, layer.ndim) for level in levels]
    table = None if segmentation is None else segmentation.table
    if table is None and table_path(path).exists():
        table = pd.read_parquet(table_path(path))
    return viewer.add_labels(
        # pyramids can't be edited, which is right: it would not be written
        levels,
        multiscale=True,
        name=layer.name + RESULT_SUFFIX,
        features=None if table is None else _features(table, _highest_id(table), view.stacked),
        metadata={
            "dinomask": None if segmentation is None else segmentation.report,
            _PATH: path,
            _AXES: view.label_axes,
        },
        opacity=_OPACITY,
        **placement(layer, np.array(view.origin)),
    )


def _require_fit(pyramid: LabelPyramid, layer: ImageLayer, view: PlaneView) -> None:
    shape, found = shape_of(layer), pyramid.levels[0].shape
    wanted = tuple(shape[axis] for axis in view.label_axes)
    if found != wanted:
        raise InputError(
            expected=f"labels of shape {wanted}, as what is chosen of {layer.name!r}",
            got=f"{pyramid.path.name} of shape {found}",
            remedy="Choose what these labels were made of (“Planes”: all, or the one on display), "
            "or another name under “Save to”.",
        )


def _levels(pyramid: LabelPyramid) -> list[Any]:
    """Return two levels or more, as napari takes a single one for no pyramid."""
    return [*(pyramid.levels[:-1] or pyramid.levels), coarsest_level(pyramid)]


def _levels_of_planes(pyramid: LabelPyramid, layer: ImageLayer, view: PlaneView) -> list[Any]:
    """Return the same for all planes, of which also the coarsest level may be large."""
    levels = [Lifted(level, view.label_axes, layer.ndim) for level in pyramid.levels]
    if len(levels) == 1:
        step = [2 if axis in view.displayed else 1 for axis in range(layer.ndim)]
        levels.append(levels[0][tuple(slice(None, None, n) for n in step)])
    return levels


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


def show_table(labels: Labels, table: pd.DataFrame) -> None:
    """Let a layer of labels on disk tell of its objects what a table says."""
    stacked = "".join(axis for axis in "tz" if axis in table and axis in labels.features)
    labels.features = _features(table, _highest_id(table), stacked)


def saved_layers(viewer: ViewerModel) -> list[Labels]:
    """Return the layers of labels on disk, the active one first, then from the top."""
    found = [layer for layer in reversed(viewer.layers) if saved_path(layer) is not None]
    active = viewer.layers.selection.active
    return sorted(found, key=lambda layer: layer is not active)


def axes_on_disk(labels: Labels) -> tuple[int, ...]:
    """Return which of a layer's axes those of its labels on disk are, height and width last."""
    return tuple(int(axis) for axis in labels.metadata[_AXES])


class PreviewLayer:
    """What a run found so far, on the plane or planes it works on; the user can't edit it.

    Parameters
    ----------
    viewer, layer, view : as for the result
    preview : which the run draws into
    """

    def __init__(
        self, viewer: ViewerModel, layer: ImageLayer, view: PlaneView, preview: Preview
    ) -> None:
        self._viewer = viewer
        levels = [Lifted(level, view.label_axes, layer.ndim) for level in preview.levels]
        index = np.array(view.origin, float)
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


def _highest_id(table: pd.DataFrame) -> int:
    return int(table["id"].max()) if len(table) else 0


def _features(table: pd.DataFrame, max_label: int, stacked: str = "") -> pd.DataFrame:
    """Align the table of instances with labels: row number = label.

    An object that is linked through planes is described by its largest section.
    """
    n_sections = table["id"].value_counts()
    largest = table.sort_values("area_px", ascending=False, kind="stable").drop_duplicates("id")
    features = largest.set_index("id").reindex(range(max_label + 1))
    features.insert(0, "index", np.arange(max_label + 1))
    # pixels that own no instance: the background, and ids that others cover
    whole = {"area_px": 0, "class": 0, **dict.fromkeys(stacked, _NO_PLANE)}
    features = features.fillna(whole).astype(dict.fromkeys(whole, np.int64))
    features["diameter_px"] = np.sqrt(4 / np.pi * features["area_px"])
    columns = ["index", "score", "class", "area_px", "diameter_px", "centroid_y", "centroid_x"]
    columns += stacked
    if "object_id" in table:
        features["n_sections"] = n_sections.reindex(features.index, fill_value=0)
        columns.append("n_sections")
    return features[columns].reset_index(drop=True)
