"""Write the label image and the table of instances, whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dinomask.errors import OutputError
from dinomask.tiles.outputs import SUFFIXES, check_output, replacing, sweep, table_path
from dinomask.tiles.painters import Painters
from dinomask.tiles.render import id_dtype
from dinomask.tiles.stack import LabelStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from dinomask.tiles.render import Progress
    from dinomask.tiles.stitched import Stitched

MANY_IDS = 2**32 - 1
"""Highest id of a stack whose number of instances is not known before it is drawn."""


def write_labels(
    stitched: Stitched,
    shape_yx: tuple[int, int],
    out: Path,
    *,
    pixel_size_um: tuple[float, float] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    workers: int = 1,
    notes: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Write the label image, and the instance table beside it.

    Both appear at the end, whole; a failure or a stop leaves nothing, and
    what a killed run left is removed by the next one.

    Parameters
    ----------
    stitched : instances of the whole image
    shape_yx : in image pixels
    out : ending .tif or .tiff (tiled, compressed OME-TIFF; uint16, or uint32
        above 65,535 instances), or .zarr (OME-Zarr 0.5 label pyramid)
    pixel_size_um : along y and x; None where unknown
    overwrite : replace an earlier result
    progress : told after each piece; may raise to stop
    workers : processes that draw; 1 draws in this one
    notes : what a reader must know of the result, as plain json values; kept as the attributes
        ``dinomask`` of a zarr, as an annotation of a TIFF, and as the table's ``attrs``

    Returns
    -------
    The table written to `OUT.instances.parquet`, as `instance_table`.

    Raises
    ------
    OutputError
        If the output can't be written, or exists and `overwrite` is not set.
    """
    return write_stack(
        [stitched],
        shape_yx,
        "yx",
        out,
        spacing={} if pixel_size_um is None else dict(zip("yx", pixel_size_um, strict=True)),
        max_id=int(stitched.ids.max(initial=0)),
        overwrite=overwrite,
        progress=progress,
        workers=workers,
        notes=notes,
    )


def write_stack(
    planes: Iterable[Stitched],
    shape: tuple[int, ...],
    axes: str,
    out: Path,
    *,
    spacing: Mapping[str, float] | None = None,
    max_id: int = MANY_IDS,
    overwrite: bool = False,
    amend: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    progress: Progress | None = None,
    workers: int = 1,
    notes: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Write the label images of a movie or stack into one file, plane by plane.

    Only one plane's instances are held at a time: `planes` may be a generator
    that reads and stitches each when it is asked for. Ids are written as they
    are, so give those of different planes different numbers, or one number to
    what is one object (`Stitched.with_ids`).

    Parameters
    ----------
    planes : the instances of each plane, in the order of the leading axes
        (the last of them fastest)
    shape : ending in height and width, such as (T, Z, Y, X)
    axes : one letter an axis, ending in yx, such as ``"tzyx"``
    out : as for `write_labels`
    spacing : size of a step along an axis, in micrometres, or seconds for t;
        leave out what is unknown
    max_id : highest id of all planes; up to 65,535 labels are uint16
    amend : may change the table before it is written
    overwrite, progress, workers, notes : as for `write_labels`

    Returns
    -------
    The table written to `OUT.instances.parquet`: a row an instance and plane,
    with a column for each leading axis.

    Raises
    ------
    OutputError
        If the output can't be written, or exists and `overwrite` is not set.
    InputError
        If axes and shape don't fit each other, or the number of planes.
    """
    check_output(out, overwrite)
    sweep(out)
    with Painters(workers) as painters:
        stack = LabelStack(
            planes,
            tuple(shape),
            axes,
            id_dtype(max_id),
            dict(spacing or {}),
            painters,
            progress,
            dict(notes or {}),
        )
        with replacing(table_path(out)) as table_file, replacing(out) as labels_file:
            _writer(out)(stack, labels_file)
            stack.require_end()
            table = joined_table(stack.tables)
            if amend is not None:
                table = amend(table)
            table.attrs.update(stack.notes)
            table.to_parquet(table_file, index=False)
    return table


def joined_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of all planes as one."""
    import pandas as pd

    if len(tables) == 1:
        return tables[0]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled or tables[:1], ignore_index=True)


def _writer(out: Path) -> Callable[[LabelStack, Path], None]:
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
