"""Label images as tiled, compressed OME-TIFF."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import tifffile

from dinomask.tiles.render import CHUNK_PX, Drawing, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dinomask.instances import Array

_UM_PER_CM = 1e4
_BIG_BYTES = 2**31


def write_tiff(
    drawing: Drawing,
    path: Path,
    pixel_size_um: tuple[float, float] | None,
    progress: Progress | None,
) -> None:
    """Write a label image tile by tile; memory does not grow with its size.

    Parameters
    ----------
    drawing : what to draw
    path : a file that does not exist yet
    pixel_size_um : along y and x, kept as OME metadata and as resolution
    """
    height, width = drawing.shape_yx
    # TIFF asks for multiples of 16
    side = min(CHUNK_PX, 16 * math.ceil(max(height, width) / 16))
    metadata: dict[str, Any] = {"axes": "YX", "Name": "labels"}
    resolution: dict[str, Any] = {}
    if pixel_size_um is not None:
        size_y, size_x = pixel_size_um
        metadata |= {"PhysicalSizeY": size_y, "PhysicalSizeYUnit": "µm"}
        metadata |= {"PhysicalSizeX": size_x, "PhysicalSizeXUnit": "µm"}
        resolution["resolution"] = (_UM_PER_CM / size_x, _UM_PER_CM / size_y)
        resolution["resolutionunit"] = "CENTIMETER"
    n_bytes = height * width * drawing.dtype.itemsize
    with tifffile.TiffWriter(path, bigtiff=n_bytes > _BIG_BYTES, ome=True) as tiff:
        tiff.write(
            _pieces(drawing, side, progress),
            shape=drawing.shape_yx,
            dtype=drawing.dtype,
            tile=(side, side),
            compression="zlib",
            photometric="minisblack",
            metadata=metadata,
            **resolution,
        )


def _pieces(drawing: Drawing, side_px: int, progress: Progress | None) -> Iterator[Array]:
    for _, labels_yx in drawing.windows(side_px, progress):
        yield labels_yx
