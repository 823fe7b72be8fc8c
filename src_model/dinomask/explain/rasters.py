"""Maps in the image's own pixels, drawn piece by piece: OME-TIFF, or OME-Zarr 0.5 pyramids."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import zarr

from dinomask.tiles.outputs import replacing
from dinomask.tiles.render import CHUNK_PX, squares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from dinomask.instances import Array
    from dinomask.tiles.plan import Box

    OnPiece = Callable[[int, int], None]
    """Told pieces done and in all; may raise to cancel."""

RASTER_SUFFIXES = (".tif", ".tiff", ".zarr")

_SMALLEST_LEVEL_PX = 512
_BIG_BYTES = 2**31
_UM_PER_CM = 1e4


@dataclasses.dataclass(frozen=True)
class Raster:
    """A map that can be drawn in pieces, of an image of any size.

    Attributes
    ----------
    draw : returns a window of the image, shape (C, h, w)
    shape_cyx : channels, height and width
    dtype : of the pixels
    pixel_size_um : height and width of a pixel; None if unknown
    channels : their names
    rgb : the three channels are colours
    notes : kept beside the pixels
    """

    draw: Callable[[Box], Array]
    shape_cyx: tuple[int, int, int]
    dtype: str
    pixel_size_um: tuple[float, float] | None = None
    channels: tuple[str, ...] = ()
    rgb: bool = False
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def piece(self, window_yxyx_px: Box) -> Array:
        """Draw a window in the raster's own type."""
        return np.asarray(self.draw(window_yxyx_px), self.dtype)


def write_raster(raster: Raster, path: Path, on_piece: OnPiece | None = None) -> None:
    """Write a map; memory doesn't grow with its size.

    Parameters
    ----------
    path : ending .tif, .tiff or .zarr; replaced if it exists
    on_piece : told the progress

    Raises
    ------
    OutputError
        If it can't be written; what was there before stays.
    """
    tell = on_piece or (lambda done, total: None)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".zarr":
            _write_zarr(raster, temporary, tell)
        else:
            _write_tiff(raster, temporary, tell)


def _write_tiff(raster: Raster, path: Path, tell: OnPiece) -> None:
    n_channels, height, width = raster.shape_cyx
    # TIFF asks for multiples of 16
    side = min(CHUNK_PX, 16 * -(-max(height, width) // 16))
    n_bytes = n_channels * height * width * np.dtype(raster.dtype).itemsize
    metadata, options = _description(raster)
    with tifffile.TiffWriter(path, bigtiff=n_bytes > _BIG_BYTES, ome=True) as tiff:
        tiff.write(
            _tiles(raster, side, tell),
            shape=(height, width, n_channels) if raster.rgb else raster.shape_cyx,
            dtype=raster.dtype,
            tile=(side, side),
            compression="zlib",
            photometric="rgb" if raster.rgb else "minisblack",
            metadata=metadata,
            **options,
        )


def _tiles(raster: Raster, side_px: int, tell: OnPiece) -> Iterator[Array]:
    """Yield the tiles of a TIFF: plane behind plane, the colours of a pixel together."""
    n_planes = 1 if raster.rgb else raster.shape_cyx[0]
    windows = list(squares(raster.shape_cyx[1:], side_px))
    for done, (plane, window) in enumerate(itertools.product(range(n_planes), windows), 1):
        piece = raster.piece(window)
        tell(done, n_planes * len(windows))
        yield np.moveaxis(piece, 0, 2) if raster.rgb else piece[plane]


def _description(raster: Raster) -> tuple[dict[str, Any], dict[str, Any]]:
    metadata: dict[str, Any] = {"axes": "YXS" if raster.rgb else "CYX"}
    if raster.channels and not raster.rgb:
        metadata["Channel"] = {"Name": list(raster.channels)}
    if raster.notes:
        notes = {key: json.dumps(value) for key, value in raster.notes.items()}
        metadata["MapAnnotation"] = {"Namespace": "dinomask", **notes}
    if raster.pixel_size_um is None:
        return metadata, {}
    for axis, size in zip("YX", raster.pixel_size_um, strict=True):
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    resolution = tuple(_UM_PER_CM / size for size in reversed(raster.pixel_size_um))
    return metadata, {"resolution": resolution, "resolutionunit": "CENTIMETER"}


def _write_zarr(raster: Raster, path: Path, tell: OnPiece) -> None:
    group = zarr.create_group(path, zarr_format=3)
    levels = [_create_level(group, k, raster, shape) for k, shape in enumerate(_shapes(raster))]
    windows = list(squares(raster.shape_cyx[1:], CHUNK_PX))
    for done, (y0, x0, y1, x1) in enumerate(windows, 1):
        piece = raster.piece((y0, x0, y1, x1))
        if piece.any():
            levels[0][:, y0:y1, x0:x1] = piece
        tell(done, len(windows))
    for finer, coarser in itertools.pairwise(levels):
        for y0, x0, y1, x1 in squares((coarser.shape[1], coarser.shape[2]), CHUNK_PX):
            source = np.asarray(finer[:, 2 * y0 : 2 * y1, 2 * x0 : 2 * x1])
            coarser[:, y0:y1, x0:x1] = source[:, ::2, ::2]
    group.attrs["dinomask"] = dict(raster.notes)
    # last, so that a folder cut short by a power failure isn't taken for a whole one
    group.attrs["ome"] = _ome(raster, len(levels))


def _shapes(raster: Raster) -> list[tuple[int, int, int]]:
    shapes = [raster.shape_cyx]
    while max(shapes[-1][1:]) > _SMALLEST_LEVEL_PX:
        n_channels, height, width = shapes[-1]
        shapes.append((n_channels, -(-height // 2), -(-width // 2)))
    return shapes


def _create_level(
    group: zarr.Group, number: int, raster: Raster, shape: tuple[int, int, int]
) -> zarr.Array[Any]:
    return group.create_array(
        str(number),
        shape=shape,
        chunks=(1, min(CHUNK_PX, shape[1]), min(CHUNK_PX, shape[2])),
        dtype=raster.dtype,
        fill_value=0,
        dimension_names=("c", "y", "x"),
    )


def _ome(raster: Raster, n_levels: int) -> dict[str, Any]:
    size_y, size_x = raster.pixel_size_um or (1.0, 1.0)
    unit = {} if raster.pixel_size_um is None else {"unit": "micrometer"}
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", **unit} for name in "yx"]
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, size_y * 2**k, size_x * 2**k]}
            ],
        }
        for k in range(n_levels)
    ]
    multiscale = {"name": "map", "axes": axes, "datasets": datasets, "type": "nearest"}
    names = raster.channels or (("red", "green", "blue") if raster.rgb else ())
    colours = ("FF0000", "00FF00", "0000FF") if raster.rgb else ("FFFFFF",) * len(names)
    channels = [
        {"label": name, "color": colour, "active": True}
        for name, colour in zip(names, colours, strict=True)
    ]
    omero = {"channels": channels, "rdefs": {"model": "color" if raster.rgb else "greyscale"}}
    return {"version": "0.5", "multiscales": [multiscale], **({"omero": omero} if names else {})}
