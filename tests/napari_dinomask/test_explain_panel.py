"""The Explain panel in a real window, driven with the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog

from tests.napari_dinomask.conftest import RUN_MS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from napari import Viewer
    from napari.layers import Layer
    from pytestqt.qtbot import QtBot

    from napari_dinomask.widgets.attention_tab import AttentionTab
    from napari_dinomask.widgets.explain import ExplainPanel

    Array = npt.NDArray[Any]
    Point = tuple[float, float]

LEFT = Qt.MouseButton.LeftButton
REPORT = {"diameter_px": 26.0, "settings": {"model": "tiny"}}
"""As a segmentation leaves it in its labels."""


class User:
    """A user at the mouse, who knows where in the image to click."""

    def __init__(self, viewer: Viewer, panel: ExplainPanel, qtbot: QtBot, layer: Layer) -> None:
        self.viewer, self.panel, self.qtbot, self.layer = viewer, panel, qtbot, layer
        self.canvas = viewer.window._qt_viewer.canvas.native

    def place(self, point: Point) -> QPoint:
        """Return where a place of the image is on the canvas."""
        camera = self.viewer.scene.camera
        world = np.array(self.layer.data_to_world(np.array(point) - 0.5))
        shift = (world - np.array(camera.center)[-2:]) * camera.zoom
        y, x = shift + np.array(self.viewer.canvas.size) / 2
        return QPoint(round(x), round(y))

    def click(self, point: Point) -> None:
        at = self.place(point)
        self.qtbot.mouseMove(self.canvas, at + QPoint(1, 0))
        self.qtbot.wait(15)
        self.qtbot.mouseMove(self.canvas, at)
        self.qtbot.wait(15)
        self.qtbot.mouseClick(self.canvas, LEFT, pos=at)
        self.wait()

    def wait(self) -> None:
        self.qtbot.wait(20)
        tab = self.panel.page
        self.qtbot.waitUntil(lambda: not tab.is_busy, timeout=RUN_MS)


@pytest.fixture
def panel(viewer: Viewer) -> ExplainPanel:
    _, panel = viewer.window.add_plugin_dock_widget("napari-dinomask", "Explain")
    return panel


@pytest.fixture
def user(
    viewer: Viewer, panel: ExplainPanel, qtbot: QtBot, nuclei_yx: Array, true_labels_yx: Array
) -> User:
    layer = viewer.add_image(nuclei_yx, name="nuclei", scale=(0.5, 0.5), translate=(10, 20))
    viewer.add_labels(
        true_labels_yx.astype(np.int32),
        name="cells",
        scale=(0.5, 0.5),
        translate=(10, 20),
        metadata={"dinomask": REPORT},
    )
    viewer.reset_view()
    qtbot.wait(50)
    return User(viewer, panel, qtbot, layer)


def tab_of(user: User) -> AttentionTab:
    return user.panel.pages[0]


def test_a_narrow_panel_cuts_nothing_off(panel: ExplainPanel, qtbot: QtBot) -> None:
    panel.resize(panel.minimumWidth(), 300)
    for i, page in enumerate(panel.pages):
        panel.tabs.setCurrentIndex(i)
        qtbot.wait(20)
        area = panel.tabs.widget(i)
        needed = page.minimumSizeHint().width() + area.verticalScrollBar().sizeHint().width()
        assert area.minimumWidth() >= needed
        assert page.width() <= area.viewport().width()


def test_attention_from_a_click_lies_on_the_image(user: User) -> None:
    user.click((100, 120))
    tab = tab_of(user)
    assert tab.shown is not None, tab.note.text()
    heat = user.viewer.layers["nuclei · attention"]
    assert heat.data.shape == tab.shown.heat.values_yx.shape
    place = tab.shown.heat.place
    # the corner of the first cell, half a cell before its middle
    corner = np.array(heat.data_to_world((-0.5, -0.5)))
    assert np.allclose(corner, user.layer.data_to_world(np.array(place.origin_yx_px) - 0.5))
    assert np.allclose(heat.scale, np.array(place.cell_yx_px) * 0.5)
    assert user.viewer.layers.selection.active is not heat
    assert "y 100, x 120" in tab.note.text()


def test_a_click_says_why_and_shows_the_maps_of_detector_and_mask(
    user: User, true_labels_yx: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = tab_of(user)
    y, x = np.argwhere(true_labels_yx == true_labels_yx[128, 128:].max()).mean(axis=0)
    user.click((y + 0.5, x + 0.5))
    assert "An object was found here" in tab.why.text()
    for what in ("score", "mask"):
        tab.form.what.setCurrentIndex(tab.form.what.findData(what))
        user.wait()
        assert tab.shown.intent.what == what
        heat = user.viewer.layers["nuclei · attention"]
        assert heat.contrast_limits == [0, 1]
    # the mask head's frame is about the clicked cell
    corner = np.array(heat.data_to_world((-0.5, -0.5)))
    end = np.array(heat.data_to_world(np.array(heat.data.shape) - 0.5))
    middle = user.layer.data_to_world((y, x))
    assert (corner < middle).all()
    assert (middle < end).all()
    assert (end - corner < 30).all()
    assert tab.form.of_attention.isHidden()
    assert tab._looker.n_computed == 1
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "mask"), "PNG picture (*.png)")
    )
    user.qtbot.mouseClick(tab.save_map, LEFT)
    user.qtbot.waitUntil(lambda: "Saved mask.png" in tab.note.text(), timeout=RUN_MS)
    assert (tmp_path / "mask.png").stat().st_size > 10_000


def test_sliders_move_through_layers_and_heads_without_the_network(user: User) -> None:
    user.click((100, 120))
    tab = tab_of(user)
    first = user.viewer.layers["nuclei · attention"].data.copy()
    user.qtbot.keyClick(tab.form.layer_slider, Qt.Key.Key_Left)
    user.wait()
    assert tab.shown.intent.layer == 10
    second = user.viewer.layers["nuclei · attention"].data.copy()
    user.qtbot.keyClick(tab.form.head_slider, Qt.Key.Key_Right)
    user.wait()
    assert tab.shown.intent.head == 0
    third = user.viewer.layers["nuclei · attention"].data
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)
    user.qtbot.mouseClick(tab.form.all_heads, LEFT, pos=QPoint(8, tab.form.all_heads.height() // 2))
    user.wait()
    assert len(tab.head_grid.buttons) == 3
    assert "bits" in tab.head_grid.buttons[0].text()
    user.qtbot.mouseClick(tab.head_grid.buttons[2], LEFT)
    user.wait()
    assert tab.shown.intent.head == 2
    assert tab._looker.n_computed == 1


def test_attention_from_a_cell_needs_a_cell(user: User, true_labels_yx: Array) -> None:
    tab = tab_of(user)
    tab.form.whose.setCurrentIndex(tab.form.whose.findData("cell"))
    y, x = np.argwhere(true_labels_yx == 0)[2000]
    user.click((y + 0.5, x + 0.5))
    assert tab.note.objectName() == "error"
    label = int(true_labels_yx[true_labels_yx > 0][0])
    y, x = np.argwhere(true_labels_yx == label).mean(axis=0)
    user.click((y + 0.5, x + 0.5))
    assert tab.shown is not None
    assert f"cell {label}" in tab.note.text()


def test_the_map_is_no_image_to_choose_and_goes_on_demand(user: User) -> None:
    user.click((100, 120))
    tab = tab_of(user)
    combo = user.panel.layer_combo
    assert [combo.itemText(i) for i in range(combo.count())] == ["nuclei"]
    user.qtbot.mouseClick(tab.hide_map, LEFT)
    assert "nuclei · attention" not in user.viewer.layers
    assert tab.shown is None


def test_without_an_image_the_panel_says_what_to_do(panel: ExplainPanel) -> None:
    assert "Open an image" in panel.image_hint.text()
