"""The cells of a Labels layer on the plane on display, and what is known of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dinomask.errors import AxesError
from napari_dinomask.layers.corrected import plane_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Labels

    Array = npt.NDArray[Any]

_LABEL = "index"
"""The column of a features table that names labels; without it, row i is label i."""


@dataclasses.dataclass(frozen=True)
class CellsOnPlane:
    """Labels of a plane.

    Attributes
    ----------
    labels_yx : a copy
    table : what the layer's table says of them, with the column ``id``
    place : index of the plane on the layer's axes, 0 on the displayed ones
    """

    labels_yx: Array
    table: pd.DataFrame
    place: tuple[int, ...]

    @staticmethod
    def of(viewer: ViewerModel, labels: Labels, displayed: tuple[int, int]) -> CellsOnPlane:
        """Read the plane on display.

        Parameters
        ----------
        viewer : where
        labels : of one level
        displayed : its axes along height and width

        Raises
        ------
        AxesError
            If no plane of it is on display.
        """
        plane = plane_of(labels, viewer.dims, displayed)
        if plane is None:
            raise AxesError(
                expected=f"a plane of {labels.name!r} on the canvas",
                got="a view in 3-D or across other axes",
                remedy="Go back to the plane that was segmented.",
            )
        leading = [axis for axis in range(labels.ndim) if axis not in displayed]
        place = [0] * labels.ndim
        for axis, i in zip(leading, plane, strict=True):
            place[axis] = i
        whole = np.asarray(labels.data).transpose([*leading, *displayed])
        return CellsOnPlane(whole[plane].copy(), table_of(labels), tuple(place))


def table_of(labels: Labels) -> pd.DataFrame:
    """Return a layer's table with the label of each row as ``id``; no row for the background."""
    table = pd.DataFrame(labels.features).copy()
    own = table.pop(_LABEL) if _LABEL in table.columns else pd.Series(table.index)
    ids = pd.to_numeric(own, errors="coerce")
    table = table.drop(columns=["id"], errors="ignore")
    table.insert(0, "id", ids.to_numpy())
    table = table[ids.notna().to_numpy() & (ids > 0).to_numpy()].drop_duplicates("id")
    return table.astype({"id": np.int64}).reset_index(drop=True)
