"""The Compress panel: methods are ticked, a comparison is followed, results are used."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QPoint, Qt

from dinomask.compress.bench import report as report_module
from dinomask.compress.bench.measure import Bench
from dinomask.compress.choose import Study, choose_recipes
from dinomask.compress.job import jobs_folder, list_jobs, read_study
from dinomask.compress.study import run_study
from dinomask.config import BenchConfig, CompressConfig, SegmentConfig, TileConfig
from napari_dinomask.compressing import CompressIntent, grouped_methods, say_study, table_row
from napari_dinomask.widgets.segment import SegmentPanel
from tests.compress.in_process import InProcess
from tests.compress.works import REPORT_VARIABLE
from tests.napari_dinomask.conftest import RUN_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from napari import Viewer
    from pytestqt.qtbot import QtBot

    from napari_dinomask.widgets.compress import CompressPanel

COUNT = "tests.compress.works:count"
REAL = "tests.compress.works:in_one_process"
BENCH = BenchConfig(rounds=1, feature_tiles=1, shaken_tiles=0, bench_images=1)
SEGMENT = SegmentConfig(threads=1, diameter_px=26.0, tiles=TileConfig(tile_px=168, halo_px=42))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sample_nuclei: Path) -> Iterator[dict[str, Any]]:
    """A real comparison of bf16 on a small image, and where its models lie."""
    home = tmp_path_factory.mktemp("compress")
    images = home / "images"
    images.mkdir()
    tifffile.imwrite(images / "nuclei.tif", tifffile.imread(sample_nuclei)[:128, :128])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DINOMASK_MODELS", str(home / "models"))
        patch.setattr(report_module, "Bench", functools.partial(Bench, start=InProcess))
        config = CompressConfig(threads=1)
        study = Study("tiny", choose_recipes(["bf16"]), (images,), None, (), None, False, config)
        study = Study(**{**vars(study), "bench": BENCH, "segment": SEGMENT})
        report = run_study(study, home / "measured")
    path = home / "report.json"
    path.write_text(json.dumps(report, default=str))
    yield {"report": report, "path": path, "models": home / "models"}


@pytest.fixture
def surroundings(
    made: dict[str, Any], tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINOMASK_MODELS", str(made["models"]))
    monkeypatch.setenv("DINOMASK_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("PYTHONPATH", str(repository))
    monkeypatch.setenv(REPORT_VARIABLE, str(made["path"]))


@pytest.fixture
def panel(viewer: Viewer, surroundings: None) -> Iterator[CompressPanel]:
    _, panel = viewer.window.add_plugin_dock_widget("napari-dinomask", "Compress")
    panel.runner.follower.work = COUNT
    yield panel
    panel.runner.leave(stop=True)
    if panel.runner.follower.job is not None:
        panel.runner.follower.job.kill()


def click(qtbot: QtBot, widget: Any) -> None:
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)


def tick(qtbot: QtBot, panel: CompressPanel, name: str) -> None:
    box = panel.form.methods[name].box
    panel.ensureWidgetVisible(box)
    # on its mark: a click beside the text does nothing
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
    assert box.isChecked()


def begin(qtbot: QtBot, viewer: Viewer, panel: CompressPanel, image_yx: npt.NDArray[Any]) -> None:
    viewer.add_image(image_yx, name="nuclei")
    tick(qtbot, panel, "bf16")
    assert panel.run_box.start.isEnabled()
    click(qtbot, panel.run_box.start)
    qtbot.waitUntil(lambda: panel.runner.follower.report is not None, timeout=RUN_MS)


def test_every_method_can_be_ticked_and_says_what_it_is_good_for(panel: CompressPanel) -> None:
    names = [name for group in grouped_methods().values() for name in group]
    assert sorted(names) == sorted(panel.form.methods)
    for method in panel.form.methods.values():
        assert method.note.text()
        assert method.toolTip()


def test_there_is_nothing_to_start_without_method_or_image(
    qtbot: QtBot, viewer: Viewer, panel: CompressPanel, nuclei_yx: npt.NDArray[Any]
) -> None:
    assert not panel.run_box.start.isEnabled()
    tick(qtbot, panel, "bf16")
    assert not panel.run_box.start.isEnabled()
    viewer.add_image(nuclei_yx)
    assert panel.run_box.start.isEnabled()
    viewer.layers.clear()
    assert not panel.run_box.start.isEnabled()
    panel.form.data.setCurrentIndex(1)
    assert panel.form.folder_row.isVisibleTo(panel)
    panel.form.folder.setText("/somewhere")
    assert panel.run_box.start.isEnabled()


def test_what_can_not_be_done_is_grey_and_told_why(panel: CompressPanel) -> None:
    panel.form.methods["merge"].box.setChecked(True)
    panel.runner.reasons_found.emit({"merge": "there is no adapter to merge"})
    merge, other = panel.form.methods["merge"], panel.form.methods["bf16"]
    assert not merge.box.isEnabled()
    assert not merge.box.isChecked()
    assert "there is no adapter" in merge.note.text()
    assert other.box.isEnabled()
    panel.runner.reasons_found.emit({})
    assert merge.box.isEnabled()


def test_a_comparison_is_followed_and_its_results_are_used(
    qtbot: QtBot, viewer: Viewer, panel: CompressPanel, nuclei_yx: npt.NDArray[Any]
) -> None:
    begin(qtbot, viewer, panel, nuclei_yx)
    assert not panel.form.isEnabled()
    qtbot.waitUntil(lambda: "of 40" in panel.run_box.stage.text(), timeout=RUN_MS)
    qtbot.waitUntil(lambda: panel.results.isVisibleTo(panel), timeout=RUN_MS)
    # what the process was given are the layers of the window
    (place,) = read_study(list_jobs()[0]).places
    assert np.array_equal(tifffile.imread(place / "image-0.tif"), nuclei_yx)
    table = panel.results.table
    assert [table.item(i, 0).text() for i in range(table.rowCount())] == ["original", "bf16"]
    assert panel.run_box.messages[0].objectName() == "result"
    names = panel.results.plot.getPlotItem().items
    boxes = [n.textItem.sceneBoundingRect() for n in names if hasattr(n, "textItem")]
    assert len(boxes) == 2 and not boxes[0].intersects(boxes[1])
    index = table.model().index(1, 0)
    table.scrollTo(index)
    qtbot.mouseClick(
        table.viewport(), Qt.MouseButton.LeftButton, pos=table.visualRect(index).center()
    )
    assert panel.results.selected["name"] == "bf16"
    click(qtbot, panel.results.use_button)
    (segment,) = panel.window().findChildren(SegmentPanel)
    assert segment.model_combo.model == "tiny-bf16"


def test_cancel_answers_within_a_second_and_go_on_goes_on(
    qtbot: QtBot, viewer: Viewer, panel: CompressPanel, nuclei_yx: npt.NDArray[Any]
) -> None:
    begin(qtbot, viewer, panel, nuclei_yx)
    qtbot.waitUntil(lambda: "of 40" in panel.run_box.stage.text(), timeout=RUN_MS)
    started = time.monotonic()
    click(qtbot, panel.run_box.cancel)
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=RUN_MS)
    # beside other work on the machine
    assert time.monotonic() - started < 3
    assert "kept" in panel.run_box.messages[0].text()
    (go_on, discard) = panel.run_box.actions
    assert (go_on.text(), discard.text()) == ("Go on", "Discard")
    click(qtbot, go_on)
    qtbot.waitUntil(lambda: panel.results.isVisibleTo(panel), timeout=RUN_MS)


def test_a_window_that_opens_later_finds_the_result(
    qtbot: QtBot, viewer: Viewer, panel: CompressPanel, nuclei_yx: npt.NDArray[Any]
) -> None:
    begin(qtbot, viewer, panel, nuclei_yx)
    viewer.window.remove_dock_widget(panel.parent())
    (folder,) = list_jobs(jobs_folder())
    _, later = viewer.window.add_plugin_dock_widget("napari-dinomask", "Compress")
    qtbot.waitUntil(lambda: later.results.isVisibleTo(later), timeout=RUN_MS)
    assert (folder / "report.json").is_file()
    later.runner.leave()


@pytest.mark.slow
def test_a_real_comparison_from_the_first_click_to_a_disagreement(
    qtbot: QtBot, viewer: Viewer, panel: CompressPanel, nuclei_yx: npt.NDArray[Any]
) -> None:
    panel.runner.ask_for_reasons("tiny", None)
    qtbot.waitUntil(lambda: not panel.form.methods["merge"].box.isEnabled(), timeout=2 * RUN_MS)
    panel.runner.follower.work = REAL
    panel.form.images.setValue(1)
    tick(qtbot, panel, "token-merge")
    begin(qtbot, viewer, panel, nuclei_yx)
    qtbot.waitUntil(lambda: panel.results.isVisibleTo(panel), timeout=10 * RUN_MS)
    names = [row["name"] for row in panel.results._rows]
    assert names == ["original", "token-merge", "bf16"]
    panel.results.second.setCurrentText("token-merge")
    click(qtbot, panel.results.compare_button)
    tree = panel.changes_box.tree
    qtbot.waitUntil(lambda: tree.topLevelItemCount() == 3, timeout=2 * RUN_MS)
    groups = [tree.topLevelItem(i) for i in range(3)]
    item = next(group.child(0) for group in groups if group.childCount())
    item.parent().setExpanded(True)
    tree.scrollToItem(item)
    before = viewer.camera.center
    qtbot.mouseClick(
        tree.viewport(), Qt.MouseButton.LeftButton, pos=tree.visualItemRect(item).center()
    )
    assert viewer.camera.center != before


def test_an_intent_becomes_a_study() -> None:
    intent = CompressIntent(methods=("bf16", "fp16"), way="joined", images=3, threads=2)
    study = intent.resolve([Path("somewhere")])
    assert [recipe.name for recipe in study.recipes] == ["bf16+fp16"]
    assert (study.bench.bench_images, study.config.threads, study.segment.threads) == (3, 2, 2)
    apart = CompressIntent(methods=("bf16", "fp16")).recipes()
    assert [recipe.name for recipe in apart] == ["bf16", "fp16"]


def test_figures_fit_their_columns(made: dict[str, Any]) -> None:
    row = made["report"]["variants"][0]
    assert table_row(row)[:2] == ("original", "1.00")


def test_what_is_done_is_said_with_the_time_left() -> None:
    from dinomask.jobs.job import JobReport
    from dinomask.run.progress import Progress

    told = say_study(JobReport("running"), Progress("svd: svd", 2, 8, 30.0))
    assert told.startswith("Making svd")
    assert "2 of 8" in told
    assert "left" in told
    assert say_study(JobReport("stopping"), None) == "Stopping…"
