"""Groups of objects that look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.config import ClusterConfig, as_dict
from dinomask.errors import ExplainError
from dinomask.explain.apart import run_apart
from dinomask.explain.components import fit_components
from dinomask.explain.prepare import Preparation

if TYPE_CHECKING:
    from dinomask.explain.objects import ObjectFeatures
    from dinomask.instances import Array
    from dinomask.run.progress import OnProgress

N_COMPONENTS = 50
"""Principal components of the features that are looked at."""

OUTSIDE = -1
"""Group of objects that belong to none."""


def find_clusters(
    features: ObjectFeatures,
    config: ClusterConfig | None = None,
    *,
    layer: int | None = None,
    positions: Array | None = None,
    on_progress: OnProgress | None = None,
) -> Array:
    """Part objects into groups that look alike.

    Runs in a process of its own. The same objects, settings and seed give the same
    groups.

    Parameters
    ----------
    features : of N objects
    config : method and settings
    layer : whose features; None takes the deepest there is
    positions : shape (N, 2), of a map; if given, groups are parted there and not by
        features. HDBSCAN finds little in features of many dimensions, where all are
        about equally far apart
    on_progress : called ten times a second; raising `CancelledError` stops at once

    Returns
    -------
    shape (N,), int64; groups numbered from 0 by size, the largest first; -1 for objects
        that belong to none

    Raises
    ------
    ExplainError
        If there are fewer objects than groups, or all are alike.
    SettingsError
        If the layer was not computed.
    EngineError
        If the process can't be started, or died.

    Notes
    -----
    k-means is Lloyd's, from ten starts; HDBSCAN is that of Campello et al. (PAKDD 2013).
    """
    config = config or ClusterConfig()
    least = config.n_clusters if config.method == "kmeans" else 2
    if len(features) < least:
        raise ExplainError(
            expected=f"at least {least} objects for these groups",
            got=f"{len(features)}",
            remedy="Ask for fewer groups, or choose an image with more objects.",
        )
    if positions is None:
        vectors = features.vectors(layer)
        vectors = Preparation.fit(vectors, "cosine").apply(vectors)
        vectors = fit_components(vectors, N_COMPONENTS).project(vectors)
    else:
        vectors = np.asarray(positions, np.float32)
    found = run_apart(config.method, {"vectors": vectors}, as_dict(config), on_progress)
    return by_size(found["clusters"])


def by_size(clusters: Array) -> Array:
    """Give groups numbers from 0 by size, the largest first, equal ones by their first member.

    Parameters
    ----------
    clusters : shape (N,), any numbers; negative ones are no group

    Returns
    -------
    shape (N,), int64; -1 where there is no group
    """
    names, first, row, size = np.unique(
        clusters, return_index=True, return_inverse=True, return_counts=True
    )
    groups = np.flatnonzero(names >= 0)
    order = groups[np.lexsort((first[groups], -size[groups]))]
    number = np.full(len(names), OUTSIDE, np.int64)
    number[order] = np.arange(len(order))
    return np.asarray(number[row])
