"""Feature vectors made comparable: what maps, clusters and similarity measure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from dinomask.instances import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Preparation:
    """Takes the mean of all objects off, and for angles the length, too.

    Without the mean taken off, all objects of an image are alike to within a few
    degrees, as most of what a token says is that it belongs to this image.

    Attributes
    ----------
    mean : shape (D,)
    metric : ``cosine`` or ``euclidean``
    """

    mean: Array
    metric: Literal["cosine", "euclidean"]

    @staticmethod
    def fit(vectors: Array, metric: Literal["cosine", "euclidean"]) -> Preparation:
        """Take the mean of vectors of shape (N, D), N of at least 1."""
        return Preparation(vectors.astype(np.float64).mean(axis=0), metric)

    def apply(self, vectors: Array) -> Array:
        """Return prepared vectors, shape (N, D), float32.

        With ``cosine`` they have length 1, so that |a − b|² = 2 − 2 cos(a, b); one that
        is the mean itself stays 0.
        """
        centred = vectors.astype(np.float64) - self.mean
        if self.metric == "cosine":
            length = np.linalg.norm(centred, axis=1, keepdims=True)
            # rounding is all that is left of a vector equal to the mean
            least = 1e-6 * max(float(np.linalg.norm(self.mean)), 1e-30)
            centred = np.where(length > least, centred / np.maximum(length, least), 0.0)
        return np.asarray(centred.astype(np.float32))
