"""Nearest neighbours by brute force: exact, without chance, bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.instances import Array

CHUNK_ENTRIES = 2**24
"""Distances held at once: 64 MiB."""


def nearest(
    queries: Array, vectors: Array, k: int, tell: Callable[[int, int], None] | None = None
) -> tuple[Array, Array]:
    """Find the nearest of N vectors for each of n queries, by Euclidean distance.

    Parameters
    ----------
    queries : shape (n, D)
    vectors : shape (N, D)
    k : how many, up to N
    tell : told of queries done and of all; may raise to stop

    Returns
    -------
    index : shape (n, k), int64; nearest first, of equally near ones the first first
    distance : shape (n, k), float32
    """
    k = min(k, len(vectors))
    vectors32 = np.asarray(vectors, np.float32)
    squares = np.einsum("ij,ij->i", vectors32, vectors32)
    index = np.zeros((len(queries), k), np.int64)
    distance = np.zeros((len(queries), k), np.float32)
    step = max(1, CHUNK_ENTRIES // max(len(vectors), 1))
    for start in range(0, len(queries), step):
        part = np.asarray(queries[start : start + step], np.float32)
        # the query's own square is the same for all
        rough = squares - 2 * (part @ vectors32.T)
        # a few more, since products lose digits where vectors are nearly alike
        spare = min(len(vectors), k + 8)
        near = np.argpartition(rough, spare - 1, axis=1)[:, :spare]
        near.sort(axis=1)
        difference = part[:, None, :].astype(np.float64) - vectors32[near]
        exact = np.sqrt(np.einsum("ijk,ijk->ij", difference, difference))
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        rows = slice(start, start + len(part))
        index[rows] = np.take_along_axis(near, order, axis=1)
        distance[rows] = np.take_along_axis(exact, order, axis=1)
        if tell is not None:
            tell(start + len(part), len(queries))
    return index, distance
