"""Figures of tokens: how they are spread in each layer, how layers and models differ.

Effective rank: Roy and Vetterli, "The effective rank: a measure of effective
dimensionality", EUSIPCO 2007. CKA: Kornblith et al., arXiv 1905.00414. Outlier tokens:
Darcet et al., "Vision transformers need registers", arXiv 2309.16588.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dinomask.instances import Array

OUTLIER_TIMES = 3.0
"""A token is an outlier if it is this many times as long as the median one."""


@dataclasses.dataclass(frozen=True)
class LayerFigures:
    """How the tokens of one layer are spread.

    Attributes
    ----------
    layer, n_tokens, n_features : what was measured
    mean : of all values
    variance : of the values around the mean of their feature
    norm : mean length of a token
    effective_rank : exp of the entropy of the singular values: features that count, from 1
        (all tokens on a line) to `n_features`; 0 if all tokens are alike
    n_outliers : tokens much longer than the others
    """

    layer: int
    n_tokens: int
    n_features: int
    mean: float
    variance: float
    norm: float
    effective_rank: float
    n_outliers: int

    @property
    def outlier_share(self) -> float:
        """Outliers over tokens."""
        return self.n_outliers / self.n_tokens


def layer_figures(tokens: Mapping[int, Array]) -> list[LayerFigures]:
    """Measure layers.

    Parameters
    ----------
    tokens : layer → shape (N, D)

    Raises
    ------
    DataError
        If a layer has no token.
    """
    return [_figures(layer, np.asarray(values, np.float64)) for layer, values in tokens.items()]


def _figures(layer: int, tokens_nd: Array) -> LayerFigures:
    if tokens_nd.ndim != 2 or not len(tokens_nd):
        raise DataError(
            expected="tokens of shape (N, D), N at least 1",
            got=f"shape {tokens_nd.shape}",
            remedy="Choose an image or a region that has pixels.",
        )
    norms = np.linalg.norm(tokens_nd, axis=1)
    return LayerFigures(
        layer=layer,
        n_tokens=tokens_nd.shape[0],
        n_features=tokens_nd.shape[1],
        mean=float(tokens_nd.mean()),
        variance=float(tokens_nd.var(axis=0).mean()),
        norm=float(norms.mean()),
        effective_rank=effective_rank(tokens_nd),
        n_outliers=int(np.count_nonzero(norms > OUTLIER_TIMES * np.median(norms))),
    )


def effective_rank(tokens_nd: Array) -> float:
    """Return exp(−Σ p log p), p the share of each singular value of the centred tokens.

    Parameters
    ----------
    tokens_nd : shape (N, D)

    Returns
    -------
    from 1 to min(N - 1, D); 0 if all tokens are alike
    """
    centred = tokens_nd - tokens_nd.mean(axis=0)
    squares = np.clip(np.linalg.eigvalsh(centred.T @ centred), 0, None)
    # below this there is but rounding
    singular = np.sqrt(squares[squares > 1e-12 * squares.max()]) if squares.max() > 0 else squares
    total = singular.sum()
    scale = np.abs(tokens_nd).max() if tokens_nd.size else 0.0
    if total <= 1e-9 * scale * len(tokens_nd):
        return 0.0
    share = singular / total
    return float(np.exp(-np.sum(share * np.log(share))))


def cka_matrix(first: Mapping[int, Array], second: Mapping[int, Array]) -> Array:
    """Return the linear CKA of every layer of one with every layer of the other.

    As `dinomask.measure.similarity.linear_cka`, with the parts that pairs share computed
    once.

    Parameters
    ----------
    first, second : layer → shape (N, D) and (N, E), the same places in both

    Returns
    -------
    shape (layers of first, layers of second), float64, 0 to 1

    Raises
    ------
    DataError
        If they differ in N, or N is below 2.
    """
    sizes = {len(values) for values in (*first.values(), *second.values())}
    if len(sizes) != 1 or min(sizes) < 2:
        raise DataError(
            expected="at least two tokens of the same places",
            got=f"layers with {', '.join(str(n) for n in sorted(sizes))} tokens",
            remedy="Take them of the same tiles.",
        )
    a, b = ([_centred(v) for v in side.values()] for side in (first, second))
    own_a, own_b = ([float(np.linalg.norm(x.T @ x)) for x in side] for side in (a, b))
    matrix = np.zeros((len(a), len(b)))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            own = own_a[i] * own_b[j]
            matrix[i, j] = (
                np.linalg.norm(y.T @ x) ** 2 / own if own > 0 else float(own_a[i] == own_b[j])
            )
    return matrix


def _centred(tokens_nd: Array) -> Array:
    values = np.asarray(tokens_nd, np.float64)
    centred: Array = values - values.mean(axis=0)
    return centred
