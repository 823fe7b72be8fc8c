"""Asks where a picture or a table goes, and writes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog

from dinomask.errors import DinomaskError, OutputError
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qtpy.QtWidgets import QWidget

    from dinomask.run.progress import OnProgress
    from napari_dinomask.colouring_tokens import Coloured
    from napari_dinomask.objects import Objects

    Say = Callable[[str, str], None]

PICTURES = ("PNG picture (*.png)", "SVG picture (*.svg)")


OBJECT_FILES = (
    "Table and features (*.csv)",
    "Table and features (*.parquet)",
    "Features in zarr (*.zarr)",
    "AnnData for scanpy (*.h5ad)",
    "PNG picture of the map (*.png)",
    "SVG picture of the map (*.svg)",
)


def ask_path(parent: QWidget, title: str, name: str, kinds: Sequence[str]) -> Path | None:
    """Return where the user wants a file; None if nowhere. The dialog asks before it replaces."""
    text, kind = QFileDialog.getSaveFileName(parent, title, name, ";;".join(kinds))
    if not text:
        return None
    path = Path(text)
    # dialogs of some systems leave the ending out
    ending = kind.rpartition("*")[2].rstrip(")") if kind else ""
    return path if path.suffix or not ending else path.with_name(path.name + ending)


def save_colours(parent: QWidget, coloured: Coloured, say: Say) -> None:
    """Write colours beside their image, with scale bar and caption."""
    path = ask_path(parent, "Save the picture", f"{coloured.image.name}_features.png", PICTURES)
    if path is None:
        return
    from dinomask.explain.feature_pictures import draw_colours
    from dinomask.explain.picture import write_picture

    try:
        write_picture(draw_colours(coloured.image, coloured.titled), path)
    except DinomaskError as error:
        say("error", say_error(error))
    else:
        say("result", f"Saved {path.name}.")


def write_objects(objects: Objects, column: str, path: Path, _: OnProgress) -> Path:
    """Write the cells on the map: their table and features, or a picture; the ending says what.

    Raises
    ------
    OutputError
        If it can't be written, or the ending is unknown.
    ExplainError
        If AnnData is asked for and not installed.
    """
    from dinomask.explain.feature_pictures import draw_map
    from dinomask.explain.object_files import FEATURE_SUFFIXES, write_features
    from dinomask.explain.picture import PICTURE_SUFFIXES, write_picture

    found = objects.mapped
    cloud, method = objects.cloud(), objects.method
    suffix = path.suffix.lower()
    if suffix in FEATURE_SUFFIXES:
        write_features(found, path, {method: cloud.points_xy})
    elif suffix in PICTURE_SUFFIXES:
        name = method.upper()
        caption = f"{', '.join(found.images)}: {len(found):,} cells, layer {found.layers[-1]}"
        shown = column if column in found.table.columns else None
        write_picture(draw_map(found.table, cloud.points_xy, shown, name, caption), path)
    else:
        raise OutputError(
            expected=f"a name that ends in {', '.join((*FEATURE_SUFFIXES, *PICTURE_SUFFIXES))}",
            got=path.name,
            remedy=f"Name it {path.stem}.csv.",
        )
    return path
