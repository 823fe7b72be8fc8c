"""A 2-D image with channels, read lazily from arrays of more axes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import InputError, SourceChangedError
from dinomask.image.axes import choose_plane
from dinomask.image.chunks import looks_missing, unreadable, unreadable_chunks
from dinomask.image.files import from_path, from_url
from dinomask.image.levels import runs
from dinomask.image.raw import READ_ERRORS, Probe, stamp_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, eq=False)
class Image:
    """A lazily read 2-D image with channels, perhaps with coarser levels.

    Images of files and URLs can be sent to other processes: they are opened again there.
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
    """Where it was opened; None for arrays, layers and URLs."""

    url: str | None = None
    """Where it was opened, if not on a disk."""

    depth_um: float | None = None
    """Distance of neighbouring planes along z; None if unknown."""

    stamp: str = dataclasses.field(default="", repr=False)
    """Short hash of the source as it was when opened, whatever was chosen from it."""

    sampled: bool = dataclasses.field(default=False, repr=False)
    """Whether pixels are part of the identity, because the stamp can't see them change."""

    probe: Probe | None = dataclasses.field(default=None, repr=False)
    """Notices changes of the source under way; None for arrays."""

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
            If the window is empty or leaves the image.
        ChunkError
            If a part of the source is damaged; it names the file and the chunks.
        SourceChangedError
            If the source vanished or changed since it was opened.
        """
        window = tuple(int(v) for v in window_yxyx)
        self._require_inside(window, level)
        n_samples = self._size("s")
        stored = sorted({k // n_samples for k in self.channels})
        local = self.probe is not None and not self.probe.is_remote
        if local:
            # touching a mapped file that was cut short would end the process
            self.require_unchanged()
        try:
            blocks = [self._read_block(window, level, part) for part in runs(stored)]
        except READ_ERRORS as error:
            self.require_unchanged()
            raise self._chunk_error(window, level, error) from error
        # zarr takes chunks of a vanished source for empty ones
        if local or any(looks_missing(self.levels[level], block) for block in blocks):
            self.require_unchanged()
        pixels_cyx = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
        place = {c: i for i, c in enumerate(stored)}
        picked = [place[k // n_samples] * n_samples + k % n_samples for k in self.channels]
        return np.ascontiguousarray(pixels_cyx[picked], dtype=self.dtype)

    def require_unchanged(self) -> None:
        """Ask, without reading pixels, whether the source is still what was opened.

        Raises
        ------
        SourceChangedError
            If it vanished or changed. Pixels rewritten within an otherwise
            untouched zarr, or in an array, only `require_same` sees.
        """
        if self.probe is not None:
            self.probe.check()

    def at_plane(self, plane: Mapping[str, int]) -> Image:
        """Return the same image at other indices along t and z, without opening it again.

        Parameters
        ----------
        plane : new indices of some of the axes of `plane`

        Raises
        ------
        AxesError
            If there is no such axis or plane.
        """
        chosen = choose_plane(self.axes, self.levels[0].shape, {**self.plane, **plane})
        identity = stamp_of(self.identity, sorted(chosen.items()))
        return dataclasses.replace(self, plane=chosen, identity=identity)

    @property
    def where(self) -> str:
        """Path, URL or name, for messages."""
        return str(self.path or self.url or self.name)

    def _size(self, axis: str) -> int:
        return int(self.levels[0].shape[self.axes.index(axis)]) if axis in self.axes else 1

    def _read_block(self, window: tuple[int, ...], level: int, stored: slice) -> NDArray[Any]:
        """Read stored channels `stored`; shape (channels · samples, h, w)."""
        y0, x0, y1, x1 = window
        array = self.levels[level]
        index = self._index(window, level, stored)
        left = [a for a in self.axes if a not in self.plane]
        order = [left.index(a) for a in "csyx" if a in left]
        return np.asarray(array[index]).transpose(order).reshape(-1, y1 - y0, x1 - x0)

    def _index(self, window: tuple[int, ...], level: int, stored: slice) -> tuple[Any, ...]:
        """Return what selects a window: whole numbers along t and z, slices elsewhere."""
        y0, x0, y1, x1 = window
        n_samples = slice(0, self._size("s"))
        whole = {"y": slice(y0, y1), "x": slice(x0, x1), "c": stored, "s": n_samples}
        return tuple(
            # coarser levels may have fewer planes
            self.plane[a] * int(n) // self._size(a) if a in self.plane else whole[a]
            for a, n in zip(self.axes, self.levels[level].shape, strict=True)
        )

    def _chunk_error(self, window: tuple[int, ...], level: int, error: BaseException) -> InputError:
        channels = slice(0, self._size("c"))
        found = unreadable_chunks(self.levels[level], self._index(window, level, channels))
        return unreadable(self.where, level, window, found, error)

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
        """Pickle files and URLs as the way to open them, arrays with their pixels."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.path is not None or self.url is not None:
            values |= {"levels": (), "probe": None}
        return _restore, (values,)


def _restore(values: dict[str, Any]) -> Image:
    image = Image(**values)
    if image.levels:
        return image
    raw = from_url(image.url) if image.url is not None else from_path(Path(image.where))
    if raw.stamp != image.stamp:
        raise SourceChangedError(
            expected=f"{image.where} as it was when the work began",
            got="a changed file",
            remedy="Start the segmentation again.",
        )
    return dataclasses.replace(image, levels=raw.levels, probe=raw.probe)
