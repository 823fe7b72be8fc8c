"""Which objects are chosen, and which lie in a lasso: plain, without Qt and napari.

Objects are known by *keys*, not by rows: whatever a table or a plot does to their order, the
same objects stay chosen.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from skimage.measure import points_in_poly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Keys = npt.NDArray[np.int64]

How = Literal["replace", "add", "remove"]
"""What a lasso or a click does to what is chosen already."""


class Selection:
    """The chosen objects; tells whoever listens when they are others.

    Attributes
    ----------
    keys : sorted, without doubles; not to be changed
    """

    def __init__(self) -> None:
        self.keys: Keys = _sorted_keys(())
        self._listeners: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: int) -> bool:
        place = int(np.searchsorted(self.keys, key))
        return place < len(self.keys) and int(self.keys[place]) == key

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function whenever other objects are chosen."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Call a function no more."""
        self._listeners.remove(listener)

    def choose(self, keys: Iterable[int] | Keys, how: How = "replace") -> None:
        """Choose objects in the place of the chosen ones, besides them, or no more."""
        given = _sorted_keys(keys)
        if how == "add":
            given = np.union1d(self.keys, given)
        elif how == "remove":
            given = np.setdiff1d(self.keys, given, assume_unique=True)
        self._set(given)

    def toggle(self, key: int) -> None:
        """Choose an object that isn't, and leave one that is."""
        self.choose([key], "remove" if key in self else "add")

    def keep(self, known: Iterable[int] | Keys) -> None:
        """Leave the objects that are no more."""
        self._set(np.intersect1d(self.keys, _sorted_keys(known), assume_unique=True))

    def clear(self) -> None:
        """Choose nothing."""
        self._set(_sorted_keys(()))

    def mask(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Tell of each of some objects, in their order, whether it is chosen."""
        return np.isin(keys, self.keys)

    def _set(self, keys: Keys) -> None:
        if np.array_equal(keys, self.keys):
            return
        keys.flags.writeable = False
        self.keys = keys
        for listener in tuple(self._listeners):
            listener()


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Objects as points of a plane.

    Attributes
    ----------
    keys : shape (N,), one an object
    points_xy : shape (N, 2), float64, finite
    """

    keys: Keys
    points_xy: Array

    def __len__(self) -> int:
        return len(self.keys)

    def inside(self, polygon_xy: Array) -> Keys:
        """Return the objects inside a polygon.

        Where it crosses itself, what is enclosed twice lies outside (even-odd rule).

        Parameters
        ----------
        polygon_xy : shape (M, 2), corners in order; closed by itself
        """
        corners = np.asarray(polygon_xy, np.float64).reshape(-1, 2)
        if len(corners) < 3:
            return self.keys[:0]
        low, high = corners.min(axis=0), corners.max(axis=0)
        # what lies in no box around it needs no closer look
        near = np.flatnonzero(np.all((self.points_xy >= low) & (self.points_xy <= high), axis=1))
        return self.keys[near[points_in_poly(self.points_xy[near], corners)]]

    def nearest(self, point_xy: tuple[float, float], reach_xy: tuple[float, float]) -> int | None:
        """Return the object next to a point; None if none is in reach.

        Parameters
        ----------
        point_xy : where
        reach_xy : half axes of the ellipse that counts as near, both above 0
        """
        if not len(self):
            return None
        distance = np.sum(((self.points_xy - point_xy) / reach_xy) ** 2, axis=1)
        row = int(distance.argmin())
        return int(self.keys[row]) if distance[row] <= 1 else None


def _sorted_keys(keys: Iterable[int] | Keys) -> Keys:
    array = keys if isinstance(keys, np.ndarray) else np.fromiter(keys, np.int64)
    return np.unique(array.astype(np.int64, copy=False))
