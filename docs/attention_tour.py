"""Clicks on the first tab of the Explain panel, for docs/make_explain_screenshots.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from scipy import ndimage

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Point = tuple[float, float]

TRUTH = Path(__file__).parent.parent / "sample_data" / "nuclei_labels.tif"


def look_inside(window: Any) -> None:
    """Look from a cell, through layers and heads, and at one that was missed."""
    labels = window.segment()
    found = np.asarray(labels.data)
    image = window.viewer.layers[0]
    labels.contour = 2
    tab = window.show_tab("Attention")
    window.enter("click a cell")
    tab.form.whose.setCurrentIndex(tab.form.whose.findData("cell"))
    click(window, image, middle_of(found, largest(found)))
    window.wait_for(tab)
    window.enter("all heads")
    tab.form.all_heads.setChecked(True)
    window.wait_for(tab)
    window.enter("layers")
    for layer in range(tab.shown.n_layers):
        tab.form.layer_slider.setValue(layer)
        window.wait_for(tab)
    tab.form.layer_slider.setValue(8)
    window.wait_for(tab)
    window.picture("explain_attention")
    window.enter("click a missed cell")
    tab.form.all_heads.setChecked(False)
    tab.form.whose.setCurrentIndex(tab.form.whose.findData("place"))
    tab.form.what.setCurrentIndex(tab.form.what.findData("score"))
    click(window, image, missed(found))
    window.wait_for(tab)
    print(f"why: {tab.why.text()}")
    window.picture("explain_missed")


def click(window: Any, image: Any, point_yx_px: Point) -> None:
    """Click a place of the image, in its pixels, on the canvas."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    viewer = window.viewer
    canvas = viewer.window._qt_viewer.canvas.native
    world = np.array(image.data_to_world(np.array(point_yx_px) - 0.5))
    shift = (world - np.array(viewer.scene.camera.center)[-2:]) * viewer.scene.camera.zoom
    y, x = shift + np.array(viewer.canvas.size) / 2
    at = QPoint(round(x), round(y))
    QTest.mouseMove(canvas, at + QPoint(1, 0))
    QTest.qWait(30)
    QTest.mouseMove(canvas, at)
    QTest.qWait(30)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, at)
    QTest.qWait(50)


def largest(labels_yx: Array) -> int:
    """Return the label with the most pixels."""
    return int(np.bincount(labels_yx.ravel())[1:].argmax()) + 1


def middle_of(labels_yx: Array, label: int) -> Point:
    """Return the middle of an object."""
    y, x = ndimage.center_of_mass(labels_yx == label)
    return float(y) + 0.5, float(x) + 0.5


def missed(found_yx: Array) -> Point:
    """Return the middle of a nucleus of the sample of which nothing was found; the largest one."""
    truth = tifffile.imread(TRUTH)
    hit = np.unique(truth[found_yx > 0])
    areas = np.bincount(truth.ravel())
    areas[hit] = 0
    areas[0] = 0
    if not areas.any():
        # all were found: the one that is covered least
        areas = np.bincount(truth.ravel()[(found_yx == 0).ravel()], minlength=len(areas))
        areas[0] = 0
    return middle_of(truth, int(areas.argmax()))
