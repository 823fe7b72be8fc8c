"""Regions for which a user vouches that every object in them is right."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.adapt.events import new_id, not_an_event
from dinomask.adapt.geometry import polygon_within
from dinomask.errors import CorrectionError

if TYPE_CHECKING:
    from dinomask.adapt.geometry import Box
    from dinomask.instances import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Reviewed:
    """A region in which every object is right, and all else is background.

    It may hold no object at all: then it says that there is none.

    Attributes
    ----------
    polygon_yx_px : shape (N, 2), float64, N >= 3 corners in image pixels, where pixel (y, x)
        covers [y, y + 1) × [x, x + 1); a rectangle has 4
    plane : index on the axes before y and x
    author : who says so
    time : when, ISO 8601 in UTC
    id : of this event

    Raises
    ------
    CorrectionError
        If there are fewer than three corners, or they are no finite numbers.
    """

    polygon_yx_px: Array
    plane: tuple[int, ...] = ()
    author: str = ""
    time: str = ""
    id: str = dataclasses.field(default_factory=new_id)

    def __post_init__(self) -> None:
        corners = np.array(self.polygon_yx_px, np.float64)
        if corners.ndim != 2 or corners.shape[1:] != (2,) or len(corners) < 3:
            raise _no_region(got=f"shape {corners.shape}")
        if not np.isfinite(corners).all():
            raise _no_region(got="corners that are no finite numbers")
        corners.flags.writeable = False
        object.__setattr__(self, "polygon_yx_px", corners)

    @staticmethod
    def of_box(box_yxyx_px: Box, plane: tuple[int, ...] = ()) -> Reviewed:
        """Return the region of a half-open box."""
        y0, x0, y1, x1 = box_yxyx_px
        return Reviewed(np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]], np.float64), plane)

    @property
    def box_yxyx_px(self) -> Box:
        """The smallest box of whole pixels around it; may reach beyond the image."""
        low = np.floor(self.polygon_yx_px.min(axis=0)).astype(int)
        high = np.ceil(self.polygon_yx_px.max(axis=0)).astype(int)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def mask(self, window_yxyx_px: Box) -> Array:
        """Return which pixels of a window have their centre inside, bool."""
        return polygon_within(self.polygon_yx_px, window_yxyx_px)

    def as_json(self) -> dict[str, Any]:
        """Return plain json values."""
        return {
            "polygon": self.polygon_yx_px.tolist(),
            "plane": list(self.plane),
            "author": self.author,
            "time": self.time,
            "id": self.id,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Reviewed:
        """Return the region that `as_json` wrote.

        Raises
        ------
        JournalError
            If it is not one.
        """
        try:
            return Reviewed(
                np.array(value["polygon"], np.float64),
                tuple(int(i) for i in value["plane"]),
                *(str(value[key]) for key in ("author", "time", "id")),
            )
        except (KeyError, TypeError, ValueError, CorrectionError) as error:
            raise not_an_event(expected="a reviewed region", got=error) from error

    def __eq__(self, other: object) -> bool:
        """Tell whether both are the same event."""
        return self.as_json() == other.as_json() if isinstance(other, Reviewed) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)


def _no_region(got: str) -> CorrectionError:
    return CorrectionError(
        expected="a region of at least three corners, each y and x",
        got=got,
        remedy="Draw a rectangle or a lasso around what you have checked.",
    )
