"""Settings of what is made of objects' features: maps, clusters and probes."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from dinomask.config.checks import require


@dataclasses.dataclass(frozen=True)
class MapConfig:
    """How objects are laid out in a plane, so that those that look alike lie together."""

    method: Literal["pca", "umap", "tsne"] = "umap"
    """PCA keeps the largest differences, UMAP and t-SNE the neighbours of each object."""

    metric: Literal["cosine", "euclidean"] = "cosine"
    """How different two objects are: by the angle between their features, after the mean of
    all was taken off, or by the distance."""

    n_neighbours: int = 15
    """UMAP: neighbours each object is kept close to. Few show fine groups, many the whole."""

    min_dist: float = 0.1
    """UMAP: how tightly objects may be packed, from 0 to 1."""

    perplexity: float = 30.0
    """t-SNE: about how many neighbours each object is kept close to."""

    n_components: int = 50
    """UMAP and t-SNE look at so many principal components of the features."""

    seed: int = 0
    """The same seed gives the same map."""

    def __post_init__(self) -> None:
        require(self.n_neighbours >= 2, "at least 2 neighbours", self.n_neighbours, "Use 15.")
        require(0 <= self.min_dist <= 1, "a packing from 0 to 1", self.min_dist, "Use 0.1.")
        require(
            math.isfinite(self.perplexity) and self.perplexity >= 2,
            "a perplexity of at least 2",
            self.perplexity,
            "Use 30.",
        )
        require(self.n_components >= 2, "at least 2 components", self.n_components, "Use 50.")
        require(0 <= self.seed < 2**32, "a seed from 0 to 2**32 - 1", self.seed, "Use 0.")


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """How objects are parted into groups that look alike."""

    method: Literal["kmeans", "hdbscan"] = "kmeans"
    """k-means makes as many groups as asked for; HDBSCAN finds how many there are, and leaves
    out objects that belong to none."""

    n_clusters: int = 5
    """k-means: number of groups."""

    min_size: int = 15
    """HDBSCAN: fewest objects of a group."""

    seed: int = 0
    """The same seed gives the same groups."""

    def __post_init__(self) -> None:
        require(self.n_clusters >= 2, "at least 2 groups", self.n_clusters, "Use 5.")
        require(self.min_size >= 2, "groups of at least 2 objects", self.min_size, "Use 15.")
        require(0 <= self.seed < 2**32, "a seed from 0 to 2**32 - 1", self.seed, "Use 0.")


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    """How it is tried whether features tell the user's classes apart."""

    folds: int = 5
    """Parts that the objects are divided into; each is judged by what was learned from the
    others. Objects of one image stay together where there are several images."""

    n_neighbours: int = 10
    """Neighbours that vote in the k-NN probe."""

    penalty: float = 1.0
    """How strongly the linear probe's weights are kept small (1 / C of scikit-learn)."""

    seed: int = 0
    """The same seed gives the same parts."""

    def __post_init__(self) -> None:
        require(self.folds >= 2, "at least 2 parts", self.folds, "Use 5.")
        require(self.n_neighbours >= 1, "at least 1 neighbour", self.n_neighbours, "Use 10.")
        require(
            math.isfinite(self.penalty) and self.penalty > 0,
            "a penalty above 0",
            self.penalty,
            "Use 1.",
        )
        require(0 <= self.seed < 2**32, "a seed from 0 to 2**32 - 1", self.seed, "Use 0.")
