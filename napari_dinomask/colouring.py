"""Colours of objects by a column of their table: plain, without Qt and napari.

Few classes take Okabe and Ito's colours (https://jfly.uni-koeln.de/color), which people with any
kind of colour vision tell apart; numbers take viridis (CC0), which grows evenly in lightness.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Rgb = tuple[int, int, int]

CATEGORIES: tuple[Rgb, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
"""Okabe and Ito's, but for black, which is the plot's ground."""

REST: Rgb = (140, 140, 140)
"""Of what has no value, and of the smallest classes where there are more than colours."""

STEPS = 32
"""Colours of a column of numbers."""

_VIRIDIS = np.array(
    [
        (68, 1, 84),
        (72, 40, 120),
        (62, 74, 137),
        (49, 104, 142),
        (38, 130, 142),
        (31, 158, 137),
        (53, 183, 121),
        (110, 206, 88),
        (181, 222, 43),
        (253, 231, 37),
    ],
    np.float64,
)
_FIRST = 0.12
"""Where on viridis a scale begins: its first colours can't be seen on a dark ground."""

_CLIPPED_PCT = 1.0
"""Share of values at either end that doesn't stretch a scale."""

_FEW = len(CATEGORIES)
"""Whole numbers with no more values than this are classes."""


@dataclasses.dataclass(frozen=True)
class Category:
    """One entry of a legend."""

    name: str
    code: int
    count: int


@dataclasses.dataclass(frozen=True)
class Colouring:
    """A colour for each object.

    Attributes
    ----------
    title : of the column
    codes : shape (N,), uint8, index into `colours`
    colours : of each code
    categories : the legend, the largest first; empty for numbers
    limits : values of the first and the last colour; None for classes
    """

    title: str
    codes: npt.NDArray[np.uint8]
    colours: tuple[Rgb, ...]
    categories: tuple[Category, ...] = ()
    limits: tuple[float, float] | None = None

    def rows_of(self, code: int) -> Array:
        """Return the rows that have a colour."""
        return np.flatnonzero(self.codes == code)


def plain(n: int) -> Colouring:
    """Return one colour for all of n objects."""
    return Colouring("", np.zeros(n, np.uint8), CATEGORIES[:1])


def colour_by(column: pd.Series) -> Colouring:
    """Choose colours by the values of a column: classes or numbers."""
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if is_number and not _is_class(column):
        return _by_number(column)
    return _by_class(column)


def _is_class(column: pd.Series) -> bool:
    """Tell whether numbers are names: whole, and few or called so."""
    values = column.dropna()
    whole = bool((values == values.round()).all()) and bool(np.isfinite(values).all())
    if not whole:
        return False
    return str(column.name) in ("class", "cluster") or values.nunique() <= _FEW


def _by_class(column: pd.Series) -> Colouring:
    names = column.map(_name, na_action="ignore")
    counts = names.value_counts()
    # ties by name, so that colours don't change from one drawing to the next
    order = sorted(counts.index, key=lambda name: (-int(counts[name]), name))
    room = len(CATEGORIES)
    own, others = order[:room], order[room:]
    code_of = {name: code for code, name in enumerate(own)}
    codes = names.map(code_of).fillna(room).to_numpy(np.uint8)
    categories = [Category(name, code, int(counts[name])) for code, name in enumerate(own)]
    n_rest = int((codes == room).sum())
    if n_rest:
        word = f"{len(others)} others" if others else "none"
        categories.append(Category(word, room, n_rest))
    return Colouring(str(column.name), codes, (*CATEGORIES, REST), tuple(categories))


def _by_number(column: pd.Series) -> Colouring:
    values = column.to_numpy(np.float64)
    known = np.isfinite(values)
    codes = np.full(len(values), STEPS, np.uint8)
    if not known.any():
        return Colouring(str(column.name), codes, (*_scale(), REST))
    low, high = np.percentile(values[known], [_CLIPPED_PCT, 100 - _CLIPPED_PCT])
    if high <= low:
        low, high = values[known].min(), values[known].max()
    width = (high - low) or 1.0
    step = np.clip((values[known] - low) / width, 0, 1) * (STEPS - 1)
    codes[known] = np.round(step).astype(np.uint8)
    limits = (float(low), float(high))
    return Colouring(str(column.name), codes, (*_scale(), REST), limits=limits)


def _scale() -> tuple[Rgb, ...]:
    at = np.linspace(_FIRST, 1, STEPS) * (len(_VIRIDIS) - 1)
    anchors = np.arange(len(_VIRIDIS))
    channels = [np.interp(at, anchors, _VIRIDIS[:, c]).round().astype(int) for c in range(3)]
    return tuple((int(r), int(g), int(b)) for r, g, b in zip(*channels, strict=True))


def _name(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)
