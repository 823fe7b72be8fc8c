"""The levels and channels of a source, told from the shapes of its arrays."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from dinomask.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

Shape = tuple[int, ...]


def require_pyramid(shapes: Sequence[Shape], axes: str) -> None:
    """Raise InputError unless levels go from fine to coarse with the same channels."""
    for fine, coarse in itertools.pairwise(shapes):
        if len(coarse) == len(fine) and all(
            0 < c <= f and (a not in "cs" or c == f)
            for a, f, c in zip(axes, fine, coarse, strict=True)
        ):
            continue
        raise InputError(
            expected="levels from fine to coarse with the same axes and channels",
            got=f"shapes {list(shapes)}",
            remedy="Put the full-resolution array first, or give that one alone.",
        )


def scales_yx(shapes: Sequence[Shape], axes: str) -> tuple[tuple[float, float], ...]:
    """Return each level's pixels per level-0 pixel along y and x."""
    y, x = axes.index("y"), axes.index("x")
    fine = shapes[0]
    return tuple((_snapped(fine[y], s[y]), _snapped(fine[x], s[x])) for s in shapes)


def _snapped(fine_px: int, coarse_px: int) -> float:
    """Return the scale of the nearest whole factor that explains a rounded size.

    Pyramids halve sizes and round, so 1025 → 513 means a factor of 2, not 1.998.
    """
    factor = max(1, round(fine_px / coarse_px))
    if coarse_px in (fine_px // factor, -(-fine_px // factor)):
        return 1 / factor
    return coarse_px / fine_px


def visible_channels(n_stored: int, n_samples: int, alpha: bool) -> tuple[int, ...]:
    """Return all channels but opacity, samples counted within stored channels.

    Parameters
    ----------
    n_stored : length of the axis c
    n_samples : length of the axis s; a fourth sample of a colour pixel is opacity
    alpha : whether the last sample is known to be opacity
    """
    opaque = n_samples == 4 or (alpha and n_samples > 1)
    shown = range(n_samples - 1 if opaque else n_samples)
    return tuple(c * n_samples + s for c in range(n_stored) for s in shown)


def choose_channels(channels: tuple[int, ...], visible: tuple[int, ...]) -> tuple[int, ...]:
    """Return the visible channels that the user chose; all if none.

    Raises
    ------
    InputError
        If there is no such channel.
    """
    if not all(0 <= c < len(visible) for c in channels):
        raise InputError(
            expected=f"channels from 0 to {len(visible) - 1}",
            got=", ".join(map(str, channels)),
            remedy="The first channel is 0; leave the channels out to use all.",
        )
    return tuple(visible[c] for c in channels) if channels else visible


def runs(indices: Sequence[int]) -> list[slice]:
    """Return sorted indices as slices of neighbours: 0, 1, 2, 5 → 0:3, 5:6."""
    found: list[slice] = []
    for i in indices:
        if found and found[-1].stop == i:
            found[-1] = slice(found[-1].start, i + 1)
        else:
            found.append(slice(i, i + 1))
    return found
