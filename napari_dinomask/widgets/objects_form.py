"""What stands in the Objects tab of the Explain panel."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_dinomask.selection import Selection
from napari_dinomask.widgets.chosen_box import ChosenBox
from napari_dinomask.widgets.errand_bar import ErrandBar
from napari_dinomask.widgets.explain_tab import ExplainTab
from napari_dinomask.widgets.groups_box import GroupsBox
from napari_dinomask.widgets.look import PLAIN_BUTTON
from napari_dinomask.widgets.map_form import MapForm
from napari_dinomask.widgets.points_box import PointsBox
from napari_dinomask.widgets.probe_box import ProbeBox
from napari_dinomask.widgets.ranking_box import RankingBox

_MARGINS_PX = (6, 6, 12, 6)
"""Wider at the right, where the scroll bar is."""


class ObjectsForm(ExplainTab):
    """The widgets of the tab, without what they do.

    Attributes
    ----------
    selection : the chosen cells, shared by map and image
    body : what is shown once there is a map
    """

    title = "Objects"

    def __init__(self) -> None:
        super().__init__()
        self.selection = Selection()
        self.form = MapForm()
        self.errands = ErrandBar()
        self.points = PointsBox(self.selection)
        self.chosen = ChosenBox()
        self.ranking = RankingBox()
        self.groups = GroupsBox()
        self.probe = ProbeBox()
        self.save = QPushButton("Save table, features or picture…")
        self.save.setStyleSheet(PLAIN_BUTTON)
        self.go_on = QPushButton("Go on with the earlier labels")
        self.anew = QPushButton("Begin anew")
        self.choices, self.body = QWidget(), QWidget()
        self.column.setContentsMargins(*_MARGINS_PX)
        self._arrange()

    def _parts(self) -> tuple[QWidget, ...]:
        return self.points, self.chosen, self.ranking, self.groups, self.probe, self.save

    def _arrange(self) -> None:
        row = QHBoxLayout(self.choices)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (self.go_on, self.anew):
            button.setStyleSheet(PLAIN_BUTTON)
            row.addWidget(button)
        inner = QVBoxLayout(self.body)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(6)
        for widget in self._parts():
            inner.addWidget(widget)
        for widget in (self.form, self.errands, self.note, self.choices, self.body):
            self.column.addWidget(widget)
        self.column.addStretch(1)
        self.choices.hide()
