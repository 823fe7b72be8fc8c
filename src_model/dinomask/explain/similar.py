"""Find objects like some chosen ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import ExplainError
from dinomask.explain.prepare import Preparation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.instances import Array


def rank_similar(vectors: Array, chosen: Sequence[int] | Array) -> Array:
    """Tell how alike every object is to the mean of some.

    The cosine of the angle between what an object and the chosen ones differ by from
    the mean of all.

    Parameters
    ----------
    vectors : shape (N, D); features of all objects, as `ObjectFeatures.vectors` gives them
    chosen : rows of one or several of them

    Returns
    -------
    shape (N,), float32, from -1 to 1; sort it to rank the objects

    Raises
    ------
    ExplainError
        If none was chosen.

    Examples
    --------
    >>> rank_similar(np.array([[2.0, 0], [3, 0.1], [0, 2]]), [0]).argsort()[::-1]
    array([0, 1, 2])
    """
    rows = np.asarray(chosen, np.int64)
    if not rows.size:
        raise ExplainError(
            expected="at least one object to find others like it",
            got="none",
            remedy="Click on an object, or select some.",
        )
    prepared = Preparation.fit(vectors, "cosine").apply(vectors).astype(np.float64)
    like = prepared[rows].mean(axis=0)
    length = float(np.linalg.norm(like))
    if length < 1e-6:
        # all are the mean itself, such as the only object there is
        return np.asarray(np.where(np.linalg.norm(prepared, axis=1) < 1e-6, 1, 0), np.float32)
    return np.asarray(np.clip(prepared @ (like / length), -1, 1), np.float32)
