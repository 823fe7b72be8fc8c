"""Principal components, found in one pass over any amount of data, with fixed signs.

Mean and covariance of parts are joined by the formula of Chan, Golub and LeVeque
(*Updating formulae and a pairwise algorithm for computing sample variances*, 1979), so
memory is D × D whatever the number of vectors.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import ExplainError

if TYPE_CHECKING:
    from dinomask.instances import Array

NO_SPREAD = 1e-10
"""Variance, relative to the vectors' mean square, below which all are taken to be alike."""


@dataclasses.dataclass(frozen=True, eq=False)
class Components:
    """The directions in which vectors differ most.

    Attributes
    ----------
    mean : shape (D,)
    axes : shape (K, D); orthonormal, largest variance first; of each the entry of the
        largest size is positive, so that the same data give the same signs
    variances : shape (K,); along each axis
    total_variance : along all D axes
    """

    mean: Array
    axes: Array
    variances: Array
    total_variance: float

    @property
    def shares(self) -> Array:
        """The share of the variance along each axis, shape (K,)."""
        return self.variances / self.total_variance

    def project(self, vectors: Array) -> Array:
        """Return the coordinates of vectors, shape (…, D) → (…, K), float32."""
        # in one fixed order of the sums, so that a vector's coordinates don't depend on how
        # many others are projected with it, to about the last digit
        centred = vectors.astype(np.float64) - self.mean
        return np.asarray((centred @ self.axes.T).astype(np.float32))


class Moments:
    """Count, mean and scatter of vectors, added part by part."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean: Array = np.zeros(width)
        self.scatter: Array = np.zeros((width, width))

    def add(self, vectors: Array) -> None:
        """Take in vectors of shape (n, D)."""
        n = len(vectors)
        if n == 0:
            return
        values = np.asarray(vectors, np.float64)
        mean = values.mean(axis=0)
        centred = values - mean
        shift = mean - self.mean
        total = self.count + n
        self.scatter += centred.T @ centred
        self.scatter += np.outer(shift, shift) * (self.count * n / total)
        self.mean = self.mean + shift * (n / total)
        self.count = total

    def components(self, n: int) -> Components:
        """Return the first principal components, at most n.

        Raises
        ------
        ExplainError
            If there are fewer than 2 vectors, or all are alike.
        """
        if self.count < 2:
            raise ExplainError(
                expected="at least 2 places or objects, to find how they differ",
                got=f"{self.count}",
                remedy="Choose a larger image, or one with more objects.",
            )
        variances, axes = np.linalg.eigh(self.scatter / (self.count - 1))
        total = float(np.trace(self.scatter)) / (self.count - 1)
        if not total > NO_SPREAD * max(float(self.mean @ self.mean), 1e-30):
            raise ExplainError(
                expected="features that differ between places or objects",
                got=f"{self.count} that are all alike",
                remedy="Choose an image that is not empty, or another layer.",
            )
        kept = min(n, self.count - 1, len(variances))
        rows = fix_signs(axes[:, ::-1].T[:kept])
        return Components(self.mean.copy(), rows, np.maximum(variances[::-1][:kept], 0), total)


def fix_signs(axes: Array) -> Array:
    """Turn axes of shape (K, D) around so that the entry of the largest size is positive."""
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return np.asarray(axes * np.where(largest < 0, -1.0, 1.0))


def fit_components(vectors: Array, n: int, chunk: int = 4096) -> Components:
    """Find the first principal components of vectors of shape (N, D).

    Raises
    ------
    ExplainError
        If there are fewer than 2, or all are alike.
    """
    moments = Moments(vectors.shape[1])
    for start in range(0, len(vectors), chunk):
        moments.add(vectors[start : start + chunk])
    return moments.components(n)
