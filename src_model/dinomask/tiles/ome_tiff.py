"""Label images as tiled, compressed OME-TIFF."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import tifffile

from dinomask.tiles.render import CHUNK_PX, squares

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dinomask.instances import Array
    from dinomask.tiles.stack import LabelStack

_UM_PER_CM = 1e4
_BIG_BYTES = 2**31


def write_tiff(stack: LabelStack, path: Path) -> None:
    """Write a label image tile by tile; memory does not grow with its size.

    Above 2 GiB of pixels it is a BigTIFF: how small they compress is only
    known at the end, and an ordinary TIFF can't hold more than 4 GiB.

    Parameters
    ----------
    stack : what to draw; pixel sizes are kept as OME metadata and as resolution
    path : a file that does not exist yet
    """
    # TIFF asks for multiples of 16
    side = min(CHUNK_PX, 16 * math.ceil(max(stack.shape_yx) / 16))
    n_bytes = math.prod(stack.shape) * stack.dtype.itemsize
    with tifffile.TiffWriter(path, bigtiff=n_bytes > _BIG_BYTES, ome=True) as tiff:
        tiff.write(
            _pieces(stack, side),
            shape=stack.shape,
            dtype=stack.dtype,
            tile=(side, side),
            compression="zlib",
            photometric="minisblack",
            **_description(stack),
        )


def _pieces(stack: LabelStack, side_px: int) -> Iterator[Array]:
    total = math.prod(math.ceil(n / side_px) for n in stack.shape_yx)
    for _, _, labels_yx in stack.pieces(lambda: squares(stack.shape_yx, side_px), total):
        yield labels_yx


def _description(stack: LabelStack) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": stack.axes.upper(), "Name": "labels"}
    for axis in set(stack.axes) & set(stack.spacing) - {"t"}:
        metadata[f"PhysicalSize{axis.upper()}"] = stack.spacing[axis]
        metadata[f"PhysicalSize{axis.upper()}Unit"] = "µm"
    if "t" in stack.axes and "t" in stack.spacing:
        metadata |= {"TimeIncrement": stack.spacing["t"], "TimeIncrementUnit": "s"}
    if stack.notes:
        notes = {key: json.dumps(value) for key, value in stack.notes.items()}
        metadata["MapAnnotation"] = {"Namespace": "dinomask", **notes}
    if not {"y", "x"} <= set(stack.spacing):
        return {"metadata": metadata}
    resolution = (_UM_PER_CM / stack.spacing["x"], _UM_PER_CM / stack.spacing["y"])
    return {"metadata": metadata, "resolution": resolution, "resolutionunit": "CENTIMETER"}
