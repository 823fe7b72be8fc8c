"""Names for the axes of an array: given, read from metadata or guessed.

One letter an axis: ``t`` time, ``c`` channel, ``z`` depth, ``y`` rows, ``x``
columns, ``s`` the samples of a colour pixel. ``?`` stands for an axis that
nobody has named yet.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dinomask.errors import AxesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np

AXES = "tczyxs"
"""Every letter an axis can have."""

PLANE_AXES = "tz"
"""Axes of which one index is segmented at a time."""

OPEN_END = 2**62
"""Stands for the end of an axis in a range of planes."""

UNKNOWN = "?"
"""An axis without a name; it must have length 1 or be named by the user."""

_LETTERS = {
    "time": "t",
    "frame": "t",
    "channel": "c",
    "channels": "c",
    "depth": "z",
    "slice": "z",
    "row": "y",
    "height": "y",
    "column": "x",
    "width": "x",
    "rgb": "s",
    "sample": "s",
}


def parse_axes(axes: str, shape: Sequence[int]) -> str:
    """Check axes that the user named.

    Parameters
    ----------
    axes : one letter of ``tczyxs`` an axis, any case, e.g. ``"czyx"``
    shape : the array's shape

    Returns
    -------
    the axes in lower case

    Raises
    ------
    AxesError
        If a letter is unknown or repeated, y or x is missing, or the number of
        letters is not the number of axes.
    """
    named = axes.strip().lower()
    if not set(named) <= set(AXES) or len(set(named)) != len(named) or not {"y", "x"} <= set(named):
        raise AxesError(
            expected="axes with y and x, and any of t, c, z, s, each once",
            got=f"axes={axes!r}",
            remedy='Name each axis with one letter, for example axes="czyx" (--axes czyx).',
        )
    if len(named) != len(shape):
        raise AxesError(
            expected=f"{len(shape)} axes for an array of shape {tuple(shape)}",
            got=f"axes={axes!r}",
            remedy="Give one letter for each number of the shape, in the same order.",
        )
    return named


def letters(names: Iterable[object]) -> str:
    """Turn names found in metadata into axis letters; ``?`` where there is none.

    When neither rows nor columns are named, the last two axes (before the
    samples of a colour pixel) are taken for them.
    """
    found = [_LETTERS.get(str(name).lower(), str(name).lower()) for name in names]
    found = [a if a in tuple(AXES) and found.count(a) == 1 else UNKNOWN for a in found]
    last = len(found) - (1 if found and found[-1] == "s" else 0)
    if not {"y", "x"} & set(found) and last >= 2:
        found[last - 2 : last] = ["y", "x"]
    return "".join(found)


def guess_axes(shape: Sequence[int], dtype: np.dtype) -> str:
    """Guess the axes of an array without names; ``?`` where there is no telling.

    The last two axes are rows and columns, unless a last axis of length 3 or 4
    in 8- or 16-bit unsigned integers looks like colour, or one of length 1
    like a channel.
    """
    ndim = len(shape)
    if ndim >= 3 and shape[-1] in (3, 4) and dtype.kind == "u" and dtype.itemsize <= 2:
        return UNKNOWN * (ndim - 3) + "yxs"
    if ndim >= 3 and shape[-1] == 1 and any(n > 1 for n in shape[:-2]):
        return UNKNOWN * (ndim - 3) + "yx" + UNKNOWN
    return UNKNOWN * (ndim - 2) + "yx"


def settle_axes(hint: str, shape: Sequence[int], plane: Mapping[str, int]) -> str:
    """Name the axes that a hint leaves open, or say how the user can.

    Open axes of length 1 do not matter and get a free letter. When the chosen
    plane names exactly as many axes as are open, these are the ones.

    Raises
    ------
    AxesError
        If an axis of length > 1 stays without a name, or y or x is missing.
    """
    if len(hint) != len(shape) or not {"y", "x"} <= set(hint):
        raise AxesError(
            expected="an image with at least the axes y and x",
            got=f"an array of shape {tuple(shape)}",
            remedy='Give a 2-D image, or name the axes: axes="zyx" (--axes zyx).',
        )
    open_axes = [i for i, a in enumerate(hint) if a == UNKNOWN and shape[i] > 1]
    from_plane = [a for a in PLANE_AXES if a in plane and a not in hint]
    if len(open_axes) not in (0, len(from_plane)):
        raise AxesError(
            expected="axes that can be told apart",
            got=f"shape {tuple(shape)} without the names of all axes",
            remedy=_how_to_name(hint, shape),
        )
    settled = list(hint)
    for i, name in zip(open_axes, from_plane, strict=False):
        settled[i] = name
    return _name_unit_axes(settled, shape)


def _name_unit_axes(settled: list[str], shape: Sequence[int]) -> str:
    free = [a for a in "czt" if a not in settled]
    if settled.count(UNKNOWN) > len(free):
        raise AxesError(
            expected=f"at most {len(AXES)} axes",
            got=f"shape {tuple(shape)}",
            remedy="Remove the axes of length 1 (numpy.squeeze).",
        )
    return "".join(free.pop(0) if a == UNKNOWN else a for a in settled)


def _how_to_name(hint: str, shape: Sequence[int]) -> str:
    stack, channels = (_one_way(hint, shape, order) for order in ("tcz", "tzc"))
    return f"Name them: {stack}, or {channels}."


def _one_way(hint: str, shape: Sequence[int], order: str) -> str:
    """Spell out one way to name the open axes, in Python and on the command line."""
    free = [a for a in order if a not in hint][-hint.count(UNKNOWN) :]
    axes = "".join(free.pop(0) if a == UNKNOWN and free else a for a in hint)
    chosen = {a: n // 2 for a, n in zip(axes, shape, strict=True) if a in PLANE_AXES and n > 1}
    python = f'axes="{axes}"' + (f", plane={chosen}" if chosen else "")
    options = "".join(f" --plane {a}={i}" for a, i in chosen.items())
    return f"{python} (--axes {axes}{options})"


def choose_plane(axes: str, shape: Sequence[int], plane: Mapping[str, int]) -> dict[str, int]:
    """Return the index to read on each of the axes t and z that the image has.

    Raises
    ------
    AxesError
        If an axis longer than 1 has no index, or an index does not fit.
    """
    for name, index in plane.items():
        if name not in PLANE_AXES:
            raise AxesError(
                expected="a plane of the axis z or t",
                got=f"{name}={index}",
                remedy="Use for example --plane z=5; channels are chosen with --channels.",
            )
        if name not in axes and index != 0:
            raise AxesError(
                expected=f"a plane of one of the image's axes {axes!r}",
                got=f"{name}={index}",
                remedy=f"Leave out the plane {name}, or name the axes with --axes.",
            )
    sizes = dict(zip(axes, shape, strict=True))
    return {a: _plane_index(a, sizes[a], plane.get(a)) for a in axes if a in PLANE_AXES}


def _plane_index(name: str, size: int, index: int | None) -> int:
    if index is None and size > 1:
        raise AxesError(
            expected=f"one plane of the axis {name}, which has {size}",
            got="none chosen",
            remedy=f"Choose one: plane={{'{name}': {size // 2}}} (--plane {name}={size // 2}).",
        )
    if index is not None and not 0 <= index < size:
        raise AxesError(
            expected=f"a plane {name} from 0 to {size - 1}",
            got=f"{name}={index}",
            remedy=f"Choose for example --plane {name}={size // 2}; the first plane is 0.",
        )
    return 0 if index is None else int(index)


def parse_planes(items: Sequence[str]) -> dict[str, int | range]:
    """Read what a user writes for planes: one index, or a half-open range.

    Parameters
    ----------
    items : such as ``z=5``, ``t=3:9``, ``z=:4`` or ``t=10:``, which goes on to the last

    Raises
    ------
    AxesError
        If an item names another axis, one twice, or no index.

    Examples
    --------
    >>> parse_planes(["t=0", "z=3:9"])
    {'t': 0, 'z': range(3, 9)}
    """
    found: dict[str, int | range] = {}
    for item in items:
        axis, _, index = item.partition("=")
        match = re.fullmatch(r"(\d+)|(\d*):(\d*)", index)
        if axis not in tuple(PLANE_AXES) or match is None or axis in found:
            raise AxesError(
                expected="planes such as z=5, or t=3:9 for those from 3 to 8, once an axis",
                got=repr(item),
                remedy="For the sixth plane of a stack: --plane z=5. Leave it out for all planes.",
            )
        if match[1]:
            found[axis] = int(match[1])
        else:
            found[axis] = range(int(match[2] or 0), int(match[3]) if match[3] else OPEN_END)
    return found


def choose_planes(
    axes: str, shape: Sequence[int], planes: Mapping[str, int | range]
) -> dict[str, range]:
    """Return the indices to go through on the axes t and z, in this order, that the image has.

    Parameters
    ----------
    axes, shape : of the source
    planes : an index, or a range, of some of them; the others are taken whole

    Raises
    ------
    AxesError
        If an axis is no axis of planes or of the image, or an index lies outside.
    """
    sizes = dict(zip(axes, shape, strict=True))
    whole = {a: range(sizes[a]) for a in PLANE_AXES if a in sizes}
    fixed = {a: p for a, p in planes.items() if not isinstance(p, range)}
    # the checks and messages of one plane
    choose_plane(axes, shape, {**dict.fromkeys(whole, 0), **fixed})
    for name, wanted in planes.items():
        if name not in whole:
            if isinstance(wanted, range):
                choose_plane(axes, shape, {**dict.fromkeys(whole, 0), name: max(wanted.start, 1)})
            continue
        size = len(whole[name])
        if not isinstance(wanted, range):
            whole[name] = range(wanted, wanted + 1)
            continue
        stop = size if wanted.stop == OPEN_END else wanted.stop
        if not 0 <= wanted.start < stop <= size:
            raise AxesError(
                expected=f"planes {name} from 0 to {size - 1}",
                got=f"{name}={wanted.start}:{stop}",
                remedy=f"Ranges are half-open: all are --plane {name}=0:{size}.",
            )
        whole[name] = range(wanted.start, stop)
    return whole
