"""Write the label image and the table of instances, whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dinomask.errors import OutputError
from dinomask.tiles.outputs import SUFFIXES, check_output, replacing, table_path
from dinomask.tiles.render import Drawing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from dinomask.tiles.render import Progress
    from dinomask.tiles.stitch import Stitched


def write_labels(
    stitched: Stitched,
    shape_yx: tuple[int, int],
    out: Path,
    *,
    pixel_size_um: tuple[float, float] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Write the label image, and the instance table beside it.

    Both appear at the end, whole; a failure or a stop leaves nothing.

    Parameters
    ----------
    stitched : instances of the whole image
    shape_yx : in image pixels
    out : ending .tif or .tiff (tiled, compressed OME-TIFF; uint16, or uint32
        above 65,535 instances), or .zarr (OME-Zarr 0.5 label pyramid)
    pixel_size_um : along y and x; None where unknown
    overwrite : replace an earlier result

    Returns
    -------
    The table written to `OUT.instances.parquet`, as `instance_table`.

    Raises
    ------
    OutputError
        If the output can't be written, or exists and `overwrite` is not set.
    """
    check_output(out, overwrite)
    drawing = Drawing(stitched, shape_yx)
    with replacing(table_path(out)) as table_file, replacing(out) as labels_file:
        _writer(out)(drawing, labels_file, pixel_size_um, progress)
        table = drawing.table()
        table.to_parquet(table_file, index=False)
    return table


def _writer(out: Path) -> Callable[..., None]:
    # imported here: zarr and tifffile would slow the start of everything else
    if out.suffix.lower() in (".tif", ".tiff"):
        from dinomask.tiles.ome_tiff import write_tiff

        return write_tiff
    if out.suffix.lower() == ".zarr":
        from dinomask.tiles.ome_zarr import write_zarr

        return write_zarr
    raise OutputError(
        expected=f"an output ending {', '.join(SUFFIXES)}",
        got=str(out),
        remedy="Name it labels.tif, or labels.zarr for large images.",
    )
