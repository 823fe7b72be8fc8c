"""The Segment panel in a real window, driven with the mouse."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt, QTimer

from napari_dinomask.layers import CELL_LAYER
from napari_dinomask.network import network
from napari_dinomask.widgets import cell_pen
from tests.napari_dinomask.conftest import NUCLEUS_PX, RUN_MS, wait_until_free

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari import Viewer
    from napari.layers import Labels
    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QWidget

    from napari_dinomask.widgets.segment import SegmentPanel

    Array = npt.NDArray[Any]

CANCEL_S = 1.0
LONGEST_GAP_S = 0.2
LEFT = Qt.MouseButton.LeftButton


def _click(qtbot: QtBot, widget: QWidget) -> None:
    assert widget.isVisible()
    assert widget.isEnabled()
    qtbot.mouseClick(widget, LEFT)


def _type_diameter(panel: SegmentPanel, diameter_px: float) -> None:
    panel.size_chooser.field.setValue(diameter_px)


def _segment(qtbot: QtBot, panel: SegmentPanel) -> None:
    _click(qtbot, panel.run_box.start)
    qtbot.waitUntil(lambda: panel.job is None, timeout=RUN_MS)


def _severities(panel: SegmentPanel) -> list[str]:
    return [label.objectName() for label in panel.run_box.messages]


def _labels(viewer: Viewer) -> list[Labels]:
    from napari.layers import Labels

    return [layer for layer in viewer.layers if isinstance(layer, Labels)]


def _agreement(found_yx: Array, truth_yx: Array) -> tuple[float, float]:
    """Return the share of true objects found, and of found ones that lie on true ones."""

    def share(ours: Array, theirs: Array) -> float:
        ids = np.unique(ours[ours > 0])
        return float(np.mean([(theirs[ours == i] > 0).mean() > 0.5 for i in ids]))

    return share(truth_yx, found_yx), share(found_yx, truth_yx)


def test_a_click_on_segment_labels_the_cells(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot, nuclei_yx: Array, true_labels_yx: Array
) -> None:
    layer = viewer.add_image(nuclei_yx, name="nuclei", scale=(0.5, 0.5), units=("µm", "µm"))
    _type_diameter(panel, NUCLEUS_PX)
    assert panel.size_chooser.micrometres.text() == "= 13\u00a0µm"
    _segment(qtbot, panel)
    (labels,) = _labels(viewer)
    found, right = _agreement(labels.data, true_labels_yx)
    assert found > 0.6
    assert right > 0.8
    assert labels.name == "nuclei · DINOmask"
    np.testing.assert_array_equal(labels.scale, layer.scale)
    assert len(labels.features) == labels.data.max() + 1
    assert _severities(panel)[0] == "result"
    assert f"{len(np.unique(labels.data)) - 1}\u00a0cells" in panel.run_box.messages[0].text()
    assert panel.run_box.start.isEnabled()
    assert panel.layer_combo.layer is layer


def test_the_window_stays_live_and_a_second_run_keeps_the_first(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot, nuclei_yx: Array
) -> None:
    viewer.add_image(nuclei_yx)
    _type_diameter(panel, NUCLEUS_PX)
    _segment(qtbot, panel)
    first = _labels(viewer)[0]
    first.data[:5, :5] = 77
    # what napari itself takes to show a layer of labels is not the panel's doing
    started = time.perf_counter()
    bare = viewer.add_labels(first.data.copy())
    qtbot.wait(1)
    napari_s = time.perf_counter() - started
    viewer.layers.remove(bare)
    ticks = [time.perf_counter()]
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start(5)
    _segment(qtbot, panel)
    timer.stop()
    assert len(_labels(viewer)) == 2
    assert (first.data[:5, :5] == 77).all()
    assert len(ticks) > 20
    assert np.diff(ticks).max() < LONGEST_GAP_S + napari_s


def test_cancel_answers_at_once_and_leaves_nothing(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot, nuclei_yx: Array
) -> None:
    viewer.add_image(np.tile(nuclei_yx, (4, 4)))
    _type_diameter(panel, NUCLEUS_PX)
    _click(qtbot, panel.run_box.start)
    qtbot.waitUntil(lambda: "tile" in panel.run_box.stage.text(), timeout=RUN_MS)
    started = time.perf_counter()
    _click(qtbot, panel.run_box.cancel)
    qtbot.waitUntil(lambda: panel.run_box.start.isEnabled(), timeout=RUN_MS)
    assert time.perf_counter() - started < CANCEL_S
    assert not panel.run_box.cancel.isVisible()
    wait_until_free(qtbot)
    qtbot.wait(100)
    assert len(viewer.layers) == 1
    assert _severities(panel) == ["info"]


def test_a_run_after_cancel_waits_for_its_turn(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot, nuclei_yx: Array
) -> None:
    viewer.add_image(nuclei_yx)
    _type_diameter(panel, NUCLEUS_PX)
    with network.turn:
        _click(qtbot, panel.run_box.start)
        qtbot.waitUntil(lambda: "Waiting" in panel.run_box.stage.text(), timeout=RUN_MS)
    qtbot.waitUntil(lambda: panel.job is None, timeout=RUN_MS)
    assert len(_labels(viewer)) == 1


def test_an_image_with_nan_is_explained_in_the_panel(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot
) -> None:
    viewer.add_image(np.full((64, 64), np.nan), contrast_limits=(0, 1))
    _segment(qtbot, panel)
    assert _severities(panel) == ["error"]
    text = panel.run_box.messages[0].text()
    assert "NaN" in text
    assert "numpy.nan_to_num" in text
    assert not _labels(viewer)
    assert panel.run_box.start.isEnabled()


def test_an_object_larger_than_the_image_is_explained(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot, nuclei_yx: Array
) -> None:
    viewer.add_image(nuclei_yx)
    _type_diameter(panel, 5000)
    _segment(qtbot, panel)
    assert _severities(panel) == ["error"]
    assert "5000 px" in panel.run_box.messages[0].text()


def test_an_empty_image_gives_a_warning_and_an_empty_layer(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot
) -> None:
    viewer.add_image(np.zeros((64, 64), np.uint8))
    _segment(qtbot, panel)
    assert "warning" in _severities(panel)
    assert "error" not in _severities(panel)
    assert _labels(viewer)[0].data.max() == 0


def test_the_estimate_is_shown_and_ready_to_be_typed_over(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot, nuclei_yx: Array
) -> None:
    viewer.add_image(nuclei_yx)
    assert panel.size_chooser.diameter_px == "auto"
    _segment(qtbot, panel)
    assert panel.size_chooser.diameter_px == "auto"
    assert panel.size_chooser.field.value() == pytest.approx(NUCLEUS_PX, rel=0.35)
    assert panel.size_chooser.note.text().startswith("Estimated")


def test_the_plane_on_display_is_segmented(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot, nuclei_yx: Array, true_labels_yx: Array
) -> None:
    viewer.add_image(np.stack([np.zeros_like(nuclei_yx), nuclei_yx]), name="stack")
    viewer.dims.set_current_step(0, 1)
    assert "z = 1" in panel.layer_hint.text()
    _type_diameter(panel, NUCLEUS_PX)
    _segment(qtbot, panel)
    (labels,) = _labels(viewer)
    assert labels.data.shape == (1, *nuclei_yx.shape)
    assert labels.translate[0] == 1
    assert _agreement(labels.data[0], true_labels_yx)[0] > 0.6


def test_one_drawn_cell_sets_the_diameter(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot, nuclei_yx: Array
) -> None:
    layer = viewer.add_image(nuclei_yx)
    qtbot.wait(200)
    _click(qtbot, panel.size_chooser.draw)
    # napari compiles its shapes the first time
    qtbot.waitUntil(lambda: viewer.layers.selection.active.name == CELL_LAYER, timeout=RUN_MS)
    side_px = 90
    _drag(qtbot, viewer, QPoint(200, 200), QPoint(200 + side_px, 200 + side_px))
    expected_px = side_px / viewer.scene.camera.zoom
    assert panel.size_chooser.diameter_px == pytest.approx(expected_px, rel=0.05)
    assert not panel.size_chooser.draw.isChecked()
    assert viewer.layers.selection.active is layer
    assert panel.layer_combo.layer is layer


def test_putting_the_pen_away_leaves_nothing(
    viewer: Viewer, panel: SegmentPanel, qtbot: QtBot, nuclei_yx: Array
) -> None:
    layer = viewer.add_image(nuclei_yx)
    _click(qtbot, panel.size_chooser.draw)
    assert panel.size_chooser.note.text()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=RUN_MS)
    _click(qtbot, panel.size_chooser.draw)
    assert list(viewer.layers) == [layer]
    assert panel.size_chooser.diameter_px == "auto"


def test_the_window_lives_while_the_pen_is_prepared(
    viewer: Viewer,
    panel: SegmentPanel,
    qtbot: QtBot,
    nuclei_yx: Array,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(cell_pen, "prepare_drawing", lambda: may_end.wait(RUN_MS / 1000))
    layer = viewer.add_image(nuclei_yx)
    _click(qtbot, panel.size_chooser.draw)
    _click(qtbot, panel.size_chooser.draw)
    _click(qtbot, panel.size_chooser.draw)
    assert panel.pen.background.is_busy
    assert list(viewer.layers) == [layer]
    _click(qtbot, panel.size_chooser.draw)
    may_end.set()
    qtbot.waitUntil(lambda: not panel.pen.background.is_busy, timeout=RUN_MS)
    # put away meanwhile
    assert list(viewer.layers) == [layer]
    _click(qtbot, panel.size_chooser.draw)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=RUN_MS)


def _drag(qtbot: QtBot, viewer: Viewer, start: QPoint, end: QPoint) -> None:
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.mouseMove(canvas, start)
    qtbot.wait(30)
    qtbot.mousePress(canvas, LEFT, pos=start)
    for i in range(1, 11):
        qtbot.mouseMove(canvas, start + (end - start) * i / 10)
        qtbot.wait(20)
    qtbot.mouseRelease(canvas, LEFT, pos=end)
    qtbot.wait(30)


def test_the_form_follows_the_viewers_layers(viewer: Viewer, panel: SegmentPanel) -> None:
    assert panel.layer_combo.layer is None
    assert not panel.run_box.start.isEnabled()
    first = viewer.add_image(np.zeros((30, 30)), name="first")
    second = viewer.add_image(np.zeros((2, 30, 30)), name="second", axis_labels=("c", "y", "x"))
    viewer.add_labels(np.zeros((30, 30), int))
    assert panel.layer_combo.layer is second
    assert panel.channel_combo.isVisible()
    viewer.layers.selection.active = first
    assert panel.layer_combo.layer is first
    assert not panel.channel_combo.isVisible()
    first.name = "renamed"
    assert panel.layer_combo.currentText() == "renamed"
    viewer.layers.remove(first)
    assert panel.layer_combo.layer is second
    viewer.layers.clear()
    assert not panel.run_box.start.isEnabled()


@pytest.mark.parametrize("close", ["panel", "window"])
def test_closing_during_a_run_cancels_it(
    close: str, viewer: Viewer, panel: SegmentPanel, qtbot: QtBot, nuclei_yx: Array
) -> None:
    viewer.add_image(np.tile(nuclei_yx, (4, 4)))
    _type_diameter(panel, NUCLEUS_PX)
    _click(qtbot, panel.run_box.start)
    qtbot.waitUntil(lambda: "tile" in panel.run_box.stage.text(), timeout=RUN_MS)
    if close == "panel":
        viewer.window.remove_dock_widget(panel)
    else:
        viewer.close()
    wait_until_free(qtbot)
    qtbot.wait(100)
    assert not _labels(viewer)
    # a closed panel no longer listens
    viewer.layers.clear()
