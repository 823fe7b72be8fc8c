"""Maps of objects: PCA, UMAP and t-SNE, and new objects placed into a map that is there."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.config import MapConfig, as_dict
from dinomask.errors import ExplainError
from dinomask.explain.apart import run_apart
from dinomask.explain.components import Components, fit_components
from dinomask.explain.knn import nearest
from dinomask.explain.prepare import Preparation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dinomask.explain.objects import ObjectFeatures
    from dinomask.instances import Array
    from dinomask.run.progress import OnProgress

FEWEST = 6
"""With fewer objects there are no neighbourhoods to keep: PCA is shown instead."""

N_PLACING = 5
"""Neighbours in the map that place a new object."""


@dataclasses.dataclass(frozen=True, eq=False)
class ObjectMap:
    """N objects laid out in a plane.

    Attributes
    ----------
    positions : shape (N, 2), float32; x and y of each, without a unit
    vectors : shape (N, D), float32; the features they were laid out by
    ids, images : of each object, shape (N,)
    config : how
    layer : of the backbone, whose features they are
    model : that computed them, as in `ObjectFeatures`
    axes : shape (2, D); of a PCA, else None
    notes : what was done differently from what was asked, and why
    """

    positions: Array
    vectors: Array
    ids: Array
    images: Array
    config: MapConfig
    layer: int
    model: Mapping[str, str | None]
    axes: Array | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.positions)

    def project(self, features: ObjectFeatures) -> Array:
        """Place other objects into the map, which stays as it is.

        A PCA is a linear map and holds for any object. With UMAP and t-SNE an object
        goes to the mean of its nearest neighbours among the map's own objects, each
        weighted by 1 / distance²; UMAP places new points so before it refines them.
        An object of the map gets its own place. So a new kind of object lies with the
        kind it resembles most, or in between; lay the map out anew to see it apart.

        Parameters
        ----------
        features : of the same layer and model

        Returns
        -------
        shape (n, 2), float32

        Raises
        ------
        ExplainError
            If the features come from another model.
        SettingsError
            If those of the layer were not computed.
        """
        if self.model and features.model and dict(features.model) != dict(self.model):
            raise ExplainError(
                expected=f"features of the map's model, {self.model.get('name')!r}",
                got=f"features of {features.model.get('name')!r}, or of another adapter",
                remedy="Compute them with the model and adapter of the map.",
            )
        vectors = features.vectors(self.layer)
        preparation = Preparation.fit(self.vectors, self.config.metric)
        prepared = preparation.apply(vectors)
        if self.axes is not None:
            return np.asarray((prepared.astype(np.float64) @ self.axes.T).astype(np.float32))
        index, distance = nearest(prepared, preparation.apply(self.vectors), N_PLACING)
        weight = 1 / np.maximum(distance.astype(np.float64), 1e-9) ** 2
        # an exact copy of an object of the map lies exactly there
        same = distance[:, :1] <= 1e-7
        weight = np.where(same, np.arange(weight.shape[1]) == 0, weight)
        weight /= weight.sum(axis=1, keepdims=True)
        placed = np.einsum("ij,ijk->ik", weight, self.positions[index])
        return np.asarray(placed.astype(np.float32))


def fit_map(
    features: ObjectFeatures,
    config: MapConfig | None = None,
    *,
    layer: int | None = None,
    on_progress: OnProgress | None = None,
) -> ObjectMap:
    """Lay objects out so that those that look alike lie together.

    UMAP and t-SNE run in a process of their own. The same objects, settings and seed
    give the same map.

    Parameters
    ----------
    features : of N objects
    config : method and settings
    layer : whose features; None takes the deepest there is
    on_progress : called ten times a second; raising `CancelledError` stops at once

    Raises
    ------
    ExplainError
        If there is no object, or all are alike.
    SettingsError
        If the layer was not computed.
    EngineError
        If the process can't be started, or died.
    """
    config = config or MapConfig()
    layer = features.layers[-1] if layer is None else layer
    vectors = features.vectors(layer)
    n = len(vectors)
    if n == 0:
        raise ExplainError(
            expected="at least one object to lay out",
            got="none",
            remedy="Segment the image first, or choose labels with objects.",
        )
    positions, axes, notes = _lay_out(vectors, config, on_progress)
    return ObjectMap(
        positions=positions,
        vectors=vectors,
        ids=features.ids,
        images=features.table["image"].to_numpy(str),
        config=config,
        layer=layer,
        model=features.model,
        axes=axes,
        notes=notes,
    )


def _lay_out(
    vectors: Array, config: MapConfig, on_progress: OnProgress | None
) -> tuple[Array, Array | None, tuple[str, ...]]:
    """Return positions, the axes of a PCA, and notes."""
    n = len(vectors)
    if n == 1:
        axes = np.zeros((2, vectors.shape[1]))
        return np.zeros((1, 2), np.float32), axes, ("There is one object only.",)
    prepared = Preparation.fit(vectors, config.metric).apply(vectors)
    if config.method == "pca" or n < FEWEST:
        axes = _two(fit_components(prepared, 2))
        note = f"{n} objects are too few for {_NAMES[config.method]}: this is a PCA."
        positions = (prepared.astype(np.float64) @ axes.T).astype(np.float32)
        return positions, axes, () if config.method == "pca" else (note,)
    settings: dict[str, Any] = as_dict(config)
    notes = []
    if config.method == "umap" and config.n_neighbours > n - 1:
        settings["n_neighbours"] = n - 1
        notes.append(f"There are {n} objects, so {n - 1} neighbours were taken.")
    if config.method == "tsne" and config.perplexity > (n - 1) / 3:
        settings["perplexity"] = max((n - 1) / 3, 1.0)
        notes.append(f"There are {n} objects: the perplexity is {settings['perplexity']:.3g}.")
    # tells of constant features before a process is started
    fit_components(prepared, 1)
    found = run_apart(config.method, {"vectors": prepared}, settings, on_progress)
    return found["positions"], None, tuple(notes)


_NAMES = {"pca": "PCA", "umap": "UMAP", "tsne": "t-SNE"}


def _two(components: Components) -> Array:
    """Return two axes; the second is 0 where two objects span only one."""
    axes = np.zeros((2, components.axes.shape[1]))
    axes[: len(components.axes)] = components.axes[:2]
    return axes
