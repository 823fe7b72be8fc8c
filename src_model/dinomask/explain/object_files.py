"""Objects and their features in files: zarr, AnnData, Parquet and CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dinomask.errors import ExplainError
from dinomask.explain.objects import ObjectFeatures
from dinomask.explain.outputs import write_table
from dinomask.tiles.outputs import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dinomask.instances import Array

FEATURE_SUFFIXES = (".zarr", ".h5ad", ".parquet", ".csv")
"""Endings of files that objects with their features are written to."""

_KIND = "dinomask-object-features"


def write_features(
    features: ObjectFeatures, path: Path, maps: Mapping[str, Array] | None = None
) -> None:
    """Write objects, what is known of them and their features; the ending says how.

    Parameters
    ----------
    features : of N objects
    path : .zarr (all layers, read again by `read_features`), .h5ad (AnnData, the deepest
        layer as X, the others as ``obsm``), .parquet or .csv (the table, and a column
        ``f<layer>_<i>`` a feature); replaced if it exists
    maps : positions, shape (N, 2), by the name of their method, such as ``umap``

    Raises
    ------
    OutputError
        If it can't be written; what was there before stays.
    ExplainError
        If AnnData is asked for and not installed.
    """
    maps = maps or {}
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".csv"):
        write_table(pd.concat([with_maps(features, maps), _as_columns(features)], axis=1), path)
        return
    with replacing(path) as temporary:
        if suffix == ".zarr":
            _write_zarr(features, temporary, maps)
        else:
            as_anndata(features, maps).write_h5ad(temporary)


def with_maps(features: ObjectFeatures, maps: Mapping[str, Array]) -> pd.DataFrame:
    """Return the table with the columns ``<method>_1`` and ``<method>_2`` of each map."""
    table = features.table.copy()
    for name, positions in maps.items():
        for k in range(2):
            table[f"{name}_{k + 1}"] = positions[:, k]
    return table


def as_anndata(features: ObjectFeatures, maps: Mapping[str, Array] | None = None) -> Any:
    """Return an `anndata.AnnData` as scanpy expects it.

    ``X`` holds the deepest layer, ``obs`` the table (under the name ``image:id``),
    ``obsm["spatial"]`` x and y in pixels, ``obsm["X_umap"]`` and its like the maps,
    ``obsm["layer_3"]`` and its like the other layers, ``uns["dinomask"]`` the model.

    Raises
    ------
    ExplainError
        If anndata is not installed.
    """
    try:
        import anndata
    except ImportError as error:
        raise ExplainError(
            expected="anndata, to write .h5ad",
            got=str(error),
            remedy="Install it: pip install 'napari-dinomask[explain]', or write .zarr.",
        ) from error
    deepest = features.layers[-1]
    table = features.table.copy()
    names = [f"{i}:{n}" for i, n in zip(table["image"], table["id"], strict=True)]
    table.index = pd.Index(names, dtype=str)
    # HDF5 keeps columns of one type only
    for column in [name for name in table if table[name].dtype.kind not in "biuf"]:
        table[column] = table[column].astype(str).astype("category")
    obsm = {f"layer_{k}": features.vectors(k) for k in features.layers[:-1]}
    obsm |= {f"X_{name}": positions for name, positions in (maps or {}).items()}
    if {"centroid_y", "centroid_x"} <= set(table.columns):
        obsm["spatial"] = table[["centroid_x", "centroid_y"]].to_numpy(np.float64)
    vectors = features.vectors(deepest)
    variables = pd.DataFrame(index=pd.Index([f"f{i}" for i in range(vectors.shape[1])], dtype=str))
    model = {key: value or "" for key, value in features.model.items()}
    return anndata.AnnData(
        X=vectors,
        obs=table,
        var=variables,
        obsm=obsm,
        uns={"dinomask": {**model, "layer": deepest}},
    )


def read_features(path: Path) -> ObjectFeatures:
    """Read what `write_features` wrote to a .zarr.

    Raises
    ------
    ExplainError
        If it is something else.
    """
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
        about: Any = group.attrs["dinomask"]
        if about["kind"] != _KIND:
            raise KeyError(about["kind"])
        columns = {name: _column(group[f"table/{name}"]) for name in about["columns"]}
        layers = {int(k): np.asarray(group[f"layers/{k}"]) for k in about["layers"]}
        return ObjectFeatures(pd.DataFrame(columns), layers, about["model"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ExplainError(
            expected="features of objects, a .zarr of dinomask explain features",
            got=str(path),
            remedy="Write it again: dinomask explain features IMAGE -o features.zarr",
        ) from error


def _as_columns(features: ObjectFeatures) -> pd.DataFrame:
    parts = [
        pd.DataFrame(vectors, columns=[f"f{layer}_{i}" for i in range(vectors.shape[1])])
        for layer, vectors in sorted(features.by_layer.items())
    ]
    return pd.concat(parts, axis=1)


def _write_zarr(features: ObjectFeatures, path: Path, maps: Mapping[str, Array]) -> None:
    import zarr

    group = zarr.create_group(path, zarr_format=3)
    table = with_maps(features, maps)
    for layer, vectors in features.by_layer.items():
        rows = max(1, min(len(vectors), 4096))
        array = group.create_array(
            f"layers/{layer}", shape=vectors.shape, chunks=(rows, vectors.shape[1]), dtype="f4"
        )
        array[:] = vectors
    for name in table.columns:
        _write_column(group, f"table/{name}", table[name])
    # last, so that a folder cut short by a power failure isn't taken for a whole one
    group.attrs["dinomask"] = {
        "kind": _KIND,
        "columns": list(map(str, table.columns)),
        "layers": [str(layer) for layer in features.layers],
        "model": dict(features.model),
    }


def _write_column(group: Any, name: str, values: pd.Series[Any]) -> None:
    """Write a column; words as numbers, with the list of words beside them."""
    if values.dtype.kind in "biuf":
        array, words = values.to_numpy(), None
    else:
        codes, kinds = pd.factorize(values.astype(object), use_na_sentinel=True)
        array, words = codes.astype(np.int32), [str(kind) for kind in kinds]
    stored = group.create_array(name, shape=array.shape, dtype=array.dtype)
    if len(array):
        stored[:] = array
    if words is not None:
        stored.attrs["words"] = words


def _column(stored: Any) -> Any:
    values = np.asarray(stored)
    words = stored.attrs.get("words")
    if words is None:
        return values
    # the code -1 is an empty cell, and the last of the list
    return np.array([*words, None], object)[values]
