"""The instances of a whole image, and the shapes that are drawn of them."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from dinomask.instances import Array, Instances
from dinomask.tiles.grid import BoxGrid
from dinomask.tiles.join import intersection


@dataclasses.dataclass(frozen=True)
class Pieces:
    """The parts that tiles saw of objects which none saw whole.

    Attributes
    ----------
    instances : K parts, in image pixels
    owner : shape (K,), int64, ascending; which object of `Stitched.instances`
    clips_yxyx_px : shape (K, 4), float64; each part counts within its tile's
        read region only
    """

    instances: Instances
    owner: Array
    clips_yxyx_px: Array

    @staticmethod
    def none() -> Pieces:
        """Return no pieces."""
        return Pieces(Instances.empty(), np.zeros(0, np.int64), np.zeros((0, 4)))

    def __len__(self) -> int:
        return len(self.owner)


@dataclasses.dataclass(frozen=True)
class Stitched:
    """All instances of an image, in the order of their tiles.

    Attributes
    ----------
    instances : N instances in image pixels, sorted by tile, then by box. The
        box of an object that was cut holds all its pieces, and its mask is a
        coarse picture of them; pixels are drawn from the pieces themselves
    tile_index : shape (N,), int64; the tile that found each, or its first piece
    ids : shape (N,), uint32; 1 to N, so ids follow the tiles' order
    n_seam_duplicates : how many were dropped as a second sight of an object
    pieces : of the objects that no tile saw whole
    """

    instances: Instances
    tile_index: Array
    ids: Array
    n_seam_duplicates: int
    pieces: Pieces = dataclasses.field(default_factory=Pieces.none)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_cut_objects(self) -> int:
        """Objects that no tile saw whole."""
        return len(np.unique(self.pieces.owner))

    @property
    def n_merged_objects(self) -> int:
        """Objects joined of the pieces of two tiles or more."""
        return int(np.count_nonzero(np.bincount(self.pieces.owner) > 1))

    @property
    def is_cut(self) -> Array:
        """Tell which objects no tile saw whole, shape (N,), bool."""
        cut = np.zeros(len(self), bool)
        cut[self.pieces.owner] = True
        return cut

    @functools.cached_property
    def shapes(self) -> Shapes:
        """What is drawn, by place."""
        return Shapes.of(self)

    def take(self, index: Array) -> Stitched:
        """Return the instances chosen by a boolean mask or ascending indices, with their ids."""
        chosen = np.arange(len(self))[index]
        place = np.full(len(self), -1)
        place[chosen] = np.arange(len(chosen))
        owner = place[self.pieces.owner]
        parts = Pieces(
            self.pieces.instances.take(owner >= 0),
            owner[owner >= 0],
            self.pieces.clips_yxyx_px[owner >= 0],
        )
        return dataclasses.replace(
            self,
            instances=self.instances.take(chosen),
            tile_index=self.tile_index[chosen],
            ids=self.ids[chosen],
            pieces=parts,
        )

    def scaled(self, factor: float) -> Stitched:
        """Return the instances of the image enlarged by a factor."""
        return dataclasses.replace(
            self,
            instances=_scaled(self.instances, factor),
            pieces=dataclasses.replace(
                self.pieces,
                instances=_scaled(self.pieces.instances, factor),
                clips_yxyx_px=self.pieces.clips_yxyx_px * factor,
            ),
        )

    def with_ids(self, ids: Array) -> Stitched:
        """Return the instances under other ids, shape (N,), above 0; several may share one."""
        return dataclasses.replace(self, ids=np.asarray(ids, np.uint32))


def _scaled(instances: Instances, factor: float) -> Instances:
    boxes = instances.boxes_yxyx_px * np.float32(factor)
    return dataclasses.replace(instances, boxes_yxyx_px=boxes)


@dataclasses.dataclass(frozen=True)
class Shapes:
    """What is drawn: instances that were seen whole, and the pieces of the others.

    Attributes
    ----------
    stitched : where they come from
    owner : shape (S,), int64; the instance that each is or is part of
    row : shape (S,), int64; its row in the instances, or in the pieces
    n_whole : how many come from the instances; pieces follow
    grid : where they lie
    """

    stitched: Stitched
    owner: Array
    row: Array
    n_whole: int
    grid: BoxGrid

    @staticmethod
    def of(stitched: Stitched) -> Shapes:
        """List the shapes of a set of instances."""
        pieces = stitched.pieces
        whole = np.flatnonzero(~stitched.is_cut)
        boxes = stitched.instances.boxes_yxyx_px[whole].astype(np.float64)
        part_boxes = pieces.instances.boxes_yxyx_px.astype(np.float64)
        grid = BoxGrid.of(np.concatenate([boxes, intersection(part_boxes, pieces.clips_yxyx_px)]))
        owner = np.concatenate([whole, pieces.owner])
        row = np.concatenate([whole, np.arange(len(pieces))])
        return Shapes(stitched, owner, row, len(whole), grid)

    def touching(self, window_yxyx_px: tuple[int, int, int, int]) -> Array:
        """Return the shapes whose boxes share area with a window, ascending."""
        return self.grid.touching(window_yxyx_px)

    def masks_and_boxes(self, which: Array) -> tuple[Array, Array, Array]:
        """Return masks (n, M, M), boxes (n, 4) and clips (n, 4) of ascending shapes."""
        split = int(np.searchsorted(which, self.n_whole))
        found, pieces = self.stitched.instances, self.stitched.pieces
        whole, part = self.row[which[:split]], self.row[which[split:]]
        endless = np.tile(np.array([-np.inf, -np.inf, np.inf, np.inf]), (split, 1))
        if not len(part):
            return found.masks[whole], found.boxes_yxyx_px[whole], endless
        return (
            np.concatenate([found.masks[whole], pieces.instances.masks[part]]),
            np.concatenate([found.boxes_yxyx_px[whole], pieces.instances.boxes_yxyx_px[part]]),
            np.concatenate([endless, pieces.clips_yxyx_px[part]]),
        )
