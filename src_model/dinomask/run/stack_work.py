"""The tiles of all planes of a stack, as one long list."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np

from dinomask.run.detect import FailedTile
from dinomask.run.engines.tile_work import TileWork

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dinomask.image.stack import Stack
    from dinomask.instances import Array, Instances
    from dinomask.tiles.ledger import Ledger
    from dinomask.tiles.plan import Box


@dataclasses.dataclass(frozen=True)
class StackWork(TileWork):
    """The work of a run over planes: tile i of plane p has the number p · len(plan) + i.

    Attributes
    ----------
    stack : the planes; `image` is the first of them
    """

    stack: Stack

    @property
    def n_tiles(self) -> int:
        """Tiles of all planes."""
        return len(self.plan) * len(self.stack)

    def place(self, index: int) -> tuple[int, ...]:
        """Return where in the stack's shape the plane of a tile lies."""
        return self.stack.position(index // len(self.plan))

    def of_plane(self, place: tuple[int, ...], window_yxyx_px: Box) -> Iterator[int]:
        """Yield the tiles of a plane: those that touch a window of it, then the others.

        Parameters
        ----------
        place : as `Stack.position` gives it; `()` means the first plane
        window_yxyx_px : in image pixels
        """
        n = len(self.plan)
        begin = n * int(np.ravel_multi_index(place, self.stack.shape)) if place else 0
        yield from (begin + i for i in self.plan.tiles_touching(window_yxyx_px))
        yield from range(begin, begin + n)

    def read(self, index: int) -> Array | None:
        """Return a tile's pixels, shape (3, H, W), float32; None if it is blank."""
        number, tile = divmod(index, len(self.plan))
        plane = self.stack.image(number)
        return TileWork(plane, self.normaliser, self.plan, self.config).read(tile)

    def keep(self, index: int, found: Instances) -> Instances:
        """Bring what was found in a tile into the plane's pixels; keep what the tile owns."""
        return TileWork.keep(self, index % len(self.plan), found)

    def failed_tiles(self, ledger: Ledger) -> tuple[FailedPlaneTile, ...]:
        """List the tiles that failed, and why."""
        n = len(self.plan)
        return tuple(
            FailedPlaneTile(
                index % n,
                self.plan.core_image_yxyx(self.plan[index % n]),
                reason,
                self.stack.plane(index // n),
            )
            for index, reason in ledger.failed().items()
        )


@dataclasses.dataclass(frozen=True)
class FailedPlaneTile(FailedTile):
    """A tile of a plane whose objects are missing.

    Attributes
    ----------
    plane : the source's indices along t and z
    """

    plane: Mapping[str, int]

    @property
    def place(self) -> str:
        """Where it is, in words."""
        planes = [f"{axis} {index}" for axis, index in self.plane.items()]
        return ", ".join([*planes, super().place])


def by_plane(ledger: Ledger, n_tiles: int) -> Iterator[tuple[int, list[tuple[int, Instances]]]]:
    """Yield the number of each plane with records, and these, by tile; one plane in memory.

    Parameters
    ----------
    n_tiles : tiles of one plane
    """
    records = ledger.records()
    for number, group in itertools.groupby(records, key=lambda record: record[0] // n_tiles):
        yield number, [(index % n_tiles, found) for index, found in group]
