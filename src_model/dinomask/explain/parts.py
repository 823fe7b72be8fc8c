"""Attention of one block as numbers: which tokens look, and at which they can look."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dinomask.nets.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Iterator

PADDING = -1
"""Stands where a window reaches beyond the map and there is no token."""

CHUNK = 512
"""Rows of attention that are computed at once, to bound memory."""


@dataclasses.dataclass(frozen=True)
class Part(abc.ABC):
    """G groups of tokens that are computed alike: all tokens, or those of each window.

    Attributes
    ----------
    queries : shape (G, M), int64; tokens that look, `PADDING` for none
    keys : shape (G, N), int64; tokens that they look at
    """

    queries: Tensor
    keys: Tensor

    @abc.abstractmethod
    def weights(self, group: int, rows: Tensor) -> Tensor:
        """Return attention of some of a group's queries, shape (heads, rows, N), float32."""

    def rows_of(self, group: int) -> Tensor:
        """Return the rows of a group that are tokens and not padding."""
        return (self.queries[group] != PADDING).nonzero()[:, 0]


@dataclasses.dataclass(frozen=True)
class Computed(Part):
    """Attention from queries and keys: softmax(q·kᵀ + bias), computed where it is asked for.

    Attributes
    ----------
    q : shape (G, heads, M, d), scaled
    k : shape (G, heads, N, d)
    bias : broadcasts to (G, heads, M, N)
    """

    q: Tensor
    k: Tensor
    bias: Tensor | None = None

    def weights(self, group: int, rows: Tensor) -> Tensor:
        """Return attention of some of a group's queries; see `Part.weights`."""
        scores = self.q[group][:, rows].float() @ self.k[group].float().mT
        if self.bias is not None:
            scores += self.bias[group if len(self.bias) > 1 else 0].float()
        return scores.softmax(dim=-1)


@dataclasses.dataclass(frozen=True)
class Recorded(Part):
    """Attention as the network computed it.

    Attributes
    ----------
    matrices : shape (G, heads, M, N)
    """

    matrices: Tensor

    def weights(self, group: int, rows: Tensor) -> Tensor:
        """Return attention of some of a group's queries; see `Part.weights`."""
        return self.matrices[group][:, rows].float()


def window_tokens(
    shape_yx: tuple[int, int], side_yx: tuple[int, int], shift_yx: tuple[int, int] = (0, 0)
) -> Tensor:
    """Return which tokens of a map lie in each window, shape (G, side_y · side_x), int64.

    Parameters
    ----------
    shape_yx : tokens of the map
    side_yx : tokens of a window; windows that reach beyond the map hold `PADDING`
    shift_yx : tokens by which the map is rolled up and left first, as in Swin
    """
    numbers = torch.arange(shape_yx[0] * shape_yx[1]).reshape(shape_yx)
    rolled = numbers.roll((-shift_yx[0], -shift_yx[1]), (0, 1))
    # windows are padded with zeros
    windows = Windows(shape_yx, side_yx).split(1 + rolled.reshape(1, -1, 1))
    return windows[..., 0] - 1


@dataclasses.dataclass(frozen=True)
class BlockAttention:
    """Where the tokens of one block look, on a map of places.

    Places are numbered like tokens before any merging: class and register tokens
    first, then the map row by row. Of a token that stands for several places, each
    gets an equal part of the attention.

    Attributes
    ----------
    block : number of the block in the network
    grid_yx : cells of the map
    n_prefix : class and register tokens
    n_heads : heads
    stride_px : model pixels a cell
    parts : the attention; together their queries are all tokens
    owners : shape (P + H·W,), the token that stands for each place; None for one each
    """

    block: int
    grid_yx: tuple[int, int]
    n_prefix: int
    n_heads: int
    stride_px: float
    parts: tuple[Part, ...]
    owners: Tensor | None = None

    @property
    def n_places(self) -> int:
        """Class, register and patch tokens P + H·W, before merging."""
        return self.n_prefix + self.grid_yx[0] * self.grid_yx[1]

    @property
    def sizes(self) -> Tensor:
        """How many places each token stands for, shape (N,), float32."""
        if self.owners is None:
            return torch.ones(self.n_places)
        return torch.bincount(self.owners).float()

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield all attention piece by piece.

        Returns
        -------
        queries : shape (m,), int64; tokens
        keys : shape (n,), int64; tokens, or `PADDING`
        weights : shape (heads, m, n), float32
        """
        for part in self.parts:
            for group in range(len(part.queries)):
                for rows in part.rows_of(group).split(CHUNK):
                    weights = part.weights(group, rows)
                    yield part.queries[group, rows], part.keys[group], weights

    def rows(self, places: Tensor) -> Tensor:
        """Return where places look.

        Parameters
        ----------
        places : shape (n,), int64

        Returns
        -------
        shape (heads, n, P + H·W), float32; each row sums to 1, less what goes to padding
        """
        rows = [self.spread(torch.eye(self.n_places)[place]) for place in places.tolist()]
        return torch.stack(rows, dim=1)

    def spread(self, shares: Tensor) -> Tensor:
        """Return where a mixture of places looks: ``sharesᵀ · A`` of each head.

        Parameters
        ----------
        shares : shape (P + H·W,); how much each place counts

        Returns
        -------
        shape (heads, P + H·W), float32
        """
        sizes = self.sizes
        owners = torch.arange(self.n_places) if self.owners is None else self.owners
        asked = torch.zeros(len(sizes)).index_add_(0, owners, shares.float())
        seen = torch.zeros(self.n_heads, len(sizes) + 1)
        for part in self.parts:
            # padding looks up a share of zero behind the last token
            wanted = torch.cat([asked, asked.new_zeros(1)])[part.queries]
            for group in wanted.any(dim=1).nonzero()[:, 0].tolist():
                for rows in wanted[group].nonzero()[:, 0].split(CHUNK):
                    looked = torch.einsum(
                        "m,hmn->hn", wanted[group, rows], part.weights(group, rows)
                    )
                    seen.index_add_(1, part.keys[group] % (len(sizes) + 1), looked)
        return (seen[:, :-1] / sizes)[:, owners]
