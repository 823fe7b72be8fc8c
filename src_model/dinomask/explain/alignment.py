"""What tiles disagree on, found where they overlap, and taken off.

A transformer's token depends on all that its tile shows, so the same place looks a
little different in two tiles: mostly by a vector that is the same for the whole tile.
The offsets that bring overlapping tiles to agree are those of least squares,

    minimise  Σ_ij n_ij |m_ij + o_i − m_ji − o_j|² + ρ n Σ_i |o_i|²,

where m_ij is the mean of tile i's tokens on what it shares with tile j, n_ij the number
of tokens there and n their mean: as panoramas are brought to one exposure (Brown and
Lowe, *Automatic panoramic image stitching*, IJCV 2007). The second term keeps small
errors from adding up over many tiles. A single tile is left as it is, and so are tiles
that agree.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dinomask.explain.patches import PatchPlan, PatchTile
    from dinomask.instances import Array

RIDGE = 0.01
"""ρ: how strongly offsets are kept small."""


@dataclasses.dataclass
class Alignment:
    """The means of tiles on what they share with their neighbours.

    Attributes
    ----------
    plan : the tiles
    shared : layer → (tile, neighbour) → mean token of the tile there, shape (D,)
    """

    plan: PatchPlan
    shared: dict[int, dict[tuple[int, int], Array]] = dataclasses.field(default_factory=dict)

    def add(self, tile: PatchTile, layer: int, map_yxd: Array) -> None:
        """Take in the tokens of all that a tile sees, shape (h, w, D)."""
        cells = map_yxd.shape[0] // self.plan.tile
        means = self.shared.setdefault(layer, {})
        for neighbour in self.plan.neighbours(tile.index):
            y0, x0, y1, x1 = self.shared_window(tile, self.plan[neighbour], cells)
            mean = map_yxd[y0:y1, x0:x1].reshape(-1, map_yxd.shape[2]).mean(axis=0, dtype=float)
            means[tile.index, neighbour] = mean

    def offsets(self, layer: int) -> Mapping[int, Array]:
        """Return what to add to the tokens of each tile; tiles that aren't in it get nothing."""
        means = self.shared.get(layer, {})
        pairs = [(i, j) for i, j in means if i < j and (j, i) in means]
        if not pairs:
            return {}
        tiles = sorted({tile for pair in pairs for tile in pair})
        row = {tile: k for k, tile in enumerate(tiles)}
        first, second = (np.array([row[pair[side]] for pair in pairs]) for side in (0, 1))
        size = np.array([self._size(i, j) for i, j in pairs], np.float64)
        apart = np.stack([means[j, i] - means[i, j] for i, j in pairs])
        return dict(zip(tiles, _solve(first, second, size, apart, len(tiles)), strict=True))

    def shared_window(
        self, tile: PatchTile, other: PatchTile, cells: int
    ) -> tuple[int, int, int, int]:
        """Return what two tiles both see (y0, x0, y1, x1), in cells of the first one's map."""
        (top, left, bottom, right), (y0, x0, y1, x1) = tile.read_yxyx, other.read_yxyx
        window = (max(top, y0) - top, max(left, x0) - left, min(bottom, y1) - top)
        return (
            window[0] * cells,
            window[1] * cells,
            window[2] * cells,
            (min(right, x1) - left) * cells,
        )

    def _size(self, i: int, j: int) -> int:
        y0, x0, y1, x1 = self.shared_window(self.plan[i], self.plan[j], 1)
        return (y1 - y0) * (x1 - x0)


def _solve(first: Array, second: Array, size: Array, apart: Array, n: int) -> Array:
    """Solve the normal equations, a graph's Laplacian with a ridge; shape (n, D)."""
    incidence = sparse.coo_array(
        (
            np.concatenate([np.ones(len(first)), -np.ones(len(second))]),
            (np.tile(np.arange(len(first)), 2), np.concatenate([first, second])),
        ),
        shape=(len(first), n),
    ).tocsc()
    weights = sparse.diags_array(size)
    ridge = RIDGE * float(size.mean()) * sparse.eye_array(n)
    laplacian = (incidence.T @ weights @ incidence + ridge).tocsc()
    return np.asarray(linalg.splu(laplacian).solve(incidence.T @ (weights @ apart)))
