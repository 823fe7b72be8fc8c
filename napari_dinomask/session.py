"""The state behind the forms: frozen, plain, without Qt and without napari.

A form is read into an intent, and an intent resolves to the library's settings.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import docstring_parser
import numpy as np

from dinomask.config import DetectConfig, SegmentConfig, TileConfig

if TYPE_CHECKING:
    from typing import Literal

    import numpy.typing as npt

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

    diameter_px: float | Literal["auto"] = SegmentConfig.diameter_px
    """Object size in pixels of the image; auto to estimate it."""

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
            diameter_px=self.diameter_px,
            channels=self.channels,
            device=self.device,
            tiles=TileConfig(tile_px=self.tile_px),
            detect=DetectConfig(score_threshold=self.score_threshold),
        )


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
