"""A run of several tiles in a real window: seen, paused, stopped, resumed, mended."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import Qt, QTimer

from dinomask.image import open_image
from dinomask.run.segment import segment
from dinomask.tiles.edit import LabelPyramid
from dinomask.tiles.outputs import table_path
from napari_dinomask.layers import PREVIEW_SUFFIX, saved_path
from napari_dinomask.network import network
from napari_dinomask.widgets import live_preview
from tests.napari_dinomask.conftest import NUCLEUS_PX, RUN_MS, wait_until_free

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt
    from napari import Viewer
    from napari.layers import Labels
    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QPushButton

    from napari_dinomask.widgets.segment import SegmentPanel

    Array = npt.NDArray[Any]

LEFT = Qt.MouseButton.LeftButton
TILE_PX = 224


@pytest.fixture(autouse=True)
def _show_short_runs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_preview, "WORTH_S", 0.0)


@pytest.fixture
def pixels_yx(sample_nuclei: Path) -> Array:
    """Twelve tiles or more."""
    import tifffile

    return np.asarray(tifffile.imread(sample_nuclei)[:300, :400])


@pytest.fixture
def ready(viewer: Viewer, panel: SegmentPanel, pixels_yx: Array) -> SegmentPanel:
    viewer.add_image(pixels_yx, name="cells", scale=(0.5, 0.5))
    panel.size_chooser.field.setValue(NUCLEUS_PX)
    panel.advanced.tile.setValue(TILE_PX)
    return panel


@pytest.fixture
def slow_network(qtbot: QtBot) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Have something called in the run's thread before each tile."""
    hooks = []

    def add(before_tile: Callable[[], None]) -> None:
        predictor = network.load(_config())
        backbone = predictor.model.backbone
        # what a hook returns would take the place of the tile
        hooks.append(backbone.register_forward_pre_hook(lambda *_: (before_tile(), None)[1]))

    yield add
    for hook in hooks:
        hook.remove()
    wait_until_free(qtbot)


def _config() -> Any:
    from napari_dinomask.session import SegmentIntent

    return SegmentIntent(diameter_px=NUCLEUS_PX, tile_px=TILE_PX).resolve()


def _click(qtbot: QtBot, button: QPushButton) -> None:
    # a new button is laid out first
    qtbot.waitUntil(button.isVisible)
    assert button.isEnabled()
    qtbot.mouseClick(button, LEFT)


def _action(panel: SegmentPanel, text: str) -> QPushButton:
    return next(b for b in panel.run_box.actions if b.text() == text)


def _texts(panel: SegmentPanel) -> str:
    return " | ".join(label.text() for label in panel.run_box.messages)


def _labels(viewer: Viewer) -> list[Labels]:
    from napari.layers import Labels

    return [layer for layer in viewer.layers if isinstance(layer, Labels)]


def _wait_for_tiles(qtbot: QtBot, panel: SegmentPanel, n: int) -> None:
    def done() -> int:
        progress = panel.job.progress if panel.job else None
        return progress.done if progress and progress.stage == "detect" else 0

    qtbot.waitUntil(lambda: done() >= n, timeout=RUN_MS)


def _finish(qtbot: QtBot, panel: SegmentPanel) -> None:
    qtbot.waitUntil(lambda: panel.job is None, timeout=RUN_MS)


def _require_live_window(qtbot: QtBot, panel: SegmentPanel) -> None:
    """Events are answered while tiles are found and shown; a refresh itself is cheap."""
    ticks = [time.perf_counter()]
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start(5)
    qtbot.wait(1500)
    timer.stop()
    # single gaps are napari's redraws, slow without a graphics card
    assert np.median(np.diff(ticks)) < 0.05
    costs = []
    for _ in range(10):
        started = time.perf_counter()
        panel.runner.live.shown.refresh()
        costs.append(time.perf_counter() - started)
        qtbot.wait(30)
    assert np.median(costs) < 0.1


def test_tiles_appear_while_the_run_goes_on_the_visible_ones_first(
    viewer: Viewer,
    ready: SegmentPanel,
    qtbot: QtBot,
    slow_network: Callable[[Callable[[], None]], None],
    pixels_yx: Array,
) -> None:
    # the last corner of the image fills the canvas
    viewer.scene.camera.center = (130.0, 180.0)
    viewer.scene.camera.zoom = 20.0
    gate = threading.Semaphore(1)
    slow_network(lambda: gate.acquire(timeout=5))
    _click(qtbot, ready.run_box.start)
    qtbot.waitUntil(lambda: bool(_labels(viewer)), timeout=RUN_MS)
    (preview,) = _labels(viewer)
    assert preview.name == "cells" + PREVIEW_SUFFIX
    assert not preview.editable
    np.testing.assert_array_equal(preview.scale, (0.5, 0.5))
    shown = np.array(preview.data[...])
    rows, columns = np.nonzero(shown)
    assert rows.min() > 150
    assert columns.min() > 250
    gate.release(4)
    more = (shown > 0).sum() + 1
    qtbot.waitUntil(lambda: (np.asarray(preview.data[...]) > 0).sum() >= more, timeout=RUN_MS)
    _require_live_window(qtbot, ready)
    gate.release(99)
    _finish(qtbot, ready)
    (labels,) = _labels(viewer)
    assert labels.name == "cells · DINOmask"
    clean = segment(open_image(pixels_yx), config=_config(), predictor=network.load(_config()))
    np.testing.assert_array_equal(labels.data, clean.labels_yx)


def test_a_pause_lets_others_use_the_network_and_loses_nothing(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot
) -> None:
    _click(qtbot, ready.run_box.start)
    _wait_for_tiles(qtbot, ready, 2)
    # the job knows before the window does
    qtbot.waitUntil(lambda: "px/s" in ready.run_box.stage.text())
    _click(qtbot, ready.run_box.pause)
    qtbot.waitUntil(lambda: "Paused" in ready.run_box.stage.text(), timeout=RUN_MS)
    assert ready.run_box.pause.text() == "Resume"
    with network.turn:
        done = ready.job.progress.done
        qtbot.wait(600)
        assert ready.job.progress.done == done
    elapsed_s = time.perf_counter()
    _click(qtbot, ready.run_box.pause)
    _finish(qtbot, ready)
    assert time.perf_counter() - elapsed_s < RUN_MS / 1000
    assert len(_labels(viewer)) == 1
    assert ready.run_box.messages[0].objectName() == "result"
    assert ready.run_box.pause.text() == "Pause"
    wait_until_free(qtbot)


def test_a_paused_run_can_be_cancelled(viewer: Viewer, ready: SegmentPanel, qtbot: QtBot) -> None:
    _click(qtbot, ready.run_box.start)
    _wait_for_tiles(qtbot, ready, 1)
    _click(qtbot, ready.run_box.pause)
    qtbot.waitUntil(lambda: "Paused" in ready.run_box.stage.text(), timeout=RUN_MS)
    _click(qtbot, ready.run_box.cancel)
    wait_until_free(qtbot)
    qtbot.wait(200)
    assert not _labels(viewer)
    assert not network.turn.locked()


def test_a_cancelled_run_with_an_output_goes_on_where_it_stopped(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot, tmp_path: Path, pixels_yx: Array
) -> None:
    out = tmp_path / "cells.zarr"
    ready.output.field.setText(str(out))
    _click(qtbot, ready.run_box.start)
    _wait_for_tiles(qtbot, ready, 3)
    _click(qtbot, ready.run_box.cancel)
    assert "are kept" in _texts(ready)
    wait_until_free(qtbot)
    assert not _labels(viewer)
    assert not out.exists()
    # as after a crash: another layer of the same pixels
    viewer.layers.clear()
    viewer.add_image(pixels_yx.copy(), name="again")
    _click(qtbot, ready.run_box.start)
    qtbot.waitUntil(lambda: "are done already" in _texts(ready), timeout=RUN_MS)
    _finish(qtbot, ready)
    (labels,) = _labels(viewer)
    assert saved_path(labels) == out
    assert labels.multiscale
    assert "cells" in _texts(ready)
    clean = segment(open_image(pixels_yx), config=_config(), predictor=network.load(_config()))
    pyramid = LabelPyramid.open(out)
    np.testing.assert_array_equal(pyramid.levels[0][...], clean.labels_yx)
    np.testing.assert_array_equal(np.asarray(labels.data[0]), clean.labels_yx)
    assert len(labels.features) == clean.labels_yx.max() + 1
    _ask_about_an_earlier_result(viewer, ready, qtbot)


def _ask_about_an_earlier_result(viewer: Viewer, panel: SegmentPanel, qtbot: QtBot) -> None:
    """The output is there already: nothing is replaced unasked."""
    viewer.layers.remove(_labels(viewer)[0])
    _click(qtbot, panel.run_box.start)
    assert "is there already" in _texts(panel)
    assert panel.job is None
    _click(qtbot, _action(panel, "Show it"))
    assert len(_labels(viewer)) == 1
    _click(qtbot, panel.run_box.start)
    _click(qtbot, _action(panel, "Replace it"))
    _finish(qtbot, panel)
    assert panel.run_box.messages[0].objectName() == "result"


def test_other_settings_on_an_unfinished_output_need_a_new_start(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot, tmp_path: Path
) -> None:
    ready.output.field.setText(str(tmp_path / "cells.zarr"))
    _click(qtbot, ready.run_box.start)
    _wait_for_tiles(qtbot, ready, 2)
    _click(qtbot, ready.run_box.cancel)
    wait_until_free(qtbot)
    ready.size_chooser.field.setValue(NUCLEUS_PX + 4)
    _click(qtbot, ready.run_box.start)
    _finish(qtbot, ready)
    assert "start over" in _texts(ready)
    assert "--restart" not in _texts(ready)
    _click(qtbot, _action(ready, "Start over"))
    _finish(qtbot, ready)
    assert ready.run_box.messages[0].objectName() == "result"
    assert len(_labels(viewer)) == 1


def test_a_failed_tile_is_listed_and_a_click_goes_there(
    viewer: Viewer,
    ready: SegmentPanel,
    qtbot: QtBot,
    slow_network: Callable[[Callable[[], None]], None],
) -> None:
    looks = []

    def fail() -> None:
        looks.append(1)
        # both looks at one tile
        if len(looks) in (3, 4):
            msg = "a broken card"
            raise RuntimeError(msg)

    slow_network(fail)
    _click(qtbot, ready.run_box.start)
    _finish(qtbot, ready)
    assert "1 tile failed" in _texts(ready)
    assert "a broken card" in _texts(ready)
    assert "--overwrite" not in _texts(ready)
    (jump,) = ready.run_box.actions
    before = viewer.scene.camera.center, viewer.scene.camera.zoom
    _click(qtbot, jump)
    assert (viewer.scene.camera.center, viewer.scene.camera.zoom) != before
    # the tile fills the better part of the canvas
    from napari_dinomask.layers import visible_window

    y0, x0, y1, x1 = visible_window(viewer, viewer.layers["cells"], (0, 1))
    assert (y1 - y0) * (x1 - x0) < 300 * 400 / 2


def test_a_large_image_gets_an_output(viewer: Viewer, panel: SegmentPanel, qtbot: QtBot) -> None:
    small = viewer.add_image(np.zeros((30, 30)), name="small")
    assert panel.output.field.text() == ""
    tile = np.zeros((64, 64), np.uint8)
    huge = np.lib.stride_tricks.as_strided(tile, (9000, 9000), (0, 0), writeable=False)
    viewer.add_image([huge, huge[::8, ::8]], name="huge slide", contrast_limits=(0, 1))
    assert panel.output.field.text().endswith("huge_slide_labels.zarr")
    panel.output.field.setText("")
    _click(qtbot, panel.run_box.start)
    assert panel.job is None
    assert "Save to" in _texts(panel)
    viewer.layers.selection.active = small
    assert panel.output.field.text() == ""


def test_editing_a_view_reaches_the_disk_and_can_be_taken_back(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot, tmp_path: Path
) -> None:
    out = tmp_path / "cells.zarr"
    ready.output.field.setText(str(out))
    assert not ready.edit_box.isVisible()
    _click(qtbot, ready.run_box.start)
    _finish(qtbot, ready)
    (overview,) = _labels(viewer)
    before = np.asarray(LabelPyramid.open(out).levels[0][...])
    viewer.scene.camera.center = (75.0, 100.0)
    viewer.scene.camera.zoom = 8.0
    qtbot.wait(100)
    ready.ensureWidgetVisible(ready.edit_box)
    _click(qtbot, ready.edit_box.edit)
    region = ready.edit_box.region
    assert max(region.labels.data.shape) < 250
    y0, x0, y1, x1 = region.window_yxyx_px
    np.testing.assert_array_equal(region.labels.data, before[y0:y1, x0:x1])
    new_id = region.labels.selected_label
    assert new_id == before.max() + 1
    # an id of a cell that is not on display is not taken by accident
    elsewhere = set(np.unique(before)) - set(np.unique(before[y0:y1, x0:x1]))
    region.labels.selected_label = int(min(elsewhere))
    assert region.labels.selected_label == new_id
    region.labels.brush_size = 9
    canvas = viewer.window._qt_viewer.canvas.native
    middle = canvas.rect().center()
    qtbot.mouseMove(canvas, middle)
    qtbot.wait(50)
    qtbot.mouseClick(canvas, LEFT, pos=middle)

    def on_disk() -> Array:
        return np.asarray(LabelPyramid.open(out).levels[0][...])

    qtbot.waitUntil(lambda: bool((on_disk() == new_id).any()), timeout=RUN_MS)
    painted = on_disk()
    assert (painted[148:152, 198:202] == new_id).all()
    np.testing.assert_array_equal(painted[painted != new_id], before[painted != new_id])
    region.labels.undo()
    qtbot.waitUntil(lambda: bool((on_disk() == before).all()), timeout=RUN_MS)
    region.labels.redo()
    _click(qtbot, ready.edit_box.done)
    np.testing.assert_array_equal(on_disk(), painted)
    assert _labels(viewer) == [overview]
    np.testing.assert_array_equal(np.asarray(overview.data[0][...]), painted)
    assert LabelPyramid.open(out).next_id() == new_id + 1
    # the table follows, on disk and in the layer
    qtbot.waitUntil(lambda: len(overview.features) == new_id + 1, timeout=RUN_MS)
    n_painted = int((painted == new_id).sum())
    assert overview.features["area_px"][new_id] == n_painted
    table = pd.read_parquet(table_path(out)).set_index("id")
    assert table["area_px"][new_id] == n_painted
    assert np.isnan(table["score"][new_id])
