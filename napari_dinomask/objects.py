"""The cells of one label image as a table that is mapped, coloured, ranked: without Qt and napari.

Cells are known by their labels, whatever was deleted or sorted since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dinomask.errors import ExplainError
from napari_dinomask.colouring import colour_by, plain
from napari_dinomask.selection import Cloud

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from dinomask.explain.embedding import ObjectMap
    from dinomask.explain.objects import ObjectFeatures
    from napari_dinomask.colouring import Colouring
    from napari_dinomask.selection import Keys

    Array = npt.NDArray[Any]

CLUSTER, CLASS, ALIKE = "cluster", "class", "likeness"
NO_COLUMN = ""
"""Colour by nothing."""

_NO_COLOURS = ("id", "index", "y0", "x0", "y1", "x1")
_FIRST = (CLASS, CLUSTER, "score", "area_px", "diameter_px", ALIKE)


class Objects:
    """What is known of N cells, and which of them are still there.

    Parameters
    ----------
    features : of the cells of one image

    Attributes
    ----------
    map : where they lie; None before there is one
    layer : of the network, as it was asked for; -1 is the last, None the library's default
    """

    def __init__(self, features: ObjectFeatures, layer: int | None = None) -> None:
        self.layer = layer
        self.features = features
        self.map: ObjectMap | None = None
        self._columns: dict[str, Array] = {}
        self._known_classes = self._given_classes()
        self._is_there = np.ones(len(features), bool)
        self.given_classes: dict[int, int] = {}
        """Classes that the user gave, by label."""

        self.n_others = 0
        """Cells that were drawn or changed since, of which nothing is known."""

    def __len__(self) -> int:
        return int(self._is_there.sum())

    @property
    def keys(self) -> Keys:
        """Labels of the cells that are there."""
        return np.asarray(self.features.ids[self._is_there], np.int64)

    @property
    def table(self) -> pd.DataFrame:
        """A row each cell that is there, with all that was found out since."""
        table = self.features.table.copy()
        for name, values in self._columns.items():
            table[name] = values
        return table[self._is_there].reset_index(drop=True)

    @property
    def present(self) -> ObjectFeatures:
        """The features of the cells that are there, with their columns."""
        whole = self.features
        for name, values in self._columns.items():
            whole = whole.with_column(name, values)
        return whole.take(self._is_there)

    @property
    def columns(self) -> list[str]:
        """Names of the columns to colour by, the telling ones first."""
        table = self.table
        names = [str(name) for name in table.columns if name not in _NO_COLOURS]
        if "image" in names and table["image"].nunique() < 2:
            names.remove("image")
        order = {name: rank for rank, name in enumerate(_FIRST)}
        # what is the same of all tells nothing
        same = {name for name in names if table[name].nunique(dropna=False) < 2}
        return sorted(names, key=lambda name: (name in same, order.get(name, len(order))))

    def cloud(self) -> Cloud:
        """Return the cells on the map; none before there is a map."""
        if self.map is None:
            return Cloud(np.empty(0, np.int64), np.empty((0, 2)))
        placed = pd.Series(np.arange(len(self.map)), index=self.map.ids)
        rows = placed.reindex(self.keys).dropna().astype(np.int64)
        points = np.asarray(self.map.positions[rows.to_numpy()], np.float64)
        return Cloud(rows.index.to_numpy(np.int64), points)

    @property
    def mapped(self) -> ObjectFeatures:
        """The features of the cells of the cloud, in its order."""
        present = self.present
        return present.take(present.rows_of(self.cloud().keys))

    @property
    def method(self) -> str:
        """By which the cells lie where they lie."""
        if self.map is None or self.map.axes is not None:
            return "pca"
        return self.map.config.method

    def colouring(self, name: str) -> Colouring:
        """Return colours of the cells of the cloud by a column."""
        keys = self.cloud().keys
        if name == NO_COLUMN:
            return plain(len(keys))
        table = self.table.set_index("id")
        if name not in table.columns:
            return plain(len(keys))
        return colour_by(table.loc[keys, name].reset_index(drop=True))

    def box_of(self, key: int) -> tuple[int, int, int, int] | None:
        """Return the half-open box (y0, x0, y1, x1) of a cell, in pixels; None if unknown."""
        rows = self.features.rows_of(np.array([key]))
        if not len(rows):
            return None
        row = self.features.table.iloc[int(rows[0])]
        return int(row["y0"]), int(row["x0"]), int(row["y1"]), int(row["x1"])

    def set_column(self, name: str, keys: Keys, values: Array, missing: Any = np.nan) -> None:
        """Give some cells values in a column, the others `missing`."""
        column = pd.Series(missing, index=self.features.ids)
        column.loc[np.asarray(keys)] = values
        self._columns[name] = column.to_numpy()

    def rank(self, keys: Keys) -> pd.DataFrame:
        """Rank all cells that are there by how like some of them they are.

        Returns
        -------
        the table with the column ``likeness`` from -1 to 1, the likest first

        Raises
        ------
        ExplainError
            If none is given.
        """
        from dinomask.explain.similar import rank_similar

        features = self.present
        chosen = np.flatnonzero(np.isin(features.ids, keys))
        self.set_column(ALIKE, features.ids, rank_similar(features.vectors(), chosen))
        return self.table.sort_values(ALIKE, ascending=False, kind="stable")

    def take_note(self, corrected: Mapping[int, Any], classes: Mapping[int, int]) -> bool:
        """Take note of corrections; tell whether that changes anything.

        Parameters
        ----------
        corrected : what became of the labels that were corrected; None for deleted ones
        classes : of those that have one by correction
        """
        gone = [label for label, piece in corrected.items() if piece is None]
        there = ~np.isin(self.features.ids, gone)
        known = set(self.features.ids.tolist())
        self.n_others = sum(label not in known for label, p in corrected.items() if p is not None)
        known_ids = np.intersect1d(list(classes), self.features.ids[there]).tolist()
        self.given_classes = {int(i): classes[int(i)] for i in known_ids}
        values = self._known_classes.copy()
        if classes:
            given = pd.Series(classes).reindex(self.features.ids)
            values = np.where(given.notna(), given, values)
        before = self._columns.get(CLASS, self._known_classes)
        same = np.array_equal(there, self._is_there) and np.array_equal(
            before, values, equal_nan=True
        )
        self._is_there = there
        if not np.isnan(values).all():
            self._columns[CLASS] = values
        else:
            self._columns.pop(CLASS, None)
        return not same

    def classes_of(self, keys: Iterable[int]) -> dict[int, int]:
        """Return the classes of those of some cells that have one."""
        table = self.table
        if CLASS not in table.columns:
            return {}
        found = table.set_index("id")[CLASS].reindex(list(keys)).dropna()
        return {int(key): int(value) for key, value in found.items()}

    def _given_classes(self) -> Array:
        if CLASS not in self.features.table.columns:
            return np.full(len(self.features), np.nan)
        column: Array = self.features.table[CLASS].to_numpy(np.float64)
        return column


def axis_titles(found: ObjectMap) -> tuple[str, str]:
    """Return what lies along x and y of a map."""
    if found.axes is not None:
        # too few cells for anything else
        return "PC 1", "PC 2"
    word = {"umap": "UMAP", "tsne": "t-SNE"}[found.config.method]
    return f"{word} 1", f"{word} 2"


def require_objects(n: int) -> None:
    """Raise `ExplainError` where there is nothing to look at."""
    if not n:
        raise ExplainError(
            expected="labels with at least one cell",
            got="labels without one",
            remedy="Segment the image first, or choose other labels.",
        )
