"""How far two sets of tokens lie apart, in numbers and in plain words.

Fréchet distance of two normal distributions: Dowson and Landau 1982, used for images
by Heusel et al., arXiv 1706.08500.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import DataError
from dinomask.measure.similarity import linear_cka

if TYPE_CHECKING:
    from dinomask.instances import Array

ALIKE, FAR = 1.5, 4.0
"""Two images are alike up to, and far apart from, so many times the distance of the two
halves of one."""


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and covariance of tokens.

    Attributes
    ----------
    mean : shape (D,)
    covariance : shape (D, D)
    """

    mean: Array
    covariance: Array

    @staticmethod
    def of(tokens_nd: Array) -> Moments:
        """Measure tokens of shape (N, D).

        Raises
        ------
        DataError
            If there are fewer than two.
        """
        tokens = np.asarray(tokens_nd, np.float64)
        if tokens.ndim != 2 or len(tokens) < 2:
            raise DataError(
                expected="at least two tokens",
                got=f"shape {tokens.shape}",
                remedy="Choose a larger image or region.",
            )
        return Moments(tokens.mean(axis=0), np.cov(tokens, rowvar=False, bias=True))

    @property
    def spread(self) -> float:
        """Root of the total variance: the typical distance of a token from the mean."""
        return float(np.sqrt(max(np.trace(np.atleast_2d(self.covariance)), 0.0)))


@dataclasses.dataclass(frozen=True)
class Shift:
    """How far one set of tokens lies from another.

    Attributes
    ----------
    frechet : Fréchet distance, in spreads of the first set
    mean_distance : distance of the means, in spreads; of the same places before and
        after a change, the mean distance of each token from itself
    cka : linear CKA of the same places; None of different images
    own : `frechet` of the halves of one image, as a measure; None before and after a change
    sentence : the same in words
    """

    frechet: float
    mean_distance: float
    cka: float | None
    own: float | None
    sentence: str


def frechet_distance(a: Moments, b: Moments) -> float:
    """Return the Fréchet distance of the normal distributions with these moments.

    ``√(|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½))``
    """
    values, vectors = np.linalg.eigh(np.atleast_2d(a.covariance))
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    # the eigenvalues of Σ_a Σ_b, from a symmetric matrix
    mixed = np.linalg.eigvalsh(root @ np.atleast_2d(b.covariance) @ root)
    traces = float(np.trace(np.atleast_2d(a.covariance)) + np.trace(np.atleast_2d(b.covariance)))
    overlap = 2 * float(np.sqrt(np.clip(mixed, 0, None)).sum())
    squared = float(np.sum((a.mean - b.mean) ** 2)) + traces - overlap
    return float(np.sqrt(max(squared, 0.0)))


def relative_frechet(reference: Moments, other: Moments) -> float:
    """Return the Fréchet distance in spreads of the reference; 0 if both are the same point."""
    distance = frechet_distance(reference, other)
    if reference.spread > 0:
        return distance / reference.spread
    return 0.0 if distance == 0 else float("inf")


def shift_between(first_nd: Array, second_nd: Array) -> Shift:
    """Compare the tokens of two images.

    Two halves of each image, the places drawn first and those drawn last, tell how far
    tokens of one and the same image lie apart.

    Parameters
    ----------
    first_nd, second_nd : shapes (N, D) and (M, D), of one layer of one model

    Raises
    ------
    DataError
        If they differ in D, or are too few.
    """
    _require_same_width(first_nd, second_nd)
    if min(len(first_nd), len(second_nd)) < 4:
        raise DataError(
            expected="at least four tokens of each image",
            got=f"{len(first_nd)} and {len(second_nd)}",
            remedy="Choose larger images.",
        )
    n = min(len(first_nd), len(second_nd)) // 2
    halves = [(Moments.of(x[:n]), Moments.of(x[-n:])) for x in (first_nd, second_nd)]
    own = max(relative_frechet(a, b) for a, b in halves)
    # as many tokens as the halves have, since few of them look further apart
    apart = [relative_frechet(halves[0][i], halves[1][i]) for i in (0, 1)]
    distance = float(np.mean(apart))
    a, b = Moments.of(first_nd), Moments.of(second_nd)
    means = float(np.linalg.norm(a.mean - b.mean)) / max(a.spread, 1e-12)
    times = distance / own if own > 0 else (1.0 if distance == 0 else float("inf"))
    if times <= ALIKE:
        said = "The model sees the two images alike"
    elif times <= FAR:
        said = "The model sees clear differences between the two images"
    else:
        said = "To the model the two images are of different kinds"
    sentence = f"{said}: they lie {times:.1f} times as far apart as two halves of one of them."
    return Shift(distance, means, None, own, sentence)


def shift_by_change(before_nd: Array, after_nd: Array) -> Shift:
    """Compare the tokens of the same places before and after a change of the model.

    Parameters
    ----------
    before_nd, after_nd : shape (N, D)

    Raises
    ------
    DataError
        If they differ in shape, or are too few.
    """
    _require_same_width(before_nd, after_nd)
    a, b = Moments.of(before_nd), Moments.of(after_nd)
    cka = linear_cka(before_nd, after_nd)
    moved = np.linalg.norm(np.asarray(after_nd, np.float64) - before_nd, axis=1)
    distance = float(moved.mean()) / max(a.spread, 1e-12)
    if distance < 0.02:
        said = "The change left the features as they were"
    elif cka > 0.95:
        said = "The change moved the features, but what lay together still does"
    elif cka > 0.7:
        said = "The change moved the features and rearranged some of them"
    else:
        said = "The change made other features of them"
    sentence = f"{said}: tokens moved by {distance:.0%} of their spread, CKA is {cka:.2f}."
    return Shift(relative_frechet(a, b), distance, cka, None, sentence)


def _require_same_width(first_nd: Array, second_nd: Array) -> None:
    if first_nd.ndim != 2 or second_nd.ndim != 2 or first_nd.shape[1] != second_nd.shape[1]:
        raise DataError(
            expected="tokens of one layer of one model, shapes (N, D) and (M, D)",
            got=f"shapes {first_nd.shape} and {second_nd.shape}",
            remedy="Compare models of different widths by CKA (--other-model).",
        )
