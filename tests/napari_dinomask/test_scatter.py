"""The plot of points in a real window: lasso, clicks, zoom."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_dinomask.colouring import colour_by
from napari_dinomask.selection import Cloud, Selection
from napari_dinomask.widgets.scatter import ScatterPlot

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from pytestqt.qtbot import QtBot

    Array = npt.NDArray[Any]

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
NO_KEY = Qt.KeyboardModifier.NoModifier
SHIFT, CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


class Pointer:
    """A mouse on a plot, in its data coordinates."""

    def __init__(self, plot: ScatterPlot, qtbot: QtBot) -> None:
        self.plot, self.qtbot = plot, qtbot

    def place(self, point_xy: Sequence[float]) -> QPoint:
        scene = self.plot.view.mapViewToScene(pg_point(point_xy))
        return self.plot.mapFromScene(scene)

    def click(self, point_xy: Sequence[float], modifier: Qt.KeyboardModifier = NO_KEY) -> None:
        # two quick clicks would be a double click
        self.qtbot.wait(QApplication.doubleClickInterval() + 50)
        self.qtbot.mouseClick(self.plot.viewport(), LEFT, modifier, self.place(point_xy))

    def drag(
        self,
        corners_xy: Sequence[Sequence[float]],
        modifier: Qt.KeyboardModifier = NO_KEY,
        button: Qt.MouseButton = LEFT,
    ) -> None:
        viewport = self.plot.viewport()
        places = [self.place(corner) for corner in corners_xy]
        self.qtbot.mousePress(viewport, button, modifier, places[0])
        for start, end in itertools.pairwise(places):
            for share in np.linspace(0.2, 1, 5):
                at = start + (end - start) * share
                move(viewport, at, button, modifier)
                # moves that come sooner are dropped
                self.qtbot.wait(12)
        self.qtbot.mouseRelease(viewport, button, modifier, places[-1])
        self.qtbot.wait(10)


def pg_point(point_xy: Sequence[float]) -> QPointF:
    return QPointF(float(point_xy[0]), float(point_xy[1]))


def move(viewport: Any, at: QPoint, button: Qt.MouseButton, modifier: Qt.KeyboardModifier) -> None:
    """Move the mouse with a button and keys held, which `qtbot.mouseMove` can't."""
    from qtpy.QtCore import QEvent
    from qtpy.QtGui import QMouseEvent

    event = QMouseEvent(
        QEvent.Type.MouseMove,
        QPointF(at),
        QPointF(viewport.mapToGlobal(at)),
        Qt.MouseButton.NoButton,
        button,
        modifier,
    )
    QApplication.sendEvent(viewport, event)


@pytest.fixture
def plot(qtbot: QtBot) -> ScatterPlot:
    """Nine points on a grid, with keys 10 … 90."""
    plot = ScatterPlot(Selection())
    qtbot.addWidget(plot)
    plot.resize(420, 420)
    x, y = np.meshgrid([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
    cloud = Cloud(np.arange(10, 100, 10), np.column_stack([x.ravel(), y.ravel()]))
    plot.show_points(cloud, colour_by(pd.Series(np.arange(9) % 3, name="class")), ("x", "y"))
    with qtbot.waitExposed(plot):
        plot.show()
    qtbot.wait(50)
    return plot


@pytest.fixture
def pointer(plot: ScatterPlot, qtbot: QtBot) -> Pointer:
    return Pointer(plot, qtbot)


def _box(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def test_a_lasso_chooses_adds_and_removes(plot: ScatterPlot, pointer: Pointer) -> None:
    pointer.drag(_box(-0.12, -0.12, 1.5, 0.5))
    assert plot.selection.keys.tolist() == [10, 20]
    pointer.drag(_box(1.5, -0.12, 2.12, 2.12), SHIFT)
    assert plot.selection.keys.tolist() == [10, 20, 30, 60, 90]
    pointer.drag(_box(0.5, -0.12, 2.12, 0.5), CONTROL)
    assert plot.selection.keys.tolist() == [10, 60, 90]
    pointer.drag(_box(0.5, 0.5, 1.5, 1.5))
    assert plot.selection.keys.tolist() == [50]


def test_the_chosen_points_are_ringed_and_the_others_dimmed(plot: ScatterPlot) -> None:
    assert all(item.opacity() == 1 for item in plot._layers)
    plot.selection.choose([20, 90])
    x, y = plot._rings.getData()
    assert sorted(zip(x.tolist(), y.tolist(), strict=True)) == [(1, 0), (2, 2)]
    assert all(item.opacity() < 1 for item in plot._layers)
    plot.selection.clear()
    assert not len(plot._rings.getData()[0])
    assert all(item.opacity() == 1 for item in plot._layers)


def test_a_click_on_a_point_chooses_it_and_points_to_it(
    plot: ScatterPlot, pointer: Pointer, qtbot: QtBot
) -> None:
    with qtbot.waitSignal(plot.pointed) as pointed:
        pointer.click((1, 2))
    assert pointed.args == [80]
    pointer.click((0, 0), SHIFT)
    assert plot.selection.keys.tolist() == [10, 80]
    pointer.click((1, 2), CONTROL)
    assert plot.selection.keys.tolist() == [10]
    pointer.click((0.5, 0.5))
    assert not len(plot.selection)


def test_the_right_button_moves_the_view_and_the_wheel_zooms(
    plot: ScatterPlot, pointer: Pointer
) -> None:
    (x0, x1), _ = plot.view.viewRange()
    pointer.drag([(1, 1), (1.5, 1)], button=RIGHT)
    moved, _ = plot.view.viewRange()
    assert moved[0] == pytest.approx(x0 - 0.5, abs=0.1)
    assert not len(plot.selection)
    at = QPointF(pointer.place((1, 1)))
    viewport = plot.viewport()
    event = QWheelEvent(
        at,
        QPointF(viewport.mapToGlobal(at.toPoint())),
        QPoint(0, 0),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        NO_KEY,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(viewport, event)
    (a, b), _ = plot.view.viewRange()
    assert b - a < x1 - x0


def test_other_colours_and_other_points_keep_what_is_chosen(plot: ScatterPlot) -> None:
    plot.selection.choose([30, 40])
    plot.show_colours(colour_by(pd.Series(np.linspace(0, 1, 9), name="score")))
    assert len(plot._rings.getData()[0]) == 2
    # another order, and one of them is gone
    keys = np.array([40, 10, 20])
    plot.show_points(Cloud(keys, np.eye(3, 2)), colour_by(pd.Series(list("aab"), name="image")))
    assert plot._rings.getData()[0].tolist() == [1.0]
    assert plot.selection.keys.tolist() == [30, 40]


def test_a_plot_without_points_takes_lassos_and_clicks(plot: ScatterPlot, pointer: Pointer) -> None:
    empty = Cloud(np.empty(0, np.int64), np.empty((0, 2)))
    plot.show_points(empty, colour_by(pd.Series([], name="score", dtype=float)))
    pointer.drag(_box(-0.12, -0.12, 1.5, 0.5))
    pointer.click((0, 0))
    assert not len(plot.selection)
