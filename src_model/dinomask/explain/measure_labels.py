"""Where the objects of a label image are and how large, in one pass over any size."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dinomask.errors import InputError
from dinomask.image.source import Image, open_image
from dinomask.run.progress import Progress
from dinomask.tiles.outputs import table_path
from dinomask.tiles.render import CHUNK_PX, squares

if TYPE_CHECKING:
    from dinomask.instances import Array
    from dinomask.run.progress import OnProgress

COLUMNS = ("y0", "x0", "y1", "x1", "area_px", "centroid_y", "centroid_x")
"""What is measured of each object, in image pixels; boxes are half-open."""


def open_labels(labels: object, shape_yx: tuple[int, int]) -> Image:
    """Open a label image lazily.

    Parameters
    ----------
    labels : whatever `open_image` opens: a file, a zarr, an array, a napari layer
    shape_yx : of the image that it belongs to

    Raises
    ------
    InputError
        If it has more than one channel, no whole numbers or another shape.
    """
    opened = open_image(labels)
    if opened.n_channels != 1 or opened.dtype.kind not in "iub":
        raise InputError(
            expected="a label image: one channel of whole numbers, 0 for background",
            got=f"{opened.n_channels} channels of {opened.dtype} in {opened.where}",
            remedy="Choose the label image, not the image itself.",
        )
    if opened.shape_yx != tuple(shape_yx):
        raise InputError(
            expected=f"labels of the image's {shape_yx[0]} x {shape_yx[1]} pixels",
            got=f"{opened.shape_yx[0]} x {opened.shape_yx[1]} in {opened.where}",
            remedy="Choose the labels of this image.",
        )
    return opened


def read_table(labels: object) -> pd.DataFrame | None:
    """Return the run's table beside a label image, `OUT.instances.parquet`; None without one."""
    if not isinstance(labels, str | Path):
        return None
    path = table_path(Path(labels))
    return pd.read_parquet(path) if path.is_file() else None


def measure_labels(labels: Image, on_progress: OnProgress | None = None) -> pd.DataFrame:
    """List the objects of a label image, ascending by id.

    Parameters
    ----------
    labels : read window by window; pixels of 0 and below are no objects
    on_progress : told after each window; may raise to stop

    Returns
    -------
    columns id, y0, x0, y1, x1 (half-open), area_px, centroid_y, centroid_x
    """
    started = time.monotonic()
    windows = list(squares(labels.shape_yx, CHUNK_PX))
    parts = []
    for i, window in enumerate(windows):
        parts.append(_measure(labels.read(window)[0], window[:2]))
        if on_progress is not None:
            on_progress(Progress("measure", i + 1, len(windows), time.monotonic() - started))
    pieces = pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)
    how = dict.fromkeys(("y0", "x0"), "min") | dict.fromkeys(("y1", "x1"), "max")
    how |= dict.fromkeys(("area_px", "sum_y", "sum_x"), "sum")
    found = pieces.groupby("id", sort=True).agg(how).reset_index()
    for axis in "yx":
        found[f"centroid_{axis}"] = found.pop(f"sum_{axis}") / found["area_px"]
    return found[["id", *COLUMNS]]


def _measure(labels_yx: Array, origin_yx: tuple[int, int]) -> pd.DataFrame:
    """Measure the pieces of objects in one window; coordinates are the image's."""
    y, x = np.nonzero(labels_yx > 0)
    ids, row = np.unique(labels_yx[y, x], return_inverse=True)
    y, x = y + origin_yx[0], x + origin_yx[1]
    n = len(ids)
    low = np.full((2, n), np.iinfo(np.int64).max)
    high = np.zeros((2, n), np.int64)
    for axis, values in enumerate((y, x)):
        np.minimum.at(low[axis], row, values)
        np.maximum.at(high[axis], row, values + 1)
    return pd.DataFrame(
        {
            "id": ids.astype(np.int64),
            **{"y0": low[0], "x0": low[1], "y1": high[0], "x1": high[1]},
            "area_px": np.bincount(row, minlength=n),
            "sum_y": np.bincount(row, y, minlength=n),
            "sum_x": np.bincount(row, x, minlength=n),
        }
    )
