"""The Objects tab in a real window: a map of cells, linked with the image, and corrections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QFileDialog

from dinomask.config import SegmentConfig
from dinomask.explain.tokens import choose_layers
from napari_dinomask.layers import CHOSEN_SUFFIX, COLOURS_SUFFIX
from napari_dinomask.network import network
from napari_dinomask.widgets.review_session import session_on
from tests.napari_dinomask.conftest import RUN_MS
from tests.napari_dinomask.test_scatter import Pointer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from napari import Viewer
    from napari.layers import Labels
    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QPushButton

    from napari_dinomask.widgets.explain import ExplainPanel
    from napari_dinomask.widgets.objects_tab import ObjectsTab

    Array = npt.NDArray[Any]
    Point = tuple[float, float]

LEFT, NO_KEY = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
SHIFT, CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


@pytest.fixture(autouse=True)
def reviews_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where journals of images without a file go."""
    monkeypatch.setenv("DINOMASK_REVIEWS", str(tmp_path / "reviews"))


@pytest.fixture
def panel(viewer: Viewer) -> Iterator[ExplainPanel]:
    _, panel = viewer.window.add_plugin_dock_widget("napari-dinomask", "Explain")
    panel.tabs.setCurrentIndex(2)
    yield panel
    panel._leave()


@pytest.fixture
def tab(panel: ExplainPanel) -> ObjectsTab:
    tab = panel.pages[2]
    tab.form.method.setCurrentIndex(tab.form.method.findData("pca"))
    return tab


class User:
    """A user at the mouse, who maps cells, and clicks on points and cells."""

    def __init__(self, viewer: Viewer, tab: ObjectsTab, qtbot: QtBot, labels: Labels) -> None:
        self.viewer, self.tab, self.qtbot, self.labels = viewer, tab, qtbot, labels
        self.canvas = viewer.window._qt_viewer.canvas.native
        self.pointer = Pointer(tab.points.plot, qtbot)

    def press(self, button: QPushButton) -> None:
        assert button.isEnabled(), button.text()
        self.qtbot.mouseClick(button, LEFT)
        self.wait()

    def map(self) -> None:
        self.press(self.tab.form.start)
        # so that the plot is in sight
        self.qtbot.wait(50)

    def wait(self) -> None:
        self.qtbot.wait(20)
        self.qtbot.waitUntil(lambda: not self.tab.is_busy, timeout=RUN_MS)

    def click_cell(self, label: int, modifier: Qt.KeyboardModifier = NO_KEY) -> None:
        """Click in the middle of a cell of the image."""
        rows, columns = np.nonzero(self.labels.data == label)
        nearest = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
        self.click((rows[nearest], columns[nearest]), modifier)

    def click(self, point: Point, modifier: Qt.KeyboardModifier = NO_KEY) -> None:
        camera = self.viewer.scene.camera
        world = np.array(self.labels.data_to_world(point))
        shift = (world - np.array(camera.center)[-2:]) * camera.zoom
        y, x = shift + np.array(self.viewer.canvas.size) / 2
        at = QPoint(round(x), round(y))
        # two quick clicks would be a double click
        self.qtbot.wait(QApplication.doubleClickInterval() + 50)
        for to in (at + QPoint(1, 0), at):
            self.qtbot.mouseMove(self.canvas, to)
            self.qtbot.wait(15)
        self.qtbot.mouseClick(self.canvas, LEFT, modifier, at)
        self.wait()

    def lasso(self, keys: list[int], modifier: Qt.KeyboardModifier = NO_KEY) -> None:
        """Draw around the points of some cells that lie together, and no others."""
        points = self.points_of(keys)
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        size = np.array(self.tab.points.plot.view.viewPixelSize())
        (x0, y0), (x1, y1) = np.array((x0, y0)) - 2 * size, np.array((x1, y1)) + 2 * size
        self.pointer.drag([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], modifier)

    def points_of(self, keys: list[int]) -> Array:
        cloud = self.tab.points.plot.cloud
        return cloud.points_xy[np.isin(cloud.keys, keys)]

    def leftmost(self, n: int) -> list[int]:
        cloud = self.tab.points.plot.cloud
        return sorted(cloud.keys[np.argsort(cloud.points_xy[:, 0])[:n]].tolist())

    @property
    def outlined(self) -> set[int]:
        """Labels that the layer of chosen cells shows."""
        name = self.labels.name + CHOSEN_SUFFIX
        if name not in self.viewer.layers:
            return set()
        shown = np.asarray(self.viewer.layers[name].data[0]) > 0
        return set(np.unique(self.labels.data[shown]).tolist())


@pytest.fixture
def user(
    viewer: Viewer, tab: ObjectsTab, qtbot: QtBot, nuclei_yx: Array, true_labels_yx: Array
) -> User:
    viewer.add_image(nuclei_yx, name="nuclei", scale=(0.5, 0.5))
    ids = np.unique(true_labels_yx)
    labels = viewer.add_labels(
        true_labels_yx.astype(np.int32),
        name="cells",
        scale=(0.5, 0.5),
        features={"index": ids, "score": np.linspace(0.4, 1, len(ids))},
        metadata={"dinomask": {"diameter_px": 26.0, "settings": {"model": "tiny"}}},
    )
    viewer.reset_view()
    qtbot.wait(50)
    # once for all tests, and out of the time they wait
    network.load(SegmentConfig())
    return User(viewer, tab, qtbot, labels)


def ids_of(user: User) -> list[int]:
    return np.unique(user.labels.data)[1:].tolist()


def test_cells_are_mapped_with_what_the_layer_knows_of_them(user: User) -> None:
    user.map()
    plot = user.tab.points.plot
    assert plot.cloud.keys.tolist() == ids_of(user), user.tab.note.text()
    assert np.ptp(plot.cloud.points_xy, axis=0).min() > 0
    assert user.tab.points.column == "score"
    assert plot.colouring.limits is not None
    assert f"{len(ids_of(user))}\u00a0cells on the map" in user.tab.note.text()
    usual = choose_layers(network.load(SegmentConfig()).model.backbone, ())
    assert tuple(user.tab.objects.features.layers) == usual


def test_a_lasso_outlines_cells_and_deletes_them_until_undo(user: User) -> None:
    user.map()
    before = user.labels.data.copy()
    wanted = user.leftmost(4)
    user.lasso(wanted)
    chosen = user.tab.selection.keys.tolist()
    assert set(wanted) <= set(chosen)
    assert user.outlined == set(chosen)
    user.press(user.tab.chosen.remove_button)
    assert not np.isin(user.labels.data, chosen).any()
    assert set(ids_of(user)) == set(user.tab.points.plot.cloud.keys.tolist())
    assert not len(user.tab.selection)
    assert f"Deleted {len(chosen)}" in user.tab.note.text()
    # what others hold is left alone
    others = ~np.isin(before, chosen)
    assert np.array_equal(user.labels.data[others], before[others])
    user.press(user.tab.chosen.undo_button)
    assert np.array_equal(user.labels.data, before)
    assert set(chosen) <= set(user.tab.points.plot.cloud.keys.tolist())
    user.press(user.tab.chosen.redo_button)
    assert not np.isin(user.labels.data, chosen).any()


def test_a_click_on_a_cell_marks_its_point(user: User) -> None:
    user.map()
    first, second = ids_of(user)[4], ids_of(user)[9]
    user.click_cell(first)
    assert user.tab.selection.keys.tolist() == [first]
    rings = user.tab.points.plot._rings.getData()
    assert np.allclose(np.column_stack(rings), user.points_of([first]))
    user.click_cell(second, SHIFT)
    assert user.tab.selection.keys.tolist() == [first, second]
    user.click_cell(first, CONTROL)
    assert user.tab.selection.keys.tolist() == [second]
    background = np.argwhere(user.labels.data == 0)[5000]
    user.click((background[0], background[1]))
    assert not len(user.tab.selection)


def test_a_click_on_a_point_goes_to_the_cell(user: User) -> None:
    user.map()
    (key,) = user.leftmost(1)
    zoom = user.viewer.scene.camera.zoom
    user.pointer.click(user.points_of([key])[0])
    assert user.tab.selection.keys.tolist() == [key]
    assert user.viewer.scene.camera.zoom > zoom
    rows, columns = np.nonzero(user.labels.data == key)
    middle = [(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2]
    world = np.array(user.labels.data_to_world(middle))
    assert np.allclose(np.array(user.viewer.scene.camera.center)[-2:], world, atol=1)


def test_cells_like_one_are_listed_and_a_click_in_the_list_goes_there(user: User) -> None:
    user.map()
    key = ids_of(user)[3]
    user.click_cell(key)
    user.press(user.tab.chosen.alike_button)
    tree = user.tab.ranking.tree
    assert tree.topLevelItemCount() == len(ids_of(user))
    first, second = tree.topLevelItem(0), tree.topLevelItem(1)
    assert int(first.text(0)) == key
    assert float(first.text(1)) == pytest.approx(1, abs=0.01)
    assert user.tab.points.column == "likeness"
    user.qtbot.waitUntil(lambda: tree.visualItemRect(second).bottom() < tree.viewport().height())
    user.qtbot.mouseClick(tree.viewport(), LEFT, pos=tree.visualItemRect(second).center())
    assert user.tab.selection.keys.tolist() == [int(second.text(0))]
    user.tab.ranking.count.setValue(5)
    user.press(user.tab.ranking.choose_first)
    assert len(user.tab.selection) == 5


def test_classes_are_set_in_one_step_and_colour_the_image(user: User, qtbot: QtBot) -> None:
    user.map()
    user.lasso(user.leftmost(3))
    chosen = user.tab.selection.keys.tolist()
    user.tab.chosen.classes.setCurrentIndex(2)
    user.press(user.tab.chosen.classify_button)
    session = session_on(user.labels)
    assert session is not None
    assert session.review is not None
    assert session.review.given_classes() == dict.fromkeys(chosen, 2)
    assert len(session.review.journal.corrections()) == 1
    user.tab.points.show_columns("class")
    names = {c.name: c.count for c in user.tab.points.colouring.categories}
    assert names == {"2": len(chosen), "none": len(ids_of(user)) - len(chosen)}
    user.qtbot.mouseClick(user.tab.points.in_image, LEFT, pos=QPoint(8, 8))
    colours = user.viewer.layers[user.labels.name + COLOURS_SUFFIX]
    assert len(np.unique(colours.data[0])) == 3
    assert not user.labels.visible
    user.qtbot.mouseClick(user.tab.points.in_image, LEFT, pos=QPoint(8, 8))
    assert user.labels.visible
    user.press(user.tab.chosen.undo_button)
    assert session.review.given_classes() == {}


def test_a_probe_learns_the_classes_given_and_classifies_the_others(user: User) -> None:
    user.map()
    cloud = user.tab.points.plot.cloud
    by_x = cloud.keys[np.argsort(cloud.points_xy[:, 0])]
    user.press(user.tab.probe.start)
    assert "at least two classes" in user.tab.note.text()
    assert not user.tab.probe.all.isEnabled()
    for class_id, keys in enumerate((by_x[:6], by_x[-6:]), start=1):
        user.tab.selection.choose(keys)
        user.tab.chosen.classes.setCurrentIndex(class_id)
        user.press(user.tab.chosen.classify_button)
    user.press(user.tab.probe.start)
    assert "balanced accuracy" in user.tab.probe.note.text(), user.tab.note.text()
    assert "<table>" in user.tab.probe.note.text()
    user.press(user.tab.probe.all)
    session = session_on(user.labels)
    assert session is not None
    assert session.review is not None
    classes = session.review.given_classes()
    assert set(classes) == set(ids_of(user))
    assert set(classes.values()) == {1, 2}
    assert all(classes[int(key)] == 1 for key in by_x[:6])
    user.press(user.tab.chosen.undo_button)
    assert len(session.review.given_classes()) == 12


def test_groups_become_a_column(user: User) -> None:
    user.map()
    user.tab.groups.n_clusters.setValue(3)
    user.press(user.tab.groups.start)
    assert user.tab.points.column == "cluster"
    categories = user.tab.points.colouring.categories
    assert [c.name for c in categories] == ["0", "1", "2"], user.tab.note.text()
    user.tab.points._on_legend(str(categories[0].code))
    assert len(user.tab.selection) == categories[0].count


@pytest.mark.parametrize("ending", [".csv", ".h5ad", ".svg"])
def test_cells_are_saved_as_tables_features_and_pictures(
    user: User, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.map()
    out = tmp_path / f"cells{ending}"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(out), ""))
    user.press(user.tab.save)
    assert out.stat().st_size > 1000, user.tab.note.text()
    if ending == ".csv":
        table = pd.read_csv(out)
        assert table["id"].tolist() == ids_of(user)
        assert {"score", "pca_1", "pca_2"} <= set(table.columns)


def test_the_review_panel_goes_on_with_the_same_journal(
    user: User, viewer: Viewer, qtbot: QtBot
) -> None:
    user.map()
    user.click_cell(ids_of(user)[2])
    user.press(user.tab.chosen.accept_button)
    _, review = viewer.window.add_plugin_dock_widget("napari-dinomask", "Review & correct")
    qtbot.mouseClick(review.begin, LEFT)
    qtbot.waitUntil(lambda: bool(review.reviewer and review.reviewer.review), timeout=RUN_MS)
    journal = review.reviewer.review.journal
    assert [c.kind for c in journal.corrections()] == ["accept"]
    # and the other way round: what is deleted here is undone there
    user.tab.selection.choose(ids_of(user)[:3])
    before = user.labels.data.copy()
    user.press(user.tab.chosen.remove_button)
    assert [c.kind for c in journal.corrections()] == ["accept", "remove"]
    qtbot.mouseClick(review.undo, LEFT)
    assert np.array_equal(user.labels.data, before)
    assert len(user.tab.points.plot.cloud) == len(ids_of(user))
    reviewer = review.reviewer
    review.finish()
    reviewer.background.wait()


def test_an_earlier_review_of_other_labels_is_asked_about(
    user: User, panel: ExplainPanel, true_labels_yx: Array
) -> None:
    user.map()
    user.tab.selection.choose(ids_of(user)[:2])
    user.press(user.tab.chosen.remove_button)
    # the panel is left, and the labels are others when it comes back
    user.tab.show_target(user.tab.target)
    user.labels.data = np.where(true_labels_yx > 0, true_labels_yx + 100, 0).astype(np.int32)
    user.map()
    user.tab.selection.choose(ids_of(user)[:3])
    user.qtbot.mouseClick(user.tab.chosen.remove_button, LEFT)
    user.qtbot.waitUntil(user.tab.choices.isVisible, timeout=RUN_MS)
    assert "earlier review" in user.tab.note.text()
    user.press(user.tab.anew)
    assert "Deleted 3" in user.tab.note.text()
    assert not user.tab.choices.isVisible()


def test_without_labels_the_tab_says_what_is_missing(
    viewer: Viewer, tab: ObjectsTab, nuclei_yx: Array
) -> None:
    viewer.add_image(nuclei_yx, name="nuclei")
    assert "Choose the labels" in tab.note.text()
    assert not tab.form.start.isEnabled()
    assert not tab.body.isVisible()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_cells_or_none_are_no_reason_to_fail(user: User, n: int) -> None:
    kept = ids_of(user)[:n]
    user.labels.data = np.where(np.isin(user.labels.data, kept), user.labels.data, 0)
    user.map()
    if n:
        assert len(user.tab.points.plot.cloud) == n
        user.tab.groups.n_clusters.setValue(4)
        user.press(user.tab.groups.start)
        assert "at least 4 objects" in user.tab.note.text()
    else:
        assert "at least one cell" in user.tab.note.text()
        assert not user.tab.body.isVisible()


def test_cancel_frees_the_tab_at_once(user: User, qtbot: QtBot) -> None:
    qtbot.mouseClick(user.tab.form.start, LEFT)
    assert user.tab.is_busy
    assert not user.tab.form.start.isEnabled()
    errand = user.tab.errands.errand
    qtbot.mouseClick(user.tab.errands.stop, LEFT)
    assert not user.tab.is_busy
    assert "Cancelled" in user.tab.note.text()
    assert errand is not None
    errand.wait()
    assert user.tab.objects is None


def test_other_labels_and_leaving_take_the_layers_away(user: User, panel: ExplainPanel) -> None:
    user.map()
    user.click_cell(ids_of(user)[2])
    assert len(user.viewer.layers) == 3
    user.viewer.layers.remove(user.labels)
    assert [layer.name for layer in user.viewer.layers] == ["nuclei"]
    assert user.tab.objects is None
    assert not len(user.tab.selection)
