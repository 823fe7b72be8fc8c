"""Gradients of several losses on shared parameters, and the shortest mix of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dinomask.nets.processes import mean_over_processes

if TYPE_CHECKING:
    from collections.abc import Sequence


def min_norm_weights(gram: npt.NDArray[Any], tolerance: float = 1e-9) -> npt.NDArray[np.float64]:
    """Find the shortest vector in the convex hull of T vectors.

    Wolfe, "Finding the nearest point in a polytope", 1976: like Frank-Wolfe it
    adds the vector that points most against the present mix, but then finds the
    best mix of all those added. So it ends after a few exact steps, where
    Frank-Wolfe zigzags; for two vectors both are the closed form.

    Parameters
    ----------
    gram : shape (T, T); inner products of the vectors
    tolerance : relative to the longest vector's squared length

    Returns
    -------
    shape (T,); weights, at least 0, of sum 1
    """
    gram = np.asarray(gram, np.float64)
    weights = np.zeros(len(gram))
    weights[gram.diagonal().argmin()] = 1.0
    slack = tolerance * gram.diagonal().max()
    for _ in range(20 * len(gram)):
        slope = gram @ weights
        best = int(slope.argmin())
        if slope[best] >= weights @ slope - slack:
            break
        weights = _shortest_of(gram, weights, np.union1d(np.flatnonzero(weights), best))
    return np.asarray(weights / weights.sum(), np.float64)


def _shortest_of(
    gram: npt.NDArray[Any], weights: npt.NDArray[Any], chosen: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Move weights to the shortest mix of the chosen vectors, without those it would subtract."""
    while True:
        affine = _affine_weights(gram[np.ix_(chosen, chosen)])
        present = weights[chosen]
        outside = affine <= 0
        moved = np.zeros_like(weights)
        if not outside.any():
            moved[chosen] = affine
            return moved
        # as far as the hull's border, where one of them has no weight left
        shares = present[outside] / np.maximum(present[outside] - affine[outside], 1e-300)
        mixed = present + shares.min() * (affine - present)
        mixed[np.flatnonzero(outside)[shares.argmin()]] = 0.0
        moved[chosen] = np.maximum(mixed, 0.0)
        weights, chosen = moved, chosen[mixed > 0]


def _affine_weights(gram: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Weights of sum 1, of any sign, that give the shortest mix."""
    n = len(gram)
    scale = max(float(gram.diagonal().max()), 1e-300)
    system = np.ones((n + 1, n + 1))
    system[:n, :n], system[n, n] = gram / scale, 0.0
    # least squares, since vectors may coincide
    solution: npt.NDArray[Any] = np.linalg.lstsq(system, np.eye(n + 1)[n], rcond=None)[0][:n]
    return solution


def shared_gradients(losses: Sequence[Tensor], shared: Sequence[nn.Parameter]) -> Tensor:
    """Return the gradient of each loss, shape (T, number of shared values).

    Averaged over the processes of a distributed training; nothing is written to
    the parameters, and the graph stays for the backward pass.
    """
    rows = []
    for loss in losses:
        found: Sequence[Tensor | None] = [None] * len(shared)
        if loss.requires_grad:
            found = torch.autograd.grad(loss, list(shared), retain_graph=True, allow_unused=True)
        pairs = zip(found, shared, strict=True)
        rows.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        )
    return mean_over_processes(torch.stack(rows))
