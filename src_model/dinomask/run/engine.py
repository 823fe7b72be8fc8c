"""Engines: how the tiles of a plan are worked through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dinomask.instances import Instances


class Engine(Protocol):
    """Anything that applies the tile function to tiles."""

    def map(
        self, function: Callable[[int], Instances], tiles: Iterable[int]
    ) -> Iterator[tuple[int, Instances]]:
        """Yield each tile's number and instances as they are done."""
        ...


class SerialEngine:
    """One tile after another, in this process."""

    def map(
        self, function: Callable[[int], Instances], tiles: Iterable[int]
    ) -> Iterator[tuple[int, Instances]]:
        """Yield each tile's number and instances, in order."""
        for index in tiles:
            yield index, function(index)
