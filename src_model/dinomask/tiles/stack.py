"""One label image or a stack of them, as the writers of formats want it: in pieces, in order."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import InputError
from dinomask.tiles.render import Drawing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pandas as pd

    from dinomask.instances import Array
    from dinomask.tiles.painters import Painters
    from dinomask.tiles.plan import Box
    from dinomask.tiles.render import Progress
    from dinomask.tiles.stitched import Stitched


@dataclasses.dataclass
class LabelStack:
    """The planes of a label image, drawn one after another when they are asked for.

    Attributes
    ----------
    planes : the instances of each plane, in the order of the leading axes
        (the last of them fastest); each is taken when the one before is done
    shape : of the whole, ending in height and width
    axes : one lower-case letter an axis, ending in yx, such as ``"tzyx"``
    dtype : of the labels
    spacing : size of a step along an axis: micrometres, seconds for t; axes
        that are missing have no unit
    painters : who draws
    progress : told after each piece, of all planes
    notes : what a reader must know of the result, as plain json values
    tables : of the planes drawn so far
    """

    planes: Iterable[Stitched]
    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[np.unsignedinteger]
    spacing: Mapping[str, float]
    painters: Painters
    progress: Progress | None = None
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tables: list[pd.DataFrame] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.shape) or self.axes[-2:] != "yx":
            raise InputError(
                expected="one axis a dimension, ending in yx, such as tzyx",
                got=f"axes {self.axes!r} for the shape {self.shape}",
                remedy="Name the axes of the label image in the order of its shape.",
            )
        self._planes = iter(self.planes)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return self.shape[-2], self.shape[-1]

    @property
    def n_planes(self) -> int:
        """Number of planes."""
        return math.prod(self.shape[:-2])

    def places(self) -> Iterator[tuple[int, ...]]:
        """Yield the index of each plane on the leading axes, in order."""
        return itertools.product(*(range(n) for n in self.shape[:-2]))

    def pieces(
        self, windows: Callable[[], Iterable[Box]], n_windows: int
    ) -> Iterator[tuple[tuple[int, ...], Box, Array]]:
        """Yield every plane's index, and each of its windows with the labels there.

        Parameters
        ----------
        windows : gives the same partition of a plane each time it is called
        n_windows : how many windows it has

        Raises
        ------
        InputError
            If there are fewer planes than the shape says.
        """
        done = 0
        for place in self.places():
            stitched = next(self._planes, None)
            if stitched is None:
                raise self._wrong_number(more=False)
            drawing = Drawing(stitched, self.shape_yx, self.dtype)
            self._require_room(stitched)
            for window, labels_yx in drawing.draw(windows(), self.painters):
                done += 1
                # before the yield: a consumer that has all it needs never comes back
                if self.progress is not None:
                    self.progress(done, n_windows * self.n_planes)
                if done % n_windows == 0:
                    leading = dict(zip(self.axes[:-2], place, strict=True))
                    self.tables.append(drawing.table(leading))
                yield place, window, labels_yx

    def require_end(self) -> None:
        """Check after all pieces were taken that no plane is left over.

        Raises
        ------
        InputError
            If there is one.
        """
        if next(self._planes, None) is not None:
            raise self._wrong_number(more=True)

    def _wrong_number(self, *, more: bool) -> InputError:
        return InputError(
            expected=f"{self.n_planes} planes for the shape {self.shape}",
            got="more" if more else "fewer",
            remedy="Give one set of instances for each plane.",
        )

    def _require_room(self, stitched: Stitched) -> None:
        largest, room = int(stitched.ids.max(initial=0)), np.iinfo(self.dtype).max
        if largest > room:
            raise InputError(
                expected=f"ids up to {room}, as announced",
                got=f"id {largest}",
                remedy="Announce the highest id, or leave it out.",
            )
