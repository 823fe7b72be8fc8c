"""Principal components of an image's tokens as colours.

As in the DINOv2 paper (Oquab et al., arXiv 2304.07193, figure 1): places that the model
sees alike have the same colour. The components are those of the whole image, so a
colour means the same in every tile.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.config import SegmentConfig
from dinomask.errors import ExplainError
from dinomask.explain.alignment import Alignment
from dinomask.explain.components import Components, Moments
from dinomask.explain.rasters import Raster
from dinomask.explain.seen import GridPlace
from dinomask.explain.tokens import TokenSource
from dinomask.tiles.outputs import output_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import IO

    from dinomask.explain.patches import PatchTile
    from dinomask.image.source import Image
    from dinomask.instances import Array
    from dinomask.run.predictor import Predictor
    from dinomask.run.progress import OnProgress
    from dinomask.tiles.plan import Box

N_COLOURS = 3

RANGE_SD = 2.5
"""Standard deviations from mid grey to full and to no colour."""


@dataclasses.dataclass(frozen=True, eq=False)
class TokenColours:
    """An image's tokens in the colours of their first three components.

    Attributes
    ----------
    rgb_yxc : shape (h, w, 3), uint8; a cell a token, so small even for huge images
    place : where the cells lie in the image
    components : what the colours mean
    layer : of the backbone, from 0
    diameter_px : size of objects by which the image was scaled, in image pixels
    shape_yx : of the image, in pixels
    pixel_size_um : of the image
    """

    rgb_yxc: Array
    place: GridPlace
    components: Components
    layer: int
    diameter_px: float
    shape_yx: tuple[int, int]
    pixel_size_um: tuple[float, float] | None

    def draw(self, window_yxyx_px: Box) -> Array:
        """Return a window of the image in the tokens' colours, shape (3, h, w), uint8."""
        channels = np.moveaxis(self.rgb_yxc, 2, 0)
        return np.stack([self.place.draw(c, window_yxyx_px) for c in channels])

    def raster(self, notes: dict[str, Any] | None = None) -> Raster:
        """Return what `write_raster` writes: the image's own pixels, piece by piece."""
        shares = [round(float(s), 4) for s in self.components.shares]
        known = {"layer": self.layer, "variance_shares": shares, **(notes or {})}
        shape = (N_COLOURS, *self.shape_yx)
        return Raster(self.draw, shape, "uint8", self.pixel_size_um, rgb=True, notes={"pca": known})


def colour_tokens(
    image: Image,
    config: SegmentConfig | None = None,
    *,
    layer: int | None = None,
    basis: TokenColours | None = None,
    predictor: Predictor | None = None,
    scratch: Path | None = None,
    on_progress: OnProgress | None = None,
) -> TokenColours:
    """Colour an image by what the model sees.

    Tokens are computed tile by tile and kept in an unnamed file until it is known how
    tiles are brought to agree (`dinomask.explain.alignment`); then mean and covariance
    are added up, and each token is coloured. Memory holds one tile, the D × D covariance
    and three bytes a token.

    Parameters
    ----------
    image : any size
    config : model, adapter, object size, tiles
    layer : of the backbone; negative ones count from the last; None takes the one at
        three quarters of the depth
    basis : colours of the same image, or another one, whose components to use, such as
        those before an adapter; None finds the image's own
    predictor : a loaded model; None loads that of `config`
    scratch : folder for the unnamed file, of about 4 · D bytes a token; None takes the
        system's own for temporary files
    on_progress : told after each tile; may raise to stop

    Raises
    ------
    SettingsError
        If there is no such layer.
    InputError
        If the image can't be used, or no object tells its size.
    ExplainError
        If all places are alike, or the basis is of features of another width.
    OutputError
        If there is no space for the unnamed file.
    """
    source = TokenSource.of(
        image, [] if layer is None else [layer], config or SegmentConfig(), predictor, on_progress
    )
    (chosen,) = source.layers
    k = source.cells_a_patch(chosen)
    height, width = source.plan.shape_yx
    rgb = np.zeros((height * k, width * k, N_COLOURS), np.uint8)
    width = source.width(chosen)
    given = None if basis is None else _require_width(basis.components, width)
    components = _colour_kept(source, given, rgb, scratch, on_progress)
    cell = source.cell_px / k
    place = GridPlace((0.0, 0.0), (cell, cell))
    return TokenColours(
        rgb,
        place,
        components,
        chosen,
        source.diameter_px,
        image.shape_yx,
        image.pixel_size_um,
    )


def to_colours(components: Components, tokens: Array) -> Array:
    """Return the colours of tokens, shape (…, D) → (…, 3), uint8.

    The mean is mid grey. A colour's range ends at `RANGE_SD` times the geometric mean of
    the standard deviations of its own component and of the first: weak components can
    be seen, but don't shout as they would if each filled its range.
    """
    deviation = np.sqrt(components.variances)
    spread = np.sqrt(deviation * deviation[:1])
    # a component without variance, of which there are few tokens, stays grey
    steps = 127.5 / (RANGE_SD * np.where(spread > 0, spread, np.inf))
    colours = np.full((*tokens.shape[:-1], N_COLOURS), 127.5)
    colours[..., : len(steps)] += components.project(tokens) * steps
    return np.asarray(np.clip(np.round(colours), 0, 255).astype(np.uint8))


def _colour_kept(
    source: TokenSource,
    basis: Components | None,
    rgb: Array,
    scratch: Path | None,
    on_progress: OnProgress | None,
) -> Components:
    """Compute all tokens, bring tiles to agree, find components if none are given, colour."""
    (layer,) = source.layers
    width = source.width(layer)
    alignment = Alignment(source.plan)
    try:
        with tempfile.TemporaryFile(prefix="dinomask-", dir=scratch) as file:
            kept = _Kept(source, file)
            every = range(len(source.plan))
            for _, tokens in source.look(every, "pca", on_progress, alignment):
                file.write(tokens[layer].tobytes())
            kept.offsets = alignment.offsets(layer)
            if basis is None:
                moments = Moments(width)
                for _, values in kept.tiles():
                    moments.add(values.reshape(-1, width))
                basis = moments.components(N_COLOURS)
            for tile, values in kept.tiles():
                _put(rgb, tile, source.cells_a_patch(layer), to_colours(basis, values))
    except OSError as error:
        folder = Path(tempfile.gettempdir()) if scratch is None else scratch
        raise output_error(folder, error) from error
    return basis


@dataclasses.dataclass
class _Kept:
    """The tokens of all tiles' cores in a file, in the order of the tiles."""

    source: TokenSource
    file: IO[bytes]
    offsets: Mapping[int, Array] = dataclasses.field(default_factory=dict)

    def tiles(self) -> Iterator[tuple[PatchTile, Array]]:
        """Yield each tile and its tokens, shape (h, w, D), brought to agree with the others."""
        (layer,) = self.source.layers
        k, width = self.source.cells_a_patch(layer), self.source.width(layer)
        self.file.seek(0)
        for index in range(len(self.source.plan)):
            tile = self.source.plan[index]
            y0, x0, y1, x1 = tile.core_yxyx
            shape = ((y1 - y0) * k, (x1 - x0) * k, width)
            values = np.frombuffer(self.file.read(4 * math.prod(shape)), np.float32)
            yield tile, values.reshape(shape) + self.offsets.get(index, np.float64(0))


def _put(rgb: Array, tile: PatchTile, k: int, colours: Array) -> None:
    y0, x0, y1, x1 = (v * k for v in tile.core_yxyx)
    rgb[y0:y1, x0:x1] = colours


def _require_width(components: Components, width: int) -> Components:
    if components.mean.size != width:
        raise ExplainError(
            expected=f"components of {width} features, as this layer has",
            got=f"components of {components.mean.size}",
            remedy="Use those of the same layer of the same backbone.",
        )
    return components
