"""Asks where a picture or table goes, and writes it in the window's own time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog

from dinomask.errors import DinomaskError
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qtpy.QtWidgets import QWidget

    from napari_dinomask.colouring_tokens import Coloured

    Say = Callable[[str, str], None]

PICTURES = ("PNG picture (*.png)", "SVG picture (*.svg)", "PDF picture (*.pdf)")


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
