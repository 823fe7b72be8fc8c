"""Bring the table of instances up to date with labels that were edited on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.tiles.outputs import replacing, table_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from dinomask.instances import Array
    from dinomask.tiles.edit import LabelPyramid
    from dinomask.tiles.plan import Box

_PLANES = ("t", "z")
_BOX = ["y0", "x0", "y1", "x1"]
_BY_HAND: dict[str, Any] = {"score": np.nan, "tile": -1}
"""What a row says of an object that no tile found."""


def remeasure(
    pyramid: LabelPyramid, ids: Iterable[int], window_yxyx_px: Box, place: tuple[int, ...] = ()
) -> pd.DataFrame | None:
    """Measure edited objects anew, and replace the table beside the labels.

    Objects that are gone lose their row. New ones get one, without score and tile. Scores and
    classes of the others stay as they were found.

    Parameters
    ----------
    pyramid : the labels, all edits written
    ids : of the objects that an edit may have changed; 0 is ignored
    window_yxyx_px : where they were edited, in pixels of level 0
    place : index on the axes before y and x

    Returns
    -------
    The table as it stands now; None if there is none beside the labels.

    Raises
    ------
    OutputError
        If it can't be written; the old one stays.
    """
    import pandas as pd

    path = table_path(pyramid.path)
    if not path.exists():
        return None
    table = pd.read_parquet(path)
    attrs = dict(table.attrs)
    here = np.ones(len(table), bool)
    for axis, index in zip([a for a in _PLANES if a in table], place, strict=False):
        here &= (table[axis] == index).to_numpy()
    rows, gone = [], np.zeros(len(table), bool)
    for label in sorted({int(i) for i in ids} - {0}):
        own = here & (table["id"] == label).to_numpy()
        gone |= own
        row = _measured(pyramid, label, [window_yxyx_px, *_boxes(table[own])], place)
        if row is not None:
            known = table[own].to_dict("records")[0] if own.any() else _blank(table, label, place)
            rows.append({str(name): value for name, value in (known | row).items()})
    kept = table[~gone]
    if rows:
        edited = pd.DataFrame(rows, columns=table.columns).astype(table.dtypes.to_dict())
        kept = pd.concat([kept, edited]) if len(kept) else edited
    planes = [a for a in _PLANES if a in table]
    table = kept.sort_values([*planes, "id"], kind="stable").reset_index(drop=True)
    table.attrs.update(attrs)
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
    return table


def _boxes(rows: pd.DataFrame) -> list[Box]:
    return [(int(y0), int(x0), int(y1), int(x1)) for y0, x0, y1, x1 in rows[_BOX].to_numpy()]


def _measured(
    pyramid: LabelPyramid, label: int, windows: list[Box], place: tuple[int, ...]
) -> dict[str, Any] | None:
    """Return box, area and centre of the pixels of an object; None if it has none."""
    first, end = np.min(windows, axis=0)[:2], np.max(windows, axis=0)[2:]
    labels_yx = pyramid.read((int(first[0]), int(first[1]), int(end[0]), int(end[1])), place)
    points: Array = np.argwhere(labels_yx == label)
    if not len(points):
        return None
    points += first
    (y0, x0), (y1, x1) = points.min(axis=0), points.max(axis=0) + 1
    y, x = points.mean(axis=0)
    box = dict(zip(_BOX, (y0, x0, y1, x1), strict=True))
    return {**box, "area_px": len(points), "centroid_y": y, "centroid_x": x}


def _blank(table: pd.DataFrame, label: int, place: tuple[int, ...]) -> dict[str, Any]:
    """Return a row of an object drawn by hand, before it is measured."""
    row: dict[str, Any] = {str(name): np.zeros(1, kind)[0] for name, kind in table.dtypes.items()}
    row |= _BY_HAND | dict.fromkeys(("id", "object_id"), label)
    row |= dict(zip([a for a in _PLANES if a in table], place, strict=False))
    return {name: value for name, value in row.items() if name in table}
