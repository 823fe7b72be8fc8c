"""The state behind the forms: frozen, plain, without Qt and without napari.

A form is read into an intent, and an intent resolves to the library's settings.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docstring_parser
import numpy as np

from dinomask.config import (
    DetectConfig,
    NormaliseConfig,
    PlanesConfig,
    SegmentConfig,
    TileConfig,
)
from dinomask.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    import numpy.typing as npt

LARGE_PX = 8192**2
"""Images with more pixels, in all planes to be segmented, need an output: their labels (4 bytes a
pixel, and napari's copy) would take half a gigabyte, and their run is too long to lose."""

OUTPUT_SUFFIX = ".zarr"
"""The one format that is drawn and edited without reading the whole."""

FRAME_KINDS = ("ellipse", "rectangle")
"""Shapes given by the corners of a frame around them."""


@dataclasses.dataclass(frozen=True)
class LayerFacts:
    """What a form needs to know about an image layer."""

    name: str
    """As the user sees it."""

    shape_yx: tuple[int, int]
    """Height and width of the plane on display, in pixels of the finest level."""

    n_channels: int
    """Channels to choose from; 1 for grey and for RGB."""

    is_rgb: bool
    """Whether pixels are colours."""

    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel; None if unknown."""

    plane: tuple[tuple[str, int, int], ...]
    """Name, index and length of every axis of which one plane is on display."""

    shown_channel: int = 0
    """The channel on display."""

    path: Path | None = None
    """The file it was read from; None if there is none on this machine."""

    whole: bool = False
    """Whether all planes are meant, not only the one on display."""

    @property
    def n_planes(self) -> int:
        """Planes that are meant."""
        return math.prod(size for _, _, size in self.plane) if self.whole else 1

    @property
    def n_px(self) -> int:
        """Pixels of all planes that are meant."""
        return math.prod(self.shape_yx) * self.n_planes

    @property
    def link_axis(self) -> str | None:
        """The axis through which objects of neighbouring planes can be linked."""
        axes = [axis for axis, _, _ in self.plane]
        return "z" if "z" in axes else next(iter(axes), None)

    @property
    def is_large(self) -> bool:
        """Whether its labels belong on disk."""
        return self.n_px > LARGE_PX

    def to_um(self, length_px: float) -> float | None:
        """Convert a length to µm; None where the pixel size is unknown."""
        if self.pixel_size_um is None:
            return None
        return length_px * math.sqrt(self.pixel_size_um[0] * self.pixel_size_um[1])


@dataclasses.dataclass(frozen=True)
class SegmentIntent:
    """What the Segment form says."""

    model: str = SegmentConfig.model
    """Name of the model."""

    adapter: str | None = SegmentConfig.adapter
    """Name of the adapter on it; None for the bare checkpoint."""

    diameter_px: float | Literal["auto"] = SegmentConfig.diameter_px
    """Object size in pixels of the image; auto to estimate it."""

    sizes: Literal["auto", "alike", "mixed"] = SegmentConfig.sizes
    """Whether objects of very different sizes are looked for."""

    channels: tuple[int, ...] = SegmentConfig.channels
    """Channels to use; empty for what grey or RGB layers have."""

    score_threshold: float | None = DetectConfig.score_threshold
    """Lowest score; None for the model's own."""

    tile_px: int = TileConfig.tile_px
    """Side of a tile."""

    device: Literal["auto", "cpu", "cuda"] = SegmentConfig.device
    """Where the network runs."""

    def resolve(self) -> SegmentConfig:
        """Return the settings of the run.

        Raises
        ------
        SettingsError
            If one of them is outside its range.
        """
        return SegmentConfig(
            model=self.model,
            adapter=self.adapter,
            diameter_px=self.diameter_px,
            sizes=self.sizes,
            channels=self.channels,
            device=self.device,
            tiles=TileConfig(tile_px=self.tile_px),
            detect=DetectConfig(score_threshold=self.score_threshold),
        )


def config_of(report: Mapping[str, Any], facts: LayerFacts) -> SegmentConfig:
    """Return the settings that labels were made with, from the report of their run.

    Parameters
    ----------
    report : of a run; empty for labels from elsewhere
    facts : about the image, for what the report doesn't say
    """
    settings = report.get("settings", {})
    tiles = settings.get("tiles", {})
    channels = (facts.shown_channel,) if facts.n_channels > 1 else SegmentConfig.channels
    return SegmentConfig(
        model=settings.get("model", SegmentConfig.model),
        adapter=settings.get("adapter", SegmentConfig.adapter),
        channels=tuple(settings.get("channels", channels)),
        device=settings.get("device", SegmentConfig.device),
        tiles=TileConfig(tile_px=tiles.get("tile_px", TileConfig.tile_px)),
        normalise=NormaliseConfig(**settings.get("normalise", {})),
    )


@dataclasses.dataclass(frozen=True)
class RunRequest:
    """One run, ready to be started."""

    config: SegmentConfig
    """Settings."""

    out: Path | None = None
    """Where the labels go; None keeps them in memory."""

    overwrite: bool = False
    """Whether an earlier result may be replaced."""

    restart: bool = False
    """Whether to forget an unfinished run of this output."""

    planes: PlanesConfig | None = None
    """How all planes of a movie or stack are linked; None segments one plane."""

    first_yxyx_px: tuple[int, int, int, int] | None = None
    """The window on display, whose tiles come first."""

    first_place: tuple[int, ...] = ()
    """Where the plane on display lies among all planes."""


def choose_output(text: str, facts: LayerFacts) -> Path | None:
    """Return where a run's labels go, from what is typed; None for memory.

    Raises
    ------
    OutputError
        If the name has another ending, or a large image has no output.
    """
    text = text.strip()
    if text:
        out = Path(text).expanduser()
        if out.suffix.lower() != OUTPUT_SUFFIX:
            raise OutputError(
                expected=f"a name that ends in {OUTPUT_SUFFIX}",
                got=f"the output {out.name!r}",
                remedy=f"Name it {out.stem}{OUTPUT_SUFFIX}.",
            )
        return out
    if facts.is_large:
        height, width = facts.shape_yx
        planes = f"{facts.n_planes:,} planes of " if facts.whole else ""
        raise OutputError(
            expected=f"a place on disk for the labels of {planes}{width:,} × {height:,} pixels",
            got="no output for a large image",
            remedy="Fill in “Save to”; the run can then be resumed, too.",
        )
    return None


def suggest_output(facts: LayerFacts) -> Path:
    """Return a name for a layer's labels, beside its file or else in the home folder."""
    folder, stem = Path.home(), facts.name
    if facts.path is not None:
        folder, stem = facts.path.parent, facts.path.name.split(".")[0]
    plane = () if facts.whole else facts.plane
    words = [stem, *(f"{axis}{index}" for axis, index, _ in plane), "labels"]
    return folder / (re.sub(r"[^\w.-]+", "_", "_".join(words)) + OUTPUT_SUFFIX)


@functools.cache
def describe_field(config: type[Any], name: str) -> str:
    """Return the docstring of a field of a settings class, for tooltips.

    Raises
    ------
    KeyError
        If the class has no such field with a docstring.
    """
    parsed = docstring_parser.parse_from_object(config)
    return {p.arg_name: p.description or "" for p in parsed.params}[name]


def cell_diameter_px(kind: str, vertices_yx_px: npt.NDArray[Any]) -> float:
    """Return the diameter of a cell from a shape drawn round it.

    Ellipses and rectangles stand for the ellipse inside their frame, polygons
    for themselves; both give the diameter of the circle of that area. A line
    is taken for the diameter itself.

    Parameters
    ----------
    kind : napari's name of the shape: ellipse, rectangle, polygon, path or line
    vertices_yx_px : shape (N, 2), in image pixels; 4 frame corners in order for
        ellipse and rectangle
    """
    if len(vertices_yx_px) < 2:
        return 0.0
    if kind == "line":
        return float(np.linalg.norm(vertices_yx_px[1] - vertices_yx_px[0]))
    y, x = (vertices_yx_px - vertices_yx_px[0]).T
    area = abs(float(np.dot(y, np.roll(x, 1)) - np.dot(x, np.roll(y, 1)))) / 2
    # an ellipse fills π/4 of its frame, which cancels the 4/π of the circle
    return math.sqrt(area) if kind in FRAME_KINDS else math.sqrt(4 / math.pi * area)
