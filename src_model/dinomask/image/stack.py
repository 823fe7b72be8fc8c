"""The planes of a movie or stack, each an image of its own."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from dinomask.config import NormaliseConfig
from dinomask.errors import ChunkError
from dinomask.image.axes import choose_planes, guess_axes, parse_axes, settle_axes
from dinomask.image.doctor import Finding, examine
from dinomask.image.identity import SMALL_BYTES, content_stamp, identity_of, pixels_changed
from dinomask.image.normalise import Normaliser, fit_array, read_samples
from dinomask.image.raw import dtype_of, stamp_of
from dinomask.image.source import find_source, settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dinomask.image.image import Image

_SAMPLED_PLANES = 8

EXAMINED_PLANES = 5
"""Planes that the input doctor looks at, at most."""

FITTED_PLANES = 16
"""Planes of which intensities are sampled, at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """Planes of one source, along t, z or both, that are opened together.

    Attributes
    ----------
    base : the first plane; levels, channels and metadata are those of all
    indices : the source's indices along t and z, in this order, as far as there is
        more than one; empty for a single plane
    identity : short hash of the source and of what was chosen from it
    """

    base: Image
    indices: Mapping[str, range]
    identity: str

    def __len__(self) -> int:
        return math.prod(self.shape)

    @property
    def axes(self) -> str:
        """The axes gone through, such as ``"tz"``."""
        return "".join(self.indices)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of planes along each of `axes`."""
        return tuple(len(r) for r in self.indices.values())

    def position(self, number: int) -> tuple[int, ...]:
        """Return where in `shape` a plane lies, numbered from 0 with the last axis fastest.

        Raises
        ------
        IndexError
            If there is no such plane.
        """
        if not 0 <= number < len(self):
            msg = f"plane {number} of a stack of {len(self)}"
            raise IndexError(msg)
        found: list[int] = []
        for size in reversed(self.shape):
            number, index = divmod(number, size)
            found.insert(0, index)
        return tuple(found)

    def plane(self, number: int) -> dict[str, int]:
        """Return the source's indices along t and z of a plane, fixed axes among them."""
        places = zip(self.indices.items(), self.position(number), strict=True)
        return {**self.base.plane, **{axis: r[i] for (axis, r), i in places}}

    def image(self, number: int) -> Image:
        """Return a plane as an image; nothing is opened for it.

        That of a single plane is as `open_image` gives it, known by its own pixels;
        those of several are known by the stack they are of.
        """
        image = self.base.at_plane(self.plane(number))
        if len(self) > 1:
            return image
        return dataclasses.replace(image, identity=identity_of(image))

    def spread(self, n: int) -> list[int]:
        """Return the numbers of up to n planes, spread evenly over all."""
        n = min(n, len(self))
        return sorted({(2 * i + 1) * len(self) // (2 * n) for i in range(n)})

    def require_same(self) -> None:
        """Compare the source with what was opened, pixels and all; for the end of a run.

        Raises
        ------
        SourceChangedError
            If the source, or a pixel that is part of the identity, is another.
        """
        self.base.require_unchanged()
        if self.base.sampled and _identity(self) != self.identity:
            raise pixels_changed(self.base)


def open_stack(
    source: object,
    *,
    axes: str | None = None,
    channels: Sequence[int] = (),
    planes: Mapping[str, int | range] | None = None,
) -> Stack:
    """Open all planes of an image, or some, without reading more of it than needed.

    Parameters
    ----------
    source : what `dinomask.image.open_image` takes
    axes : the source's axes, e.g. ``"tczyx"``; None takes them from metadata
    channels : which channels to read, counted from 0; empty takes all
    planes : an index or a range along t and z, e.g. ``{"t": 0, "z": range(3, 9)}``;
        axes left out are taken whole

    Raises
    ------
    AxesError
        If axes are ambiguous or wrong, or a plane lies outside.
    InputError
        If the source is missing, empty, damaged or no image.

    Examples
    --------
    >>> import numpy as np
    >>> stack = open_stack(np.zeros((2, 5, 60, 80), np.uint8), axes="tzyx", planes={"t": 1})
    >>> stack.axes, len(stack), stack.plane(4)
    ('z', 5, {'t': 1, 'z': 4})
    """
    raw = find_source(source)
    shape = tuple(int(n) for n in raw.levels[0].shape)
    if axes:
        named = parse_axes(axes, shape)
    else:
        hint = raw.axes or guess_axes(shape, dtype_of(raw.levels[0]))
        # a plane or a range names the axis it is taken from
        named = settle_axes(hint, shape, dict.fromkeys(planes or {}, 0))
    if 0 in shape:
        # says what is wrong
        settle(raw, named, (), {})
    chosen = choose_planes(named, shape, dict(planes or {}))
    first = {axis: r[0] for axis, r in chosen.items()}
    base = settle(raw, axes and named, tuple(int(c) for c in channels), first)
    indices = {axis: r for axis, r in chosen.items() if len(r) > 1}
    stack = Stack(base, indices, "")
    return dataclasses.replace(stack, identity=_identity(stack))


def fit_stack_normaliser(stack: Stack, config: NormaliseConfig | None = None) -> Normaliser:
    """Find the percentiles of a stack from a bounded sample, spread over its planes.

    One for all: with one a plane, noise would be blown up in empty planes, and
    the same cell would look different, and be found or not, from plane to plane.

    Parameters
    ----------
    stack : any number of planes; up to `FITTED_PLANES` are looked at
    config : percentiles, and the pixels to read from all of them together

    Raises
    ------
    ChunkError
        If none of these planes can be read.
    """
    config = config or NormaliseConfig()
    numbers = stack.spread(FITTED_PLANES)
    samples, errors = [], []
    for number in numbers:
        try:
            samples.append(read_samples(stack.image(number), config.max_samples // len(numbers))[0])
        except ChunkError as error:
            errors.append(error)
    if not samples:
        raise errors[0]
    return fit_array(np.concatenate(samples, axis=1), stack.base.is_rgb, config)


def examine_stack(stack: Stack) -> list[Finding]:
    """Look for what would spoil a segmentation, in a few planes.

    Parameters
    ----------
    stack : up to `EXAMINED_PLANES` are looked at

    Returns
    -------
    errors of any of these planes, and what else is to be said of all of them

    Raises
    ------
    ChunkError
        If none of them can be read.
    """
    numbers = stack.spread(EXAMINED_PLANES)
    share = NormaliseConfig.max_samples // len(numbers)
    found: list[list[Finding]] = []
    errors_met: list[ChunkError] = []
    for number in numbers:
        try:
            found.append(examine(stack.image(number), max_samples=share))
        except ChunkError as error:
            errors_met.append(error)
    if not found:
        raise errors_met[0]
    errors = [f for findings in found for f in findings if f.severity == "error"]
    # an even plane, at the end of a stack for one, is no fault of the others
    common = [f for f in found[0] if all(f in findings for findings in found[1:])]
    return list(dict.fromkeys([*errors, *common]))


def _identity(stack: Stack) -> str:
    """Hash the source and the planes; pixels of some planes where the stamp can't see them."""
    base = stack.base
    chosen = {axis: (r.start, r.stop) for axis, r in stack.indices.items()}
    fixed = {axis: index for axis, index in base.plane.items() if axis not in chosen}
    facts = (base.stamp, base.levels[0].shape, base.dtype.str, base.axes, base.channels)
    return stamp_of(*facts, sorted(chosen.items()), sorted(fixed.items()), *_content(stack))


def _content(stack: Stack) -> Iterator[str]:
    if not stack.base.sampled:
        return
    base = stack.base
    n_bytes = math.prod(base.shape_yx) * base.n_channels * base.dtype.itemsize * len(stack)
    small = n_bytes <= SMALL_BYTES and base.url is None
    for number in range(len(stack)) if small else stack.spread(_SAMPLED_PLANES):
        yield content_stamp(stack.image(number), n_side=2)
