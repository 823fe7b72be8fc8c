"""All planes of a movie or stack at once, in a real window, driven with the mouse."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from dinomask.config import LINK_IOU, PlanesConfig
from dinomask.image.stack import open_stack
from dinomask.run.planes import StackSegmentation, segment_planes
from dinomask.tiles.edit import LabelPyramid
from napari_dinomask import session
from napari_dinomask.layers import PREVIEW_SUFFIX, saved_path
from napari_dinomask.network import network
from napari_dinomask.widgets import live_preview
from napari_dinomask.widgets.planes_box import ALL_PLANES, ONE_PLANE
from tests.napari_dinomask.conftest import NUCLEUS_PX, RUN_MS, wait_until_free

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from napari import Viewer
    from napari.layers import Labels
    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QComboBox, QPushButton

    from napari_dinomask.widgets.segment import SegmentPanel

    Array = npt.NDArray[Any]

LEFT = Qt.MouseButton.LeftButton
CANCEL_S = 1.0


@pytest.fixture
def stack_zyx(nuclei_yx: Array) -> Array:
    """Three planes that differ, in which nuclei move a little."""
    return np.stack([nuclei_yx[i : 112 + i, 2 * i : 140 + 2 * i] for i in range(3)])


@pytest.fixture
def ready(panel: SegmentPanel) -> SegmentPanel:
    panel.size_chooser.field.setValue(NUCLEUS_PX)
    return panel


@pytest.fixture
def broken_tile(qtbot: QtBot) -> Iterator[None]:
    """Both looks at the second tile fail."""
    looks: list[int] = []

    def fail(*_: Any) -> None:
        looks.append(1)
        if len(looks) in (2, 3):
            msg = "a broken card"
            raise RuntimeError(msg)

    hook = network.load(_config()).model.backbone.register_forward_pre_hook(fail)
    yield
    hook.remove()
    wait_until_free(qtbot)


def _config(tile_px: int = session.SegmentIntent.tile_px) -> Any:
    return session.SegmentIntent(diameter_px=NUCLEUS_PX, tile_px=tile_px).resolve()


def _expect(
    stack: Array, axes: str, planes: PlanesConfig | None = None, out: Path | None = None
) -> StackSegmentation:
    source, config = open_stack(stack, axes=axes), _config()
    return segment_planes(source, out, config, planes, predictor=network.load(config))


def _click(qtbot: QtBot, button: QPushButton) -> None:
    qtbot.waitUntil(button.isVisible)
    assert button.isEnabled()
    qtbot.mouseClick(button, LEFT)


def _choose(qtbot: QtBot, combo: QComboBox, text: str) -> None:
    """Pick an entry with the mouse."""
    qtbot.waitUntil(combo.isVisible)
    combo.showPopup()
    view = combo.view()
    index = combo.model().index(combo.findText(text), 0)
    qtbot.waitUntil(view.isVisible)
    qtbot.mouseClick(view.viewport(), LEFT, pos=view.visualRect(index).center())
    qtbot.waitUntil(lambda: combo.currentText() == text)


def _segment(qtbot: QtBot, panel: SegmentPanel) -> None:
    _click(qtbot, panel.run_box.start)
    qtbot.waitUntil(lambda: panel.job is None, timeout=RUN_MS)


def _action(panel: SegmentPanel, text: str) -> QPushButton:
    return next(b for b in panel.run_box.actions if b.text() == text)


def _texts(panel: SegmentPanel) -> str:
    return " | ".join(label.text() for label in panel.run_box.messages).replace("\u00a0", " ")


def _labels(viewer: Viewer) -> list[Labels]:
    from napari.layers import Labels

    return [layer for layer in viewer.layers if isinstance(layer, Labels)]


def test_all_planes_become_one_layer_that_lies_on_the_image(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot, stack_zyx: Array
) -> None:
    layer = viewer.add_image(stack_zyx, name="stack", scale=(2, 0.5, 0.5), translate=(7, 1, 2))
    box = ready.planes_box
    assert box.planes_combo.currentText() == ONE_PLANE
    assert not box.link_combo.isVisible()
    _choose(qtbot, box.planes_combo, ALL_PLANES)
    assert "all 3 planes" in ready.layer_hint.text()
    assert "through Z" in box.link_combo.toolTip()
    _segment(qtbot, ready)
    (labels,) = _labels(viewer)
    clean = _expect(stack_zyx, "zyx")
    np.testing.assert_array_equal(labels.data, clean.labels)
    np.testing.assert_array_equal(labels.extent.world, layer.extent.world)
    features = labels.features
    assert list(features["index"]) == list(range(labels.data.max() + 1))
    for row in clean.table.itertuples():
        assert features["z"][row.id] == row.z
        assert features["area_px"][row.id] == row.area_px
    assert f"{len(clean.table)} cells in 3 planes, median" in _texts(ready)


def test_linked_objects_keep_one_label_through_time(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot, stack_zyx: Array
) -> None:
    # time last, after x: the order of a layer is the user's
    viewer.add_image(np.moveaxis(stack_zyx, 0, 1), axis_labels=("y", "t", "x"))
    viewer.dims.order = (1, 0, 2)
    box = ready.planes_box
    _choose(qtbot, box.planes_combo, ALL_PLANES)
    assert not box.iou.isVisible()
    _choose(qtbot, box.link_combo, "through t")
    assert box.iou.value() == LINK_IOU
    _segment(qtbot, ready)
    (labels,) = _labels(viewer)
    clean = _expect(stack_zyx, "tyx", PlanesConfig(LINK_IOU))
    np.testing.assert_array_equal(np.moveaxis(labels.data, 1, 0), clean.labels)
    n_objects = clean.report["n_objects"]
    assert n_objects < len(clean.table)
    assert f"in 3 planes, linked into {n_objects} objects" in _texts(ready)
    counts = clean.table["object_id"].value_counts()
    sections = labels.features["n_sections"]
    assert all(sections[i] == counts[i] for i in counts.index)


def test_all_planes_of_a_coloured_movie_stack_go_to_disk_and_are_found_again(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot, stack_zyx: Array, tmp_path: Path
) -> None:
    movie = np.stack([stack_zyx[:2, ::-1], stack_zyx[1:]])
    pixels = np.stack([movie] * 3, axis=-1)
    viewer.add_image(pixels, name="movie", rgb=True, axis_labels=("t", "z", "y", "x"))
    _choose(qtbot, ready.planes_box.planes_combo, ALL_PLANES)
    assert ready.planes_box.link_combo.itemText(1) == "through z"
    out = tmp_path / "cells.zarr"
    ready.output.field.setText(str(out))
    _segment(qtbot, ready)
    (labels,) = _labels(viewer)
    clean = _expect(pixels, "tzyxs")
    assert saved_path(labels) == out
    assert labels.multiscale
    np.testing.assert_array_equal(np.asarray(labels.data[0]), clean.labels)
    np.testing.assert_array_equal(labels.data[0][1, 0, 3:9, 5:], clean.labels[1, 0, 3:9, 5:])
    assert len(labels.features) == clean.table["id"].max() + 1
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, 0)
    y, x = np.argwhere(clean.labels[1, 0])[0]
    assert labels.get_value((1, 0, y, x), world=True)[1] == clean.labels[1, 0, y, x]
    viewer.layers.remove(labels)
    _click(qtbot, ready.run_box.start)
    _click(qtbot, _action(ready, "Show it"))
    (shown,) = _labels(viewer)
    np.testing.assert_array_equal(np.asarray(shown.data[0]), clean.labels)
    _refuse_other_planes(viewer, ready, qtbot)


def _refuse_other_planes(viewer: Viewer, panel: SegmentPanel, qtbot: QtBot) -> None:
    """Labels of all planes are not those of one."""
    _choose(qtbot, panel.planes_box.planes_combo, ONE_PLANE)
    _click(qtbot, panel.run_box.start)
    _click(qtbot, _action(panel, "Show it"))
    assert len(_labels(viewer)) == 1
    assert "“Planes”" in _texts(panel)


def test_a_cancelled_stack_goes_on_where_it_stopped(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot, stack_zyx: Array, tmp_path: Path
) -> None:
    # so many that none of the steps between is missed
    stack_tyx = np.concatenate([stack_zyx] * 10)
    viewer.add_image(stack_tyx, axis_labels=("t", "y", "x"))
    _choose(qtbot, ready.planes_box.planes_combo, ALL_PLANES)
    ready.output.field.setText(str(tmp_path / "cells.zarr"))
    _click(qtbot, ready.run_box.start)
    under_way = re.compile(r"tile ([2-9]|1\d) of 30")
    qtbot.waitUntil(lambda: bool(under_way.search(ready.run_box.stage.text())), timeout=RUN_MS)
    _click(qtbot, ready.run_box.pause)
    qtbot.waitUntil(lambda: "Paused" in ready.run_box.stage.text(), timeout=RUN_MS)
    started = time.perf_counter()
    _click(qtbot, ready.run_box.cancel)
    qtbot.waitUntil(ready.run_box.start.isEnabled, timeout=RUN_MS)
    assert time.perf_counter() - started < CANCEL_S
    assert "are kept" in _texts(ready)
    wait_until_free(qtbot)
    assert not _labels(viewer)
    _click(qtbot, ready.run_box.start)
    qtbot.waitUntil(lambda: "are done already" in _texts(ready), timeout=RUN_MS)
    qtbot.waitUntil(lambda: ready.job is None, timeout=RUN_MS)
    (labels,) = _labels(viewer)
    np.testing.assert_array_equal(np.asarray(labels.data[0]), _expect(stack_tyx, "tyx").labels)


def test_tiles_appear_in_their_planes_while_a_stack_is_segmented(
    viewer: Viewer,
    ready: SegmentPanel,
    qtbot: QtBot,
    stack_zyx: Array,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_preview, "WORTH_S", 0.0)
    layer = viewer.add_image(stack_zyx, name="stack", scale=(2, 0.5, 0.5), translate=(7, 1, 2))
    viewer.dims.set_current_step(0, 2)
    _choose(qtbot, ready.planes_box.planes_combo, ALL_PLANES)
    shown: list[Array] = []
    two_done, looked = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        if len(shown) == 2:
            two_done.set()
            looked.wait(RUN_MS / 1000)
        shown.append(np.zeros(0))

    hook = network.load(_config()).model.backbone.register_forward_pre_hook(wait)
    try:
        _click(qtbot, ready.run_box.start)
        qtbot.waitUntil(two_done.is_set, timeout=RUN_MS)
        qtbot.waitUntil(lambda: bool(_labels(viewer)), timeout=RUN_MS)
        (so_far,) = _labels(viewer)
        assert so_far.name.endswith(PREVIEW_SUFFIX)
        assert not so_far.editable
        np.testing.assert_array_equal(so_far.extent.world, layer.extent.world)
        # the plane on display came first, then the others in order; tiles are drawn now and then
        drawn = [True, False, True]
        qtbot.waitUntil(
            lambda: [bool(np.asarray(so_far.data[z]).any()) for z in range(3)] == drawn,
            timeout=RUN_MS,
        )
    finally:
        looked.set()
        hook.remove()
    qtbot.waitUntil(lambda: ready.job is None, timeout=RUN_MS)
    (labels,) = _labels(viewer)
    np.testing.assert_array_equal(labels.data, _expect(stack_zyx, "zyx").labels)


@pytest.mark.usefixtures("broken_tile")
def test_a_failed_tile_of_a_stack_is_listed_with_its_plane(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot, stack_zyx: Array
) -> None:
    viewer.add_image(stack_zyx, scale=(2, 0.5, 0.5))
    # the plane on display is worked on first
    viewer.dims.set_current_step(0, 0)
    _choose(qtbot, ready.planes_box.planes_combo, ALL_PLANES)
    _segment(qtbot, ready)
    assert "1 tile failed" in _texts(ready)
    _click(qtbot, _action(ready, "z 1, tile 1"))
    assert viewer.dims.current_step[0] == 1
    assert not _labels(viewer)[0].data[1].any()


def test_painting_on_a_plane_on_disk_leaves_the_others_alone(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot, stack_zyx: Array, tmp_path: Path
) -> None:
    viewer.add_image(stack_zyx)
    _choose(qtbot, ready.planes_box.planes_combo, ALL_PLANES)
    out = tmp_path / "cells.zarr"
    ready.output.field.setText(str(out))
    _segment(qtbot, ready)
    before = np.asarray(LabelPyramid.open(out).levels[0][...])
    viewer.dims.set_current_step(0, 2)
    qtbot.wait(100)
    ready.ensureWidgetVisible(ready.edit_box)
    _click(qtbot, ready.edit_box.edit)
    region = ready.edit_box.region
    y0, x0, y1, x1 = region.window_yxyx_px
    np.testing.assert_array_equal(region.labels.data[0], before[2, y0:y1, x0:x1])
    new_id = region.labels.selected_label
    assert new_id == before.max() + 1
    region.labels.paint((0, 50 - y0, 60 - x0), new_id)
    _click(qtbot, ready.edit_box.done)
    after = np.asarray(LabelPyramid.open(out).levels[0][...])
    assert after[2, 50, 60] == new_id
    np.testing.assert_array_equal(after[:2], before[:2])
    (overview,) = _labels(viewer)
    np.testing.assert_array_equal(np.asarray(overview.data[0]), after)


def test_a_single_plane_has_no_choice_and_many_planes_are_large(
    viewer: Viewer, ready: SegmentPanel, qtbot: QtBot, nuclei_yx: Array
) -> None:
    viewer.add_image(nuclei_yx)
    assert not ready.planes_box.isVisible()
    viewer.add_image(nuclei_yx[None], axis_labels=("z", "y", "x"))
    assert not ready.planes_box.isVisible()
    long = np.broadcast_to(nuclei_yx, (1200, *nuclei_yx.shape))
    viewer.add_image(long, name="long movie", axis_labels=("t", "y", "x"))
    assert ready.planes_box.isVisible()
    assert ready.output.field.text() == ""
    _choose(qtbot, ready.planes_box.planes_combo, ALL_PLANES)
    assert ready.output.field.text().endswith("long_movie_labels.zarr")
    ready.output.field.setText("")
    _click(qtbot, ready.run_box.start)
    assert ready.job is None
    assert "1,200 planes of 256 × 256" in _texts(ready)
    _choose(qtbot, ready.planes_box.planes_combo, ONE_PLANE)
    assert "t = 0" in ready.layer_hint.text()
