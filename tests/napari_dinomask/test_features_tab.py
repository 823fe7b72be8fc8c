"""The Features tab in a real window: colours that lie on the image, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from dinomask.config import SegmentConfig
from dinomask.explain.tokens import choose_layers
from dinomask.nets.adapters import adapters_folder
from napari_dinomask.colouring_tokens import UNMOVED
from napari_dinomask.layers import BEFORE_SUFFIX, FEATURES_SUFFIX
from napari_dinomask.network import network
from tests.napari_dinomask.conftest import RUN_MS
from tests.nets.tiny_adapter import write_tiny_adapter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from napari import Viewer
    from pytestqt.qtbot import QtBot

    from napari_dinomask.widgets.explain import ExplainPanel
    from napari_dinomask.widgets.features_tab import FeaturesTab

    Array = npt.NDArray[Any]

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def panel(
    viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ExplainPanel]:
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path / "models"))
    # once for all tests, and out of the time they wait
    network.load(SegmentConfig())
    write_tiny_adapter(adapters_folder() / "mine")
    _, panel = viewer.window.add_plugin_dock_widget("napari-dinomask", "Explain")
    panel.tabs.setCurrentIndex(1)
    yield panel
    panel._leave()


@pytest.fixture
def tab(panel: ExplainPanel) -> FeaturesTab:
    return panel.pages[1]


def add(viewer: Viewer, image_yx: Array, **place: Any) -> Any:
    layer = viewer.add_image(image_yx, name="nuclei", **place)
    # as a segmentation leaves it, so that no size is estimated
    report = {"diameter_px": 26.0, "settings": {"model": "tiny"}}
    empty = np.zeros(image_yx.shape, np.int32)
    viewer.add_labels(empty, name="cells", metadata={"dinomask": report}, **place)
    viewer.reset_view()
    return layer


def colour(tab: FeaturesTab, qtbot: QtBot) -> None:
    assert tab.start.isEnabled()
    qtbot.mouseClick(tab.start, LEFT)
    qtbot.waitUntil(lambda: not tab.is_busy, timeout=RUN_MS)


def test_the_colours_lie_on_the_image_cell_on_pixels(
    viewer: Viewer, tab: FeaturesTab, qtbot: QtBot, nuclei_yx: Array
) -> None:
    image = add(viewer, nuclei_yx, scale=(0.5, 0.5), translate=(10, 20))
    assert not tab.compare.isVisible()
    assert not tab.extent.isVisible()
    colour(tab, qtbot)
    assert tab.coloured is not None, tab.note.text()
    layer = viewer.layers["nuclei" + FEATURES_SUFFIX]
    place = tab.coloured.after.place
    assert layer.data.shape == tab.coloured.after.rgb_yxc.shape
    for cell in ((0, 0), (3, 5)):
        corner = np.array(place.origin_yx_px) + np.multiply(cell, place.cell_yx_px)
        shown = layer.data_to_world(np.array(cell) - 0.5)
        assert np.allclose(shown, image.data_to_world(corner - 0.5))
    usual = choose_layers(network.load(SegmentConfig()).model.backbone, ())
    assert (tab.coloured.after.layer,) == usual
    # above the image, below the labels
    assert [lay.name for lay in viewer.layers] == ["nuclei", layer.name, "cells"]
    assert "red" in tab.meaning.text()
    qtbot.mouseClick(tab.remove, LEFT)
    assert len(viewer.layers) == 2


def test_before_and_after_an_adapter_have_the_same_basis(
    viewer: Viewer, panel: ExplainPanel, tab: FeaturesTab, qtbot: QtBot, nuclei_yx: Array
) -> None:
    add(viewer, nuclei_yx)
    panel.model_combo.setCurrentText("tiny + mine")
    assert tab.compare.isVisible()
    assert tab.compare.isChecked()
    colour(tab, qtbot)
    # the adapter changes the last two layers
    assert UNMOVED in tab.note.text()
    tab.layer.setValue(-1)
    colour(tab, qtbot)
    assert UNMOVED not in tab.note.text()
    assert tab.coloured is not None, tab.note.text()
    assert tab.coloured.before is not None
    assert tab.coloured.after.components is tab.coloured.before.components
    assert "tokens moved by" in tab.note.text()
    before, after = (viewer.layers["nuclei" + s] for s in (BEFORE_SUFFIX, FEATURES_SUFFIX))
    assert before.data.shape == after.data.shape
    assert not np.array_equal(before.data, after.data)
    # a small adapter moves the colours but a little
    assert np.abs(before.data.astype(int) - after.data).mean() < 40
    assert (before.visible, after.visible) == (False, True)
    qtbot.mouseClick(tab.see_before, LEFT, pos=tab.see_before.rect().center())
    assert (before.visible, after.visible) == (True, False)


def test_of_a_large_image_the_view_comes_first(
    viewer: Viewer, tab: FeaturesTab, qtbot: QtBot, nuclei_yx: Array
) -> None:
    image = add(viewer, np.tile(nuclei_yx, (9, 9)))
    assert tab.extent.isVisible()
    assert tab.part.isChecked()
    viewer.scene.camera.center = (1000, 700)
    viewer.scene.camera.zoom = 4
    colour(tab, qtbot)
    assert tab.coloured is not None, tab.note.text()
    layer = viewer.layers["nuclei" + FEATURES_SUFFIX]
    first, end = layer.data_to_world((0, 0)), layer.data_to_world(layer.data.shape[:2])
    assert (np.array(first) < (1000, 700)).all()
    assert (np.array(end) > (1000, 700)).all()
    assert (np.array(end) - first < 600).all()
    assert image.data.shape[0] > 2000


def test_a_picture_is_saved_with_both(
    viewer: Viewer,
    tab: FeaturesTab,
    qtbot: QtBot,
    nuclei_yx: Array,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add(viewer, nuclei_yx)
    colour(tab, qtbot)
    out = tmp_path / "colours"
    answer = (str(out), "SVG picture (*.svg)")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: answer)
    qtbot.mouseClick(tab.save, LEFT)
    assert "<svg" in out.with_suffix(".svg").read_text(), tab.note.text()
    assert "Saved" in tab.note.text()


def test_without_an_image_and_with_an_empty_one_it_says_so(
    viewer: Viewer, tab: FeaturesTab, qtbot: QtBot
) -> None:
    assert "Open an image" in tab.note.text()
    assert not tab.start.isEnabled()
    add(viewer, np.full((80, 80), 7, np.uint16))
    colour(tab, qtbot)
    assert tab.note.objectName() in ("error", "result")
    assert tab.note.text()


@pytest.mark.parametrize(
    ("typed", "layer"),
    [("usual layer", None), ("what?", None), ("last layer", -1), ("last − 3", -4), ("3", -4)],
)
def test_a_layer_is_understood_as_it_is_written(
    tab: FeaturesTab, typed: str, layer: int | None
) -> None:
    assert tab.layer.layer_index is None
    tab.layer.setValue(tab.layer.valueFromText(typed))
    assert tab.layer.layer_index == layer
    assert tab.layer.valueFromText(tab.layer.text()) == tab.layer.value()


def test_a_layer_that_is_not_there_is_said(
    viewer: Viewer, tab: FeaturesTab, qtbot: QtBot, nuclei_yx: Array
) -> None:
    add(viewer, nuclei_yx)
    tab.layer.setValue(-40)
    colour(tab, qtbot)
    assert tab.note.objectName() == "error"
    assert tab.coloured is None
