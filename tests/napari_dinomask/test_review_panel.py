"""The Review & correct panel in a real window, driven with mouse and keys."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication
from skimage.measure import regionprops

from napari_dinomask.layers import REGION_SUFFIX, visible_window
from napari_dinomask.open_reviews import open_reviews
from napari_dinomask.review_files import known_classes
from tests.napari_dinomask.conftest import RUN_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from napari import Viewer
    from napari.layers import Labels
    from pytestqt.qtbot import QtBot

    from napari_dinomask.corrections import Review
    from napari_dinomask.widgets.review import ReviewPanel

    Array = npt.NDArray[Any]
    Point = tuple[float, float]

LEFT, NO_KEY = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
SHIFT, CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


@pytest.fixture(autouse=True)
def reviews_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where journals of images without a file go."""
    monkeypatch.setenv("DINOMASK_REVIEWS", str(tmp_path / "reviews"))
    return tmp_path / "reviews"


@pytest.fixture
def panel(viewer: Viewer) -> ReviewPanel:
    _, panel = viewer.window.add_plugin_dock_widget("napari-dinomask", "Review & correct")
    return panel


class User:
    """A user at the mouse and the keyboard, who knows where in the image to click."""

    def __init__(self, viewer: Viewer, panel: ReviewPanel, qtbot: QtBot, labels: Labels) -> None:
        self.viewer, self.panel, self.qtbot, self.labels = viewer, panel, qtbot, labels
        self.canvas = viewer.window._qt_viewer.canvas.native

    @property
    def review(self) -> Review:
        assert self.panel.reviewer is not None
        review = self.panel.reviewer.review
        assert review is not None
        return review

    @property
    def yx(self) -> Array:
        """The labels on display."""
        data: Array = self.labels.data
        return data.reshape(data.shape[-2:])

    def begin(self) -> None:
        self.qtbot.mouseClick(self.panel.begin, LEFT)
        self.qtbot.waitUntil(self._has_answered, timeout=RUN_MS)

    def _has_answered(self) -> bool:
        reviewer = self.panel.reviewer
        return reviewer is None or reviewer.review is not None

    def wait(self) -> None:
        """Wait for the model."""
        reviewer = self.panel.reviewer
        assert reviewer is not None
        self.qtbot.waitUntil(lambda: not reviewer.background.is_busy, timeout=RUN_MS)

    def place(self, point: Point) -> QPoint:
        """Return where a place of the image is on the canvas."""
        camera = self.viewer.scene.camera
        world = np.array(self.labels.data_to_world(np.zeros(self.labels.ndim)))[-2:]
        world = world + (np.array(point) - 0.5) * np.array(self.labels.scale)[-2:]
        shift = (world - np.array(camera.center)[-2:]) * camera.zoom
        y, x = shift + np.array(self.viewer.canvas.size) / 2
        return QPoint(round(x), round(y))

    def move(self, point: Point) -> None:
        def has_arrived() -> bool:
            # a move that comes too soon after another is dropped
            self.qtbot.mouseMove(self.canvas, self.place(point) + QPoint(1, 0))
            self.qtbot.wait(15)
            self.qtbot.mouseMove(self.canvas, self.place(point))
            self.qtbot.wait(15)
            there = self.labels.world_to_data(self.viewer.cursor.position)[-2:]
            return bool(np.abs(np.array(there) + 0.5 - point).max() < 1)

        self.qtbot.waitUntil(has_arrived, timeout=RUN_MS)

    def click(self, point: Point, modifier: Qt.KeyboardModifier = NO_KEY) -> None:
        self.move(point)
        self.qtbot.mouseClick(self.canvas, LEFT, modifier, self.place(point))
        self.qtbot.wait(10)
        self.wait()

    def drag(self, points: Sequence[Point]) -> None:
        self.move(points[0])
        self.qtbot.mousePress(self.canvas, LEFT, pos=self.place(points[0]))
        for start, end in itertools.pairwise(points):
            for share in np.linspace(0.2, 1, 5):
                between = np.array(start) + share * (np.array(end) - start)
                self.qtbot.mouseMove(self.canvas, self.place((between[0], between[1])))
                self.qtbot.wait(15)
        self.qtbot.mouseRelease(self.canvas, LEFT, pos=self.place(points[-1]))
        self.qtbot.wait(10)
        self.wait()

    def press(self, key: Any, modifier: Qt.KeyboardModifier = NO_KEY) -> None:
        self.qtbot.keyClick(self.canvas, key, modifier)
        self.wait()

    def scroll(self, point: Point) -> None:
        self.move(point)
        at = QPointF(self.place(point))
        event = QWheelEvent(
            at,
            QPointF(self.canvas.mapToGlobal(at.toPoint())),
            QPoint(0, 0),
            QPoint(0, 120),
            Qt.MouseButton.NoButton,
            NO_KEY,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(self.canvas, event)
        self.qtbot.wait(10)
        self.wait()

    def kinds(self) -> list[str]:
        return [correction.kind for correction in self.review.journal.corrections()]


@pytest.fixture
def nuclei(true_labels_yx: Array) -> list[Any]:
    """Whole nuclei, far from the image's edge."""
    side = true_labels_yx.shape[0]
    return [
        region
        for region in regionprops(true_labels_yx)
        if min(region.bbox[:2]) > 20 and max(region.bbox[2:]) < side - 20 and region.area > 200
    ]


@pytest.fixture
def user(
    viewer: Viewer, panel: ReviewPanel, qtbot: QtBot, nuclei_yx: Array, true_labels_yx: Array
) -> Iterator[User]:
    viewer.add_image(nuclei_yx, name="nuclei", scale=(0.5, 0.5), units=("µm", "µm"))
    labels = viewer.add_labels(
        true_labels_yx.astype(np.int32), scale=(0.5, 0.5), units=("µm", "µm")
    )
    qtbot.wait(200)
    user = User(viewer, panel, qtbot, labels)
    yield user
    reviewer = panel.reviewer
    panel.finish()
    if reviewer is not None:
        reviewer.background.wait()


def _centre(region: Any) -> Point:
    return region.centroid[0] + 0.5, region.centroid[1] + 0.5


def _forget(user: User, region: Any) -> Array:
    """Take a nucleus out of the labels before the review; return its true pixels."""
    truth = user.yx == region.label
    user.yx[truth] = 0
    user.labels.refresh()
    return truth


def _iou(a: Array, b: Array) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_click_adds_a_missed_cell_and_scrolling_changes_its_size(
    user: User, nuclei: list[Any]
) -> None:
    region = nuclei[3]
    truth = _forget(user, region)
    before = user.yx.copy()
    user.begin()
    user.click(_centre(region))
    (correction,) = user.review.journal.corrections()
    (piece,) = correction.after
    assert correction.kind == "add"
    assert piece.label == before.max() + 1
    added = user.yx == piece.label
    assert _iou(added, truth) > 0.6
    np.testing.assert_array_equal(np.where(added, 0, user.yx), np.where(added, 0, before))
    assert not (before[added] > 0).any()
    zoom = user.viewer.scene.camera.zoom
    user.scroll(_centre(region))
    assert user.kinds() == ["add", "redraw"]
    assert user.viewer.scene.camera.zoom == zoom
    ratio = (user.yx == piece.label).sum() / added.sum()
    assert ratio > 1.25 or ratio < 0.8
    user.press(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(user.yx == piece.label, added)
    user.press(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(user.yx, before)
    user.press(Qt.Key.Key_Z, CONTROL | SHIFT)
    np.testing.assert_array_equal(user.yx == piece.label, added)
    assert "1\u00a0added" in user.panel.counts.text()


def test_a_box_adds_the_cell_in_it(user: User, nuclei: list[Any]) -> None:
    region = nuclei[3]
    truth = _forget(user, region)
    user.begin()
    y0, x0, y1, x1 = region.bbox
    user.drag([(y0 - 0.5, x0 - 0.5), (y1 + 0.5, x1 + 0.5)])
    assert user.kinds() == ["add"]
    assert _iou(user.yx == user.yx.max(), truth) > 0.6


def test_shift_click_and_x_delete_and_a_click_on_a_cell_does_not(
    user: User, nuclei: list[Any]
) -> None:
    first, second, third = nuclei[:3]
    user.begin()
    user.click(_centre(first), SHIFT)
    user.move(_centre(second))
    user.press(Qt.Key.Key_X)
    user.click(_centre(third))
    assert user.kinds() == ["remove", "remove"]
    left = set(np.unique(user.yx).tolist())
    assert not {first.label, second.label} & left
    assert third.label in left
    assert f"({third.label})" in user.panel.note.text()


def test_a_line_splits_a_cell_and_two_clicks_merge_its_parts(user: User, nuclei: list[Any]) -> None:
    region = nuclei[5]
    before = user.yx.copy()
    user.begin()
    user.press(Qt.Key.Key_S)
    y, x = _centre(region)
    y0, x0, y1, x1 = region.bbox
    user.drag([(y0 - 3, x), (y1 + 3, x)])
    assert user.kinds() == ["split"]
    parts = np.unique(user.yx[before == region.label])
    assert region.label in parts
    assert len(parts) == 2
    smallest = min((user.yx == part).sum() for part in parts)
    assert smallest > 0.3 * region.area
    user.press(Qt.Key.Key_G)
    user.click((y, (x0 + x) / 2))
    user.click((y, (x1 + x) / 2))
    assert user.kinds() == ["split", "merge"]
    merged = np.unique(user.yx[before == region.label])
    assert len(merged) == 1
    assert _iou(user.yx == merged[0], before == region.label) > 0.95


def test_what_napari_paints_is_a_redraw_and_undone_by_the_journal(
    user: User, nuclei: list[Any]
) -> None:
    region = nuclei[4]
    before = user.yx.copy()
    user.begin()
    user.move(_centre(region))
    user.press(Qt.Key.Key_D)
    assert user.labels.mode == "paint"
    assert user.labels.selected_label == region.label
    user.labels.brush_size = 6
    y0, _, _, x1 = region.bbox
    user.drag([_centre(region), (y0 - 2, x1 + 2)])
    assert (user.yx != before).any()
    (correction,) = user.review.journal.corrections()
    assert region.label in correction.labels
    assert correction.kind == "redraw"
    user.press(Qt.Key.Key_A)
    assert user.labels.mode == "pan_zoom"
    user.press(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(user.yx, before)
    assert user.kinds() == []


def test_a_stroke_that_can_not_be_recorded_is_taken_back(
    user: User, nuclei: list[Any], reviews_folder: Path
) -> None:
    region = nuclei[4]
    before = user.yx.copy()
    user.begin()
    user.move(_centre(region))
    user.press(Qt.Key.Key_D)
    path = user.review.journal.path
    path.parent.rename(path.parent.with_name("gone"))
    user.drag([_centre(region), (region.bbox[0] - 2, region.bbox[3] + 2)])
    np.testing.assert_array_equal(user.yx, before)
    assert user.panel.note.objectName() == "error"


def test_keys_accept_and_classify_the_cell_under_the_mouse(user: User, nuclei: list[Any]) -> None:
    before = user.yx.copy()
    user.begin()
    user.panel.names.setText("resting, <dividing>")
    user.move(_centre(nuclei[0]))
    user.press(Qt.Key.Key_C)
    user.move(_centre(nuclei[1]))
    user.press(Qt.Key.Key_1)
    assert user.kinds() == ["accept", "classify"]
    assert user.review.store.class_of(nuclei[1].label) == 1
    assert user.review.journal.classes()[nuclei[1].label] == 1
    assert "&lt;dividing&gt;" in user.panel.keys.text()
    np.testing.assert_array_equal(user.yx, before)


def test_names_of_classes_are_on_disk_before_the_review_ends(user: User, nuclei: list[Any]) -> None:
    user.begin()
    path = user.review.journal.path
    user.qtbot.keyClicks(user.panel.names, "resting")
    user.qtbot.keyClick(user.panel.names, Qt.Key.Key_Return)
    user.qtbot.waitUntil(lambda: known_classes(path) == ("resting",))
    user.qtbot.keyClicks(user.panel.names, ", dividing")
    user.move(_centre(nuclei[1]))
    user.press(Qt.Key.Key_1)
    user.qtbot.waitUntil(lambda: known_classes(path) == ("resting", "dividing"))


def test_regions_are_drawn_vouched_for_and_undone(user: User) -> None:
    user.begin()
    user.press(Qt.Key.Key_R)
    user.drag([(40, 50), (120, 200)])
    (box,) = user.review.journal.reviewed()
    np.testing.assert_allclose(box.polygon_yx_px.min(axis=0), (40, 50), atol=1.5)
    np.testing.assert_allclose(box.polygon_yx_px.max(axis=0), (120, 200), atol=1.5)
    user.press(Qt.Key.Key_L)
    user.drag([(150, 60), (150, 140), (220, 140), (220, 60)])
    ring = user.review.journal.reviewed()[1]
    mask = ring.mask((0, 0, 256, 256))
    assert mask[185, 100]
    assert 0.7 < mask.sum() / (70 * 80) < 1.2
    user.press(Qt.Key.Key_V)
    view = user.review.journal.reviewed()[2]
    seen = visible_window(user.viewer, user.labels, (0, 1))
    assert view.box_yxyx_px == seen
    (shown,) = (v for v in user.viewer.layers if v.name.endswith(REGION_SUFFIX))
    # a rectangle, the lasso and the view
    assert len(shown.data) > 4 + 10 + 4
    for _ in range(3):
        user.press(Qt.Key.Key_Z, CONTROL)
    assert not user.review.journal.reviewed()
    assert not len(shown.data)


def test_an_unsaved_review_goes_on_in_the_next_session(user: User, nuclei: list[Any]) -> None:
    first = user.yx.copy()
    user.begin()
    user.click(_centre(nuclei[0]), SHIFT)
    user.click(_centre(nuclei[1]), SHIFT)
    left = user.yx.copy()
    user.panel.finish()
    assert not open_reviews()
    # napari crashed, and the same labels were made again
    user.yx[...] = first
    user.labels.refresh()
    user.begin()
    np.testing.assert_array_equal(user.yx, left)
    user.press(Qt.Key.Key_Z, CONTROL)
    assert (user.yx == nuclei[1].label).any()
    assert user.kinds() == ["remove"]


def test_other_labels_of_the_same_image_are_asked_about(user: User, nuclei: list[Any]) -> None:
    user.begin()
    user.click(_centre(nuclei[0]), SHIFT)
    left = user.yx.copy()
    user.panel.finish()
    other = np.where(user.yx > 0, 7, 0).astype(user.yx.dtype)
    user.yx[...] = other
    user.labels.refresh()
    user.begin()
    assert user.panel.reviewer is None
    assert "1 correction," in user.panel.note.text()
    np.testing.assert_array_equal(user.yx, other)
    user.qtbot.mouseClick(user.panel.go_on, LEFT)
    user.qtbot.waitUntil(user._has_answered, timeout=RUN_MS)
    np.testing.assert_array_equal(user.yx, left)
    user.panel.finish()
    user.yx[...] = other
    user.labels.refresh()
    user.begin()
    user.qtbot.mouseClick(user.panel.anew, LEFT)
    user.qtbot.waitUntil(user._has_answered, timeout=RUN_MS)
    np.testing.assert_array_equal(user.yx, other)
    assert user.kinds() == []


def test_ending_gives_the_layer_back_as_it_was(user: User, reviews_folder: Path) -> None:
    keys, layers = dict(user.labels.keymap), list(user.viewer.layers)
    user.begin()
    assert open_reviews()[0].title == user.labels.name
    user.panel.finish()
    assert user.labels.keymap == keys
    assert list(user.viewer.layers) == layers
    assert not user.labels.mouse_wheel_callbacks
    assert user.viewer.mouse_double_click_callbacks
    assert not list(reviews_folder.iterdir())


def test_planes_of_a_stack_share_a_journal(
    viewer: Viewer,
    panel: ReviewPanel,
    qtbot: QtBot,
    nuclei_yx: Array,
    true_labels_yx: Array,
    nuclei: list[Any],
) -> None:
    viewer.add_image(np.stack([nuclei_yx, nuclei_yx[::-1]]), name="stack")
    planes = np.stack([true_labels_yx, true_labels_yx[::-1]]).astype(np.int32)
    labels = viewer.add_labels(planes)
    viewer.dims.set_current_step(0, 0)
    qtbot.wait(200)
    user = User(viewer, panel, qtbot, labels)
    user.begin()
    user.click(_centre(nuclei[0]), SHIFT)
    viewer.dims.set_current_step(0, 1)
    y, x = _centre(nuclei[1])
    user.click((nuclei_yx.shape[0] - y, x), SHIFT)
    first, second = user.review.journal.corrections()
    assert (first.plane, second.plane) == ((0,), (1,))
    assert not (labels.data[0] == nuclei[0].label).any()
    assert (labels.data[1] == nuclei[0].label).any()
    assert not (labels.data[1] == nuclei[1].label).any()
    viewer.dims.set_current_step(0, 0)
    for _ in range(2):
        user.press(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(
        labels.data, np.stack([true_labels_yx, true_labels_yx[::-1]]).astype(np.int32)
    )
    reviewer = panel.reviewer
    panel.finish()
    assert reviewer is not None
    reviewer.background.wait()
