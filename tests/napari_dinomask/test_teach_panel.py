"""The Teach panel in a real window: followed, paused, stopped, closed over, taken up again.

What the process does is counting in place of learning, but for the last test.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from dinomask.adapt import corrections as plan
from dinomask.adapt.corrections import Reviewed
from dinomask.adapt.job import TeachJob, list_jobs
from dinomask.adapt.journal import Journal
from dinomask.adapt.label_store import ArrayStore
from dinomask.config import FitConfig, SegmentConfig, TeachConfig
from dinomask.image.source import open_image
from dinomask.measure.changes import compare
from dinomask.nets.adapter_manifest import AdapterManifest
from napari_dinomask.comparison import Compared, choose_field
from napari_dinomask.corrections import Review
from napari_dinomask.layers import visible_window
from napari_dinomask.open_reviews import closed, opened
from napari_dinomask.widgets.close_guard import GO_ON, STAY, STOP
from tests.napari_dinomask.conftest import RUN_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt
    from napari import Viewer
    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QPushButton

    from napari_dinomask.widgets.teach import TeachPanel

    Array = npt.NDArray[Any]

LEFT = Qt.MouseButton.LeftButton
COUNT = "tests.adapt.workers:count"


@pytest.fixture
def homes(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where jobs and adapters go."""
    monkeypatch.setenv("PYTHONPATH", str(repository))
    monkeypatch.setenv("DINOMASK_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path / "models"))
    yield tmp_path
    for folder in list_jobs(tmp_path / "jobs"):
        TeachJob.attach(folder).kill()


@pytest.fixture
def review(
    homes: Path, viewer: Viewer, nuclei_yx: Array, true_labels_yx: Array
) -> Iterator[Review]:
    """Six nuclei were accepted, one removed, a corner reviewed."""
    viewer.add_image(nuclei_yx, name="nuclei")
    store = ArrayStore(true_labels_yx.astype(np.int32))
    image = open_image(nuclei_yx)
    journal = Journal.open(homes / "nuclei.journal.jsonl", image.identity, image.shape_yx)
    ids = np.unique(true_labels_yx)[1:]
    for label in ids[:6]:
        journal.carry_out(plan.accept(store, int(label)), store)
    journal.carry_out(plan.remove(store, int(ids[6])), store)
    journal.record(Reviewed.of_box((0, 0, 60, 60)))
    review = Review("nuclei · DINOmask", store, journal, image, SegmentConfig(), 26.0)
    opened(review)
    yield review
    closed(review)


@pytest.fixture
def panel(homes: Path, viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TeachPanel]:
    panel = dock(viewer)
    yield panel
    # so that the window closes unasked
    panel.runner.leave()
    panel.runner.is_busy = False


def dock(viewer: Viewer) -> TeachPanel:
    _, panel = viewer.window.add_plugin_dock_widget("napari-dinomask", "Teach")
    panel.runner.teacher.work = COUNT
    return panel


def limit(panel: TeachPanel, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the form ask for so many steps."""
    config = TeachConfig(steps=steps)
    monkeypatch.setattr("napari_dinomask.teaching.TeachIntent.resolve", lambda self: config)


def click(qtbot: QtBot, button: QPushButton) -> None:
    qtbot.waitUntil(button.isVisible)
    assert button.isEnabled()
    qtbot.mouseClick(button, LEFT)


def action(panel: TeachPanel, text: str) -> QPushButton:
    return next(b for b in panel.run_box.actions if b.text() == text)


def texts(panel: TeachPanel) -> str:
    return " | ".join(label.text() for label in panel.run_box.messages)


def wait_for_step(qtbot: QtBot, panel: TeachPanel, step: int) -> None:
    def reached() -> bool:
        last = panel.runner.curves.last
        return last is not None and last.step >= step

    qtbot.waitUntil(reached, timeout=RUN_MS)


def wait_for_end(qtbot: QtBot, panel: TeachPanel) -> None:
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=RUN_MS)


def the_job(homes: Path) -> TeachJob:
    (folder,) = list_jobs(homes / "jobs")
    return TeachJob.attach(folder, work=COUNT)


def test_without_corrections_it_says_what_is_missing(panel: TeachPanel) -> None:
    assert "Correct some cells" in panel.form.lesson_hint.text()
    assert not panel.run_box.start.isEnabled()
    assert not panel.plan_note.isVisible()


def test_before_the_start_it_tells_what_it_will_take(
    panel: TeachPanel, review: Review, qtbot: QtBot
) -> None:
    qtbot.waitUntil(lambda: panel.plan_note.isVisible(), timeout=RUN_MS)
    assert panel.form.lesson_hint.text().startswith("6\u00a0objects (6 found right), 1 removed")
    assert "kept aside" in panel.plan_note.text()
    assert "5\u00a0min" in panel.plan_note.text()
    assert panel.form.name.text() == "nuclei"
    assert panel.run_box.start.isEnabled()
    panel.form.minutes.setValue(2.0)
    qtbot.waitUntil(lambda: "2\u00a0min" in panel.plan_note.text(), timeout=RUN_MS)
    # corrections made since are noticed
    ids = np.unique(review.store.read((0, 0, 256, 256)))[1:]
    review.journal.carry_out(plan.accept(review.store, int(ids[-1])), review.store)
    qtbot.waitUntil(lambda: panel.form.lesson_hint.text().startswith("7"), timeout=RUN_MS)
    panel.form.name.setText("a/b")
    click(qtbot, panel.run_box.start)
    assert "Choose another name" in texts(panel)
    assert not panel.runner.is_busy


def test_a_teaching_from_the_click_to_the_verdict(
    panel: TeachPanel,
    review: Review,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    homes: Path,
) -> None:
    limit(panel, monkeypatch, 200)
    qtbot.waitUntil(panel.run_box.start.isEnabled, timeout=RUN_MS)
    click(qtbot, panel.run_box.start)
    assert not panel.form.isEnabled()
    wait_for_step(qtbot, panel, 10)
    assert "Learning · step" in panel.run_box.stage.text()
    qtbot.waitUntil(panel.curves_box.isVisible)
    click(qtbot, panel.run_box.pause)
    qtbot.waitUntil(lambda: "Paused" in panel.run_box.stage.text(), timeout=RUN_MS)
    step = panel.runner.curves.last.step
    qtbot.wait(500)
    assert panel.runner.curves.last.step == step
    click(qtbot, panel.run_box.pause)
    wait_for_end(qtbot, panel)
    assert panel.run_box.messages[0].objectName() == "result"
    assert "“nuclei” is better" in texts(panel)
    assert "It counted." in texts(panel)
    x, y = panel.curves_box._losses.getData()
    assert x[-1] == 200
    np.testing.assert_allclose(y, 1 / x)
    assert panel.form.isEnabled()
    # what the process was given is what was corrected
    report = the_job(homes).poll()
    assert report.result.figures["objects"] == 6


def test_cancelled_and_taken_up_again(
    panel: TeachPanel, review: Review, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, homes: Path
) -> None:
    limit(panel, monkeypatch, 400)
    qtbot.waitUntil(panel.run_box.start.isEnabled, timeout=RUN_MS)
    click(qtbot, panel.run_box.start)
    wait_for_step(qtbot, panel, 5)
    click(qtbot, panel.run_box.cancel)
    assert "Stopping" in panel.run_box.stage.text()
    wait_for_end(qtbot, panel)
    assert "Stopped at step" in texts(panel)
    click(qtbot, action(panel, "Go on"))
    wait_for_step(qtbot, panel, 30)
    process = json.loads((the_job(homes).folder / "process.json").read_text())
    psutil.Process(process["pid"]).kill()
    wait_for_end(qtbot, panel)
    assert "interrupted" in texts(panel)
    click(qtbot, action(panel, "Go on"))
    wait_for_end(qtbot, panel)
    assert "It counted." in texts(panel)
    assert panel.runner.curves.steps == sorted(set(panel.runner.curves.steps))


def test_discarding_leaves_nothing(
    panel: TeachPanel, review: Review, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, homes: Path
) -> None:
    limit(panel, monkeypatch, 500)
    qtbot.waitUntil(panel.run_box.start.isEnabled, timeout=RUN_MS)
    click(qtbot, panel.run_box.start)
    wait_for_step(qtbot, panel, 2)
    click(qtbot, panel.run_box.cancel)
    wait_for_end(qtbot, panel)
    click(qtbot, action(panel, "Discard"))
    qtbot.waitUntil(lambda: not list_jobs(homes / "jobs"), timeout=RUN_MS)
    assert not panel.run_box.messages
    assert panel.run_box.start.isEnabled()


def answer_with(text: str) -> list[str]:
    """Press a button of the question that comes next; return what it says."""
    told: list[str] = []

    def press() -> None:
        box = QApplication.activeModalWidget()
        if not isinstance(box, QMessageBox):
            QTimer.singleShot(20, press)
            return
        told.append(box.text())
        next(b for b in box.buttons() if b.text().replace("&", "") == text).click()

    QTimer.singleShot(20, press)
    return told


def test_closing_asks_and_the_next_window_takes_it_up(
    viewer: Viewer,
    panel: TeachPanel,
    review: Review,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    homes: Path,
    make_napari_viewer: Callable[..., Viewer],
) -> None:
    limit(panel, monkeypatch, 100_000)
    qtbot.waitUntil(panel.run_box.start.isEnabled, timeout=RUN_MS)
    click(qtbot, panel.run_box.start)
    wait_for_step(qtbot, panel, 2)
    told = close_answering(viewer, STAY)
    assert "still being taught" in told[0]
    assert viewer.window._qt_window.isVisible()
    wait_for_step(qtbot, panel, panel.runner.curves.last.step + 5)
    close_answering(viewer, GO_ON)
    assert not viewer.window._qt_window.isVisible()
    assert not the_job(homes).poll().is_over
    # as if napari was started again
    after = make_napari_viewer(show=True)
    later = dock(after)
    qtbot.waitUntil(lambda: later.runner.is_busy, timeout=RUN_MS)
    assert later.runner.name == "nuclei"
    wait_for_step(qtbot, later, 3)
    close_answering(after, STOP)
    report = the_job(homes).wait(RUN_MS / 1000)
    assert report.state == "cancelled"


def close_answering(viewer: Viewer, text: str) -> list[str]:
    """Close the window as a user does, and answer the question that comes."""
    window = viewer.window._qt_window
    # the fixture closes it once more
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    told = answer_with(text)
    window.close()
    return told


def test_what_changed_is_listed_shown_and_gone_to(
    viewer: Viewer, panel: TeachPanel, review: Review, qtbot: QtBot, true_labels_yx: Array
) -> None:
    before = true_labels_yx.astype(np.int32)
    ids = np.unique(before)[1:]
    gained, lost = int(ids[3]), int(ids[8])
    after = np.where(before == lost, 0, before)
    before = np.where(before == gained, 0, before)
    field = choose_field(viewer, review)
    assert field.layer is viewer.layers["nuclei"]
    assert field.window_yxyx_px == (0, 0, 256, 256)
    box = panel.changes_box
    box.show_compared(Compared(field, before, after, compare(before, after)))
    assert box.note.text().startswith(f"1 gained, 1 lost, 0 changed, {len(ids) - 2} as before")
    labels = box.swipe.labels

    def shown() -> Array:
        return np.asarray(labels.data[:, :])

    box.slider.setValue(256)
    np.testing.assert_array_equal(shown(), before)
    box.slider.setValue(0)
    np.testing.assert_array_equal(shown() > 0, after > 0)
    assert not set(np.unique(shown())[1:]) & set(np.unique(before))
    box.slider.setValue(100)
    np.testing.assert_array_equal(shown()[:, :100], before[:, :100])
    np.testing.assert_array_equal(shown()[:, 100:] > 0, after[:, 100:] > 0)
    np.testing.assert_array_equal(np.asarray(labels.data[::2, 1::3]), shown()[::2, 1::3])
    _go_to(viewer, panel, qtbot, 0, after == gained)
    # on the left of the edge is before, where the lost one is
    _go_to(viewer, panel, qtbot, 1, before == lost)
    assert (shown()[before == lost] == lost).all()
    click(qtbot, box.done)
    assert labels not in viewer.layers


def _go_to(viewer: Viewer, panel: TeachPanel, qtbot: QtBot, group: int, mask_yx: Array) -> None:
    panel.ensureWidgetVisible(panel.changes_box.tree)
    item = panel.changes_box.tree.topLevelItem(group).child(0)
    tree = panel.changes_box.tree
    qtbot.mouseClick(tree.viewport(), LEFT, pos=tree.visualItemRect(item).center())
    y0, x0, y1, x1 = visible_window(viewer, viewer.layers["nuclei"], (0, 1))
    assert (y1 - y0) * (x1 - x0) < 150**2
    rows, columns = np.nonzero(mask_yx)
    assert y0 <= rows.min() <= rows.max() < y1
    assert x0 <= columns.min() <= columns.max() < x1


def put_on_shelf(homes: Path, name: str, held_out: float) -> None:
    from dinomask.nets.catalogue import find_model, read_manifest

    base = read_manifest(find_model("tiny"))
    gate = {"before": {"held_out": 0.5}, "after": {"held_out": held_out}}
    manifest = AdapterManifest(
        name,
        base.name,
        base.weights_sha256,
        FitConfig("frozen"),
        "0" * 63 + str(len(name)),
        provenance={"objects": 12, "mode": "heads", "gate": gate},
    )
    folder = homes / "models" / "adapters" / name
    folder.mkdir(parents=True)
    (folder / "adapter.json").write_bytes(manifest.as_json())
    (folder / "adapter.safetensors").write_bytes(b"\0" * 3_000_000)


def test_the_shelf_is_used_and_rolled_back(
    viewer: Viewer, homes: Path, panel: TeachPanel, qtbot: QtBot
) -> None:
    put_on_shelf(homes, "first", 0.7)
    put_on_shelf(homes, "other one", 0.4)
    panel.keeper.refresh()
    box = panel.shelf_box
    qtbot.waitUntil(lambda: box.names == ["first", "other one"], timeout=RUN_MS)
    panel.ensureWidgetVisible(box)

    def state(name: str) -> str:
        rows = [box.tree.topLevelItem(i) for i in range(box.tree.topLevelItemCount())]
        return next(row.text(2) for row in rows if row.text(0) == name)

    box.choose("first")
    assert "held-out AP 0.500 → 0.700" in box.note.text()
    click(qtbot, box.buttons["use"])
    qtbot.waitUntil(lambda: state("first") == "in use", timeout=RUN_MS)
    box.choose("other one")
    click(qtbot, box.buttons["use"])
    qtbot.waitUntil(lambda: state("other one") == "in use", timeout=RUN_MS)
    assert not box.buttons["delete"].isEnabled()
    click(qtbot, box.buttons["roll_back"])
    qtbot.waitUntil(lambda: state("first") == "in use", timeout=RUN_MS)
    assert "“first” is in use again" in texts(panel)
    box.choose("other one")
    answer_with("Yes")
    click(qtbot, box.buttons["delete"])
    qtbot.waitUntil(lambda: box.names == ["first"], timeout=RUN_MS)
    assert not (homes / "models" / "adapters" / "other one").exists()


def test_the_panel_imports_no_torch() -> None:
    code = (
        "import sys, napari_dinomask.widgets.teach\n"
        "heavy = {'torch', 'torchvision', 'timm', 'peft'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
