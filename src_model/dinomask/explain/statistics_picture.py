"""A picture of how alike layers are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dinomask.explain.picture import HEAT, add_caption, new_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dinomask.instances import Array


def draw_cka(matrix: Array, first: str, second: str, image: str) -> Figure:
    """Draw the linear CKA of layers.

    Parameters
    ----------
    matrix : shape (layers of the first, layers of the second), 0 to 1
    first, second : names of the models; the same for one with itself
    image : whose tokens they are of
    """
    figure, (panel,) = new_picture(1, panel_in=5.5)
    drawn = panel.imshow(matrix, cmap=HEAT, vmin=0, vmax=1, origin="lower")
    panel.set_xlabel(f"layer of {second}")
    panel.set_ylabel(f"layer of {first}")
    figure.colorbar(drawn, ax=panel, label="linear CKA", shrink=0.8)
    add_caption(figure, [f"how alike layers are on {image}", "1: the same but for turn and scale"])
    return figure
