"""How alike the features of two networks are, whatever their widths.

Rows are the same places of the same images in both, seen by one network each.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import DataError

if TYPE_CHECKING:
    from dinomask.instances import Array

MOST_PAIRS = 2000
"""Rows between which all distances are taken; more are thinned out evenly."""


@dataclasses.dataclass(frozen=True)
class Similarity:
    """How far the features of a changed network are from the original's.

    Attributes
    ----------
    cka : see `linear_cka`
    distance_correlation, distance_shift : see `compare_distances`
    cosine, cosine_p5 : median and 5th percentile over places; None where widths differ
    relative_distance, relative_distance_p95 : median and 95th percentile of
        ‖x − y‖ / ‖x‖; None where widths differ
    """

    cka: float
    distance_correlation: float
    distance_shift: float
    cosine: float | None = None
    cosine_p5: float | None = None
    relative_distance: float | None = None
    relative_distance_p95: float | None = None


def similarity(reference_nd: Array, other_nd: Array) -> Similarity:
    """Compare the features that two networks have of the same places.

    Parameters
    ----------
    reference_nd, other_nd : shapes (N, D) and (N, E), any real dtype

    Raises
    ------
    DataError
        If there are not as many places, or fewer than two.
    """
    x, y = _rows(reference_nd, other_nd)
    correlation, shift = compare_distances(x, y)
    cka = linear_cka(x, y)
    if x.shape[1] != y.shape[1]:
        return Similarity(cka, correlation, shift)
    cosines, distances = cosine(x, y), relative_distance(x, y)
    return Similarity(
        cka,
        correlation,
        shift,
        *(float(v) for v in np.percentile(cosines, [50, 5])),
        *(float(v) for v in np.percentile(distances, [50, 95])),
    )


def linear_cka(x_nd: Array, y_nd: Array) -> float:
    """Return the linear centred kernel alignment, ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖), in [0, 1].

    It is 1 where one is the other turned, moved or scaled as a whole, whatever
    the number of features (Kornblith et al. 2019, arXiv 1905.00414). Where one
    of them is constant it is 1 if both are, else 0.

    Parameters
    ----------
    x_nd, y_nd : shapes (N, D) and (N, E)

    Raises
    ------
    DataError
        If they differ in N, or N is below 2.
    """
    x, y = _rows(x_nd, y_nd)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    own_x, own_y = np.linalg.norm(x.T @ x), np.linalg.norm(y.T @ y)
    if own_x == 0 or own_y == 0:
        return float(own_x == own_y)
    return float(np.linalg.norm(y.T @ x) ** 2 / (own_x * own_y))


def cosine(x_nd: Array, y_nd: Array) -> Array:
    """Return the cosine between the rows of one and of the other, shape (N,); 0 for zero rows."""
    lengths = np.linalg.norm(x_nd, axis=1) * np.linalg.norm(y_nd, axis=1)
    products = np.sum(x_nd * y_nd, axis=1)
    found: Array = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return found


def relative_distance(x_nd: Array, y_nd: Array) -> Array:
    """Return ‖x − y‖ / ‖x‖ of each row, shape (N,)."""
    lengths = np.linalg.norm(x_nd, axis=1)
    found: Array = np.linalg.norm(x_nd - y_nd, axis=1) / np.maximum(lengths, 1e-12)
    return found


def compare_distances(x_nd: Array, y_nd: Array) -> tuple[float, float]:
    """Compare the distances between places within one network and within the other.

    Returns
    -------
    correlation : Pearson's r of the two, over all pairs (representational
        similarity, Kriegeskorte et al. 2008); 1 where the geometry is kept
    shift : Kolmogorov's distance between the two distributions, each divided by
        its mean; 0 where they are one, at most 1
    """
    from scipy.spatial.distance import pdist
    from scipy.stats import ks_2samp

    step = -(-len(x_nd) // MOST_PAIRS)
    first, second = pdist(x_nd[::step]), pdist(y_nd[::step])
    spread = np.std(first) * np.std(second)
    covariance = np.mean((first - first.mean()) * (second - second.mean()))
    correlation = covariance / spread if spread > 0 else float(np.allclose(first, second))
    means = first.mean(), second.mean()
    scaled = (d / m if m > 0 else d for d, m in zip((first, second), means, strict=True))
    return float(correlation), float(ks_2samp(*scaled).statistic)


def _rows(x_nd: Array, y_nd: Array) -> tuple[Array, Array]:
    x, y = np.asarray(x_nd, np.float64), np.asarray(y_nd, np.float64)
    if x.ndim == y.ndim == 2 and len(x) == len(y) >= 2:
        return x, y
    raise DataError(
        expected="features of the same places, shapes (N, D) and (N, E) with N of at least 2",
        got=f"shapes {x.shape} and {y.shape}",
        remedy="Take them of the same tiles, one row a place.",
    )
