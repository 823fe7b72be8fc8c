"""The one way to pixels: a lazily read 2-D image with channels.

`open_image` takes whatever a user has (a file, an OME-Zarr, an array, a napari
layer) and returns an `Image` that reads windows of any pyramid level.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import InputError
from dinomask.image.arrays import from_array, is_layer, is_lazy_array
from dinomask.image.axes import choose_plane, guess_axes, parse_axes, settle_axes
from dinomask.image.files import from_path
from dinomask.image.levels import (
    choose_channels,
    require_pyramid,
    runs,
    scales_yx,
    visible_channels,
)
from dinomask.image.raw import READ_ERRORS, RawImage, chunk_bytes, damaged, dtype_of, stamp_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SMALL_BYTES = 32 * 2**20
"""Arrays up to this size are hashed whole, larger ones in sampled blocks."""


@dataclasses.dataclass(frozen=True, eq=False)
class Image:
    """A lazily read 2-D image with channels, perhaps with coarser levels.

    Images of files can be sent to other processes: they are opened again there.
    """

    name: str
    """What to call it in messages."""

    shape_yx: tuple[int, int]
    """Height and width of level 0."""

    n_channels: int
    """Channels that `read` returns: grey 1, colour 3."""

    is_rgb: bool
    """Whether the channels are red, green and blue."""

    dtype: np.dtype
    """Type of the pixels, in the machine's byte order."""

    pixel_size_um: tuple[float, float] | None
    """Height and width of a level-0 pixel; None if unknown."""

    axes: str
    """The source's axes, e.g. ``"tczyx"``; ``s`` are the samples of a colour pixel."""

    plane: Mapping[str, int]
    """The index on each of the axes t and z that the source has."""

    identity: str
    """Short hash of the source and of what was chosen from it."""

    levels: tuple[Any, ...] = dataclasses.field(repr=False)
    """The source's arrays, fine to coarse, with all their axes."""

    channels: tuple[int, ...]
    """Which of the source's channels are read, samples counted within channels."""

    scales_yx: tuple[tuple[float, float], ...]
    """Level pixels per level-0 pixel of each level."""

    notes: tuple[str, ...] = ()
    """What the user should know about how the source was read."""

    path: Path | None = None
    """Where it was opened; None for arrays and layers."""

    def level_shape_yx(self, level: int) -> tuple[int, int]:
        """Return the height and width of a level."""
        shape = self.levels[level].shape
        return int(shape[self.axes.index("y")]), int(shape[self.axes.index("x")])

    def level_scale_yx(self, level: int) -> tuple[float, float]:
        """Return a level's pixels per level-0 pixel, e.g. (0.5, 0.5)."""
        return self.scales_yx[level]

    def level_for(self, scale: float) -> int:
        """Return the coarsest level with at least `scale` of its pixels per level-0 pixel.

        Reading that level and scaling it down is the cheapest way to an image
        at `scale`; for a scale above 1 it is level 0.
        """
        # metadata give 0.49999 for a half
        fine = [i for i, yx in enumerate(self.scales_yx) if min(yx) >= scale * (1 - 1e-3)]
        return max(fine, default=0)

    def read(self, window_yxyx: Sequence[int], level: int = 0) -> NDArray[Any]:
        """Read a window of one level.

        Parameters
        ----------
        window_yxyx : y0, x0, y1, x1 in pixels of that level, half-open
        level : 0 is the finest

        Returns
        -------
        shape (C, y1 - y0, x1 - x0), `dtype`; a copy, never a view

        Raises
        ------
        InputError
            If the window is empty or leaves the image, or the source is damaged.
        """
        window = tuple(int(v) for v in window_yxyx)
        self._require_inside(window, level)
        n_samples = self._size("s")
        stored = sorted({k // n_samples for k in self.channels})
        try:
            blocks = [self._read_block(window, level, part) for part in runs(stored)]
        except READ_ERRORS as error:
            raise damaged(self.path or self.name, error) from error
        pixels_cyx = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
        place = {c: i for i, c in enumerate(stored)}
        picked = [place[k // n_samples] * n_samples + k % n_samples for k in self.channels]
        return np.ascontiguousarray(pixels_cyx[picked], dtype=self.dtype)

    def _size(self, axis: str) -> int:
        return int(self.levels[0].shape[self.axes.index(axis)]) if axis in self.axes else 1

    def _read_block(self, window: tuple[int, ...], level: int, stored: slice) -> NDArray[Any]:
        """Read stored channels `stored`; shape (channels · samples, h, w)."""
        y0, x0, y1, x1 = window
        whole = {"y": slice(y0, y1), "x": slice(x0, x1), "c": stored, "s": slice(None)}
        array = self.levels[level]
        index = tuple(
            # coarser levels may have fewer planes
            self.plane[a] * int(n) // self._size(a) if a in self.plane else whole[a]
            for a, n in zip(self.axes, array.shape, strict=True)
        )
        left = [a for a in self.axes if a not in self.plane]
        order = [left.index(a) for a in "csyx" if a in left]
        return np.asarray(array[index]).transpose(order).reshape(-1, y1 - y0, x1 - x0)

    def _require_inside(self, window: tuple[int, ...], level: int) -> None:
        if not 0 <= level < len(self.levels):
            raise InputError(
                expected=f"a level from 0 to {len(self.levels) - 1}",
                got=f"level {level}",
                remedy="Level 0 is the finest.",
            )
        height, width = self.level_shape_yx(level)
        y0, x0, y1, x1 = window
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise InputError(
                expected=f"a window (y0, x0, y1, x1) inside {height} x {width} pixels",
                got=f"{window}",
                remedy="Windows are half-open and at least one pixel high and wide.",
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle files as the way to open them, arrays with their pixels."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.path is not None:
            values["levels"] = ()
        return _restore, (values,)


def open_image(
    source: object,
    *,
    axes: str | None = None,
    channels: Sequence[int] = (),
    plane: Mapping[str, int] | None = None,
) -> Image:
    """Open an image without reading more of it than needed.

    Parameters
    ----------
    source : path of a TIFF, OME-TIFF, PNG, JPEG, BMP, NPY, zarr or OME-Zarr; a numpy,
        dask, zarr or tensorstore array; a list of such, fine to coarse; a napari layer
    axes : the source's axes, e.g. ``"czyx"``; None takes them from metadata or, for
        2-D and colour arrays, from the shape
    channels : which channels to read, counted from 0; empty takes all
    plane : the index on each axis t and z longer than 1, e.g. ``{"z": 5}``

    Raises
    ------
    AxesError
        If axes are ambiguous or wrong, or a plane must be chosen.
    InputError
        If the source is missing, empty, damaged or no image.

    Examples
    --------
    >>> image = open_image(np.zeros((2, 60, 80), np.uint16), axes="cyx")
    >>> image.shape_yx, image.n_channels, image.read((0, 0, 5, 9)).shape
    ((60, 80), 2, (2, 5, 9))
    """
    if isinstance(source, Image) and axes is None and not channels and plane is None:
        return source
    raw = _find(source)
    return _settle(raw, axes, tuple(int(c) for c in channels), dict(plane or {}))


def _find(source: object) -> RawImage:
    if isinstance(source, str | os.PathLike):
        return from_path(Path(source))
    if is_layer(source) or is_lazy_array(source) or isinstance(source, Sequence):
        return from_array(source)
    raise InputError(
        expected="a path, an array, a list of arrays or a napari image layer",
        got=f"an object of type {type(source).__name__}",
        remedy="Give the path of an image, or numpy.asarray(...) of it.",
    )


def _settle(
    raw: RawImage, axes: str | None, channels: tuple[int, ...], plane: dict[str, int]
) -> Image:
    """Name the axes, choose plane and channels, and compute the identity."""
    shapes = [tuple(int(n) for n in array.shape) for array in raw.levels]
    shape, dtype = shapes[0], dtype_of(raw.levels[0])
    if 0 in shape:
        raise InputError(
            expected="an image with at least one pixel",
            got=f"shape {shape}",
            remedy="Check how the image was written; it is empty.",
        )
    hint = raw.axes or guess_axes(shape, dtype)
    named = parse_axes(axes, shape) if axes else settle_axes(hint, shape, plane)
    chosen_plane = choose_plane(named, shape, plane)
    require_pyramid(shapes, named)
    sizes = dict(zip(named, shape, strict=True))
    visible = visible_channels(sizes.get("c", 1), sizes.get("s", 1), raw.alpha)
    chosen = choose_channels(channels, visible)
    # metadata may say that samples are no colours
    coloured = raw.rgb or ("s" in named and (axes is not None or raw.axes is None))
    image = Image(
        name=raw.name,
        shape_yx=(sizes["y"], sizes["x"]),
        n_channels=len(chosen),
        is_rgb=coloured and len(visible) == 3 and chosen == visible,
        dtype=dtype,
        pixel_size_um=raw.pixel_size_um,
        axes=named,
        plane=chosen_plane,
        identity="",
        levels=raw.levels,
        channels=chosen,
        scales_yx=raw.scales_yx or scales_yx(shapes, named),
        notes=raw.notes,
        path=raw.path,
    )
    return _identified(image, raw)


def _identified(image: Image, raw: RawImage) -> Image:
    """Give an image the hash of its source and of what was chosen from it."""
    chosen = (image.axes, image.channels, sorted(image.plane.items()))
    content = _content_stamp(image) if raw.sampled else ""
    facts = (raw.stamp, image.levels[0].shape, image.dtype.str, *chosen, content)
    return dataclasses.replace(image, identity=stamp_of(*facts))


def _content_stamp(image: Image) -> str:
    """Hash the pixels of level 0: all of a small image, else blocks spread over it."""
    height, width = image.shape_yx
    if image.n_channels * height * width * image.dtype.itemsize <= _SMALL_BYTES:
        return stamp_of(image.read((0, 0, height, width)).tobytes())
    side_y, side_x = min(64, height), min(64, width)
    # a block costs a whole chunk
    n = 4 if chunk_bytes(image.levels[0]) <= _SMALL_BYTES else 1
    corners = [
        ((height - side_y) * (2 * i + 1) // (2 * n), (width - side_x) * (2 * j + 1) // (2 * n))
        for i in range(n)
        for j in range(n)
    ]
    return stamp_of(*(image.read((y, x, y + side_y, x + side_x)).tobytes() for y, x in corners))


def _restore(values: dict[str, Any]) -> Image:
    if values["path"] is None:
        return Image(**values)
    raw = from_path(values["path"])
    image = _identified(Image(**{**values, "levels": raw.levels}), raw)
    if image.identity != values["identity"]:
        raise InputError(
            expected=f"{values['path']} as it was when the work began",
            got="a changed file",
            remedy="Start the segmentation again.",
        )
    return image
