"""What a correction asks the model, what it answers, and what came of it.

Points are (y, x) in image pixels, where pixel (y, x) covers [y, y + 1) × [x, x + 1).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Protocol

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Point = tuple[float, float]
    Box = tuple[int, int, int, int]
    Place = tuple[int, ...]

    class Drawn(Protocol):
        """What the model proposes; see `dinomask.adapt.prompt.Proposal`."""

        mask_yx: Array
        corner_yx_px: tuple[int, int]
        class_id: int
        rank: int
        n_ranks: int


@dataclasses.dataclass(frozen=True)
class Question:
    """What the model is asked: the object at a point, or in a box."""

    plane: Place
    """Of the labels."""

    point_yx_px: Point | None = None
    """Where the click was."""

    box_yxyx_px: tuple[float, float, float, float] | None = None
    """What was dragged."""

    rank: int = 0
    """Which of the sizes at the point."""

    replaces: int = 0
    """Label of the object that the answer takes the place of; 0 for a new one."""


@dataclasses.dataclass(frozen=True)
class Done:
    """What an action did."""

    text: str
    """In words."""

    window_yxyx_px: Box | None = None
    """Where labels may show something else now."""

    plane: Place = ()
    """In which plane."""
