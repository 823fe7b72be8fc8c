"""Features of objects: one row an object, with its id, its image and what a run knows of it.

No torch here, so that a table can be sorted, mapped and clustered without the network;
`dinomask.explain.pooling` computes the features.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dinomask.errors import ExplainError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dinomask.instances import Array

KEY = ("image", "id")
"""Columns that name an object: ids are unique within an image only."""


@dataclasses.dataclass(frozen=True, eq=False)
class ObjectFeatures:
    """What the model sees in N objects of one or several images.

    Row i of the table and of every array is one object, whatever was left out or
    sorted since; ``table["id"]`` is its label in its image.

    Attributes
    ----------
    table : N rows; the columns ``image`` and ``id``, then y0, x0, y1, x1, area_px,
        centroid_y, centroid_x (in image pixels), and those of the run's instance table
    by_layer : layer of the backbone → features, shape (N, D), float32
    model : name and hash of the model, and the adapter's hash, that computed them
    """

    table: pd.DataFrame
    by_layer: Mapping[int, Array]
    model: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in KEY if name not in self.table.columns]
        if missing or any(len(f) != len(self.table) for f in self.by_layer.values()):
            raise ExplainError(
                expected="a table with the columns image and id, a row for each feature vector",
                got=f"{len(self.table)} rows with {', '.join(map(str, self.table.columns))}",
                remedy="Take the table that the features were computed with.",
            )

    def __len__(self) -> int:
        return len(self.table)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers there are features of, ascending."""
        return tuple(sorted(self.by_layer))

    @property
    def ids(self) -> Array:
        """The labels of the objects in their images, shape (N,)."""
        return self.table["id"].to_numpy()

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images, in the order of their first object."""
        return tuple(map(str, self.table["image"].unique()))

    def vectors(self, layer: int | None = None) -> Array:
        """Return the features of a layer, shape (N, D), float32; None takes the deepest.

        Raises
        ------
        SettingsError
            If the layer was not computed.
        """
        chosen = self.layers[-1] if layer is None else layer
        if chosen not in self.by_layer:
            raise SettingsError(
                expected=f"one of the layers {', '.join(map(str, self.layers))}",
                got=f"layer {chosen}",
                remedy="Choose one of these, or compute the features of that layer.",
            )
        return np.asarray(self.by_layer[chosen])

    def take(self, index: Array) -> ObjectFeatures:
        """Return the objects chosen by a boolean mask or an index array, in that order."""
        rows = np.arange(len(self))[np.asarray(index)]
        features = {layer: f[rows] for layer, f in self.by_layer.items()}
        return dataclasses.replace(
            self, table=self.table.iloc[rows].reset_index(drop=True), by_layer=features
        )

    def of_image(self, image: str) -> ObjectFeatures:
        """Return the objects of one image."""
        return self.take((self.table["image"] == image).to_numpy())

    def rows_of(self, ids: Array, image: str | None = None) -> Array:
        """Return the rows of objects by their labels, shape (n,), in the order of `ids`.

        Parameters
        ----------
        ids : labels; those that are not there are passed over
        image : whose labels; may be left out where there is one image

        Raises
        ------
        SettingsError
            If there are several images and none is named.
        """
        names = self.images
        if image is None and len(names) > 1:
            raise SettingsError(
                expected=f"the image of the objects, one of {', '.join(names)}",
                got="none",
                remedy="Ids are unique within an image only: name it.",
            )
        here = np.arange(len(self))
        if image is not None:
            here = np.flatnonzero((self.table["image"] == image).to_numpy())
        found = pd.Index(self.ids[here]).get_indexer(pd.Index(np.asarray(ids)))
        return np.asarray(here[found[found >= 0]])

    def with_column(self, name: str, values: Array | Sequence[object]) -> ObjectFeatures:
        """Return the same objects with a further column, or another one of that name."""
        table = self.table.assign(**{name: np.asarray(values)})
        return dataclasses.replace(self, table=table)

    @staticmethod
    def concatenate(parts: Sequence[ObjectFeatures]) -> ObjectFeatures:
        """Join the objects of several images; columns that some lack are empty there.

        Raises
        ------
        ExplainError
            If there is nothing to join, two parts hold the same image, or their
            features come from different models or layers.
        """
        if not parts:
            raise ExplainError(
                expected="the objects of at least one image", got="none", remedy="Choose an image."
            )
        first = parts[0]
        if any((p.layers, dict(p.model)) != (first.layers, dict(first.model)) for p in parts):
            raise ExplainError(
                expected="features of the same layers of one model",
                got="features of different ones",
                remedy="Compute them again with the same settings.",
            )
        names = [name for part in parts for name in part.images]
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise ExplainError(
                expected="images of different names",
                got=f"{double!r} twice",
                remedy="Give each image a name of its own.",
            )
        filled = [p.table for p in parts if len(p)] or [first.table]
        table = pd.concat(filled, ignore_index=True)
        joined = {k: np.concatenate([p.by_layer[k] for p in parts]) for k in first.layers}
        return ObjectFeatures(table, joined, first.model)


def join_table(measured: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of a run's instance table to what was measured, by id.

    Measured columns win; objects that the table doesn't list keep empty cells.

    Raises
    ------
    ExplainError
        If the table has no column of ids, or lists one twice.
    """
    if "id" not in known.columns or known["id"].duplicated().any():
        raise ExplainError(
            expected="a table of objects with a column id, each id once",
            got=f"columns {', '.join(map(str, known.columns))}",
            remedy="Take the table of the run that made the labels (OUT.instances.parquet),"
            " of one plane.",
        )
    new = [c for c in known.columns if c not in measured.columns]
    return measured.merge(known[["id", *new]], on="id", how="left", validate="one_to_one")
