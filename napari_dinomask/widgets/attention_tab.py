"""The tab for attention: click a place or a cell, and see where the model looks from there."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_dinomask.background import Background
from napari_dinomask.explain_wording import CLICK, LOOKING, say_reason, say_shown
from napari_dinomask.explaining import Clicked, ExplainIntent, Looker
from napari_dinomask.layers import HeatLayer, Pointer, cell_at
from napari_dinomask.widgets.explain_tab import ExplainTab
from napari_dinomask.widgets.head_grid import HeadGrid
from napari_dinomask.widgets.look import MESSAGES, PLAIN_BUTTON, caption, message, tell
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from dinomask.errors import DinomaskError
    from napari_dinomask.explaining import Point, Shown, What, Whose
    from napari_dinomask.widgets.explain_target import ExplainTarget

HEAT_SUFFIX = " · attention"
WHAT: dict[What, str] = {
    "attention": "where the backbone looks",
    "score": "detector: score",
    "class": "detector: class",
    "centerness": "detector: centerness",
    "mask": "mask head: where it looks",
}
WHOSE: dict[Whose, str] = {
    "place": "the place I click",
    "cell": "the cell I click",
    "class": "the class token",
    "registers": "the register tokens",
    "all": "all places",
}


class AttentionTab(ExplainTab):
    """Shows attention of the tile that is clicked, as a layer on the image."""

    title = "Attention"

    def __init__(self) -> None:
        super().__init__()
        self.what, self.whose = QComboBox(), QComboBox()
        for combo, choices in ((self.what, WHAT), (self.whose, WHOSE)):
            for name, text in choices.items():
                combo.addItem(text, name)
        self.layer_slider, self.layer_value = self._slider()
        self.head_slider, self.head_value = self._slider()
        self.rollout = QCheckBox("Follow it through all layers (rollout)")
        self.rollout.setToolTip("Abnar and Zuidema 2020: half of each layer's input passes by.")
        self.hide_map = QPushButton("Remove the map")
        self.hide_map.setStyleSheet(PLAIN_BUTTON)
        self.all_heads = QCheckBox("All heads beside each other")
        self.head_grid = HeadGrid()
        self.why = message("info", "")
        self.why.hide()
        self.background: Background | None = None
        self.shown: Shown | None = None
        self._looker: Looker | None = None
        self._heat: HeatLayer | None = None
        self._pointer: Pointer | None = None
        self._clicked: Clicked | None = None
        self._wanted: ExplainIntent | None = None
        self._is_looking = False
        self._n_layers = self._n_heads = 0
        self._arrange()
        self._connect()
        self._show_sliders()

    @staticmethod
    def _slider() -> tuple[QSlider, QLabel]:
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setPageStep(1)
        value = QLabel()
        value.setMinimumWidth(64)
        return slider, value

    def _arrange(self) -> None:
        grid = QWidget()
        rows = QGridLayout(grid)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setColumnStretch(1, 1)
        rows.addWidget(QLabel("Layer"), 0, 0)
        rows.addWidget(self.layer_slider, 0, 1)
        rows.addWidget(self.layer_value, 0, 2)
        rows.addWidget(QLabel("Head"), 1, 0)
        rows.addWidget(self.head_slider, 1, 1)
        rows.addWidget(self.head_value, 1, 2)
        self.of_attention = QWidget()
        column = QVBoxLayout(self.of_attention)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        for widget in (caption("Whose attention"), self.whose, grid, self.rollout, self.all_heads):
            column.addWidget(widget)
        for widget in (
            caption("Show"),
            self.what,
            self.of_attention,
            self.note,
            self.why,
            self.head_grid,
            self.hide_map,
        ):
            self.column.addWidget(widget)
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.what.currentIndexChanged.connect(self._on_what)
        self.whose.currentIndexChanged.connect(self._ask)
        self.all_heads.toggled.connect(self._ask)
        self.head_grid.chosen.connect(lambda head: self.head_slider.setValue(head + 1))
        self.layer_slider.valueChanged.connect(self._on_slider)
        self.head_slider.valueChanged.connect(self._on_slider)
        self.rollout.toggled.connect(self._ask)
        self.hide_map.clicked.connect(self._forget)

    @property
    def is_busy(self) -> bool:
        """Whether something was asked for that is not shown yet."""
        return self._is_looking

    @property
    def intent(self) -> ExplainIntent:
        """What the form says."""
        head = self.head_slider.value() - 1
        layer = self.layer_slider.value() if self.has_layers else -1
        return ExplainIntent(
            self.what.currentData(),
            self.whose.currentData(),
            layer,
            head if head >= 0 and not self.rollout.isChecked() else None,
            self.rollout.isChecked(),
            self.all_heads.isChecked() and not self.rollout.isChecked(),
        )

    @property
    def has_layers(self) -> bool:
        """Whether it is known which layers there are."""
        return self._n_layers > 0

    def show_target(self, target: ExplainTarget | None) -> None:
        """Look at another image, plane or model."""
        before = self.target
        super().show_target(target)
        if target is not None and before is not None and target.key == before.key:
            return
        self._forget()
        self._n_layers = self._n_heads = 0
        self._show_sliders()
        self._looker = (
            None if target is None else Looker(target.opener(), target.config, target.diameter_px)
        )
        self._close_pointer()

    def activate(self) -> None:
        """Listen to clicks on the image."""
        if self.target is not None and self._pointer is None:
            target = self.target
            self._pointer = Pointer(target.viewer, target.image, target.view, self.look_at)
            if self.shown is None:
                self.say("info", CLICK)

    def deactivate(self) -> None:
        """Listen no more."""
        self._close_pointer()

    def leave(self) -> None:
        """Give up all work."""
        super().leave()
        if self.background is not None:
            self.background.close()
            self.background = None

    def look_at(self, point_yx_px: Point, _: frozenset[str] = frozenset()) -> None:
        """Show attention from a place of the image, in pixels."""
        target = self.target
        if target is None:
            return
        self._clicked = Clicked(point_yx_px)
        if target.labels is not None:
            found = cell_at(target.viewer, target.labels, target.labels_displayed, point_yx_px)
            if found is not None:
                self._clicked = Clicked(point_yx_px, *found)
        self._ask()

    def _on_what(self) -> None:
        self.of_attention.setVisible(self.what.currentData() == "attention")
        self._ask()

    def _on_slider(self) -> None:
        self._show_sliders()
        self._ask()

    def _ask(self, _: object = None) -> None:
        """Have the intent answered, after the one in hand; those in between are passed over."""
        if self._clicked is None or self._looker is None:
            return
        self._wanted = self.intent
        if self._is_looking:
            return
        if self.background is None:
            self.background = Background("dinomask-explain")
            self.background.crashed.connect(self._on_crashed)
        self._is_looking = True
        if self.shown is None:
            self.say("info", LOOKING)
        looker, clicked, intent = self._looker, self._clicked, self._wanted
        self.background.run(
            lambda: looker.look(clicked, intent),
            functools.partial(self._on_shown, looker, clicked, intent),
            functools.partial(self._on_refused, looker, clicked, intent),
        )

    def _on_shown(
        self, looker: Looker, clicked: Clicked, intent: ExplainIntent, shown: Shown
    ) -> None:
        self._is_looking = False
        if looker is not self._looker or self.target is None:
            self._ask()
            return
        self.shown = shown
        if self._heat is None:
            target = self.target
            name = target.image.name + HEAT_SUFFIX
            self._heat = HeatLayer(target.viewer, target.image, target.view, name)
        is_attention = shown.intent.what == "attention"
        self._heat.show(shown.values_yx, shown.heat.place, None if is_attention else 1.0)
        first = is_attention and not self._n_layers
        self._n_layers, self._n_heads = (
            shown.n_layers or self._n_layers,
            shown.n_heads or self._n_heads,
        )
        self._show_sliders(first)
        self.head_grid.show_heads(shown)
        self._say_why(shown)
        self.say("result", say_shown(shown))
        self._go_on(clicked, intent)

    def _on_refused(
        self, looker: Looker, clicked: Clicked, intent: ExplainIntent, error: DinomaskError
    ) -> None:
        self._is_looking = False
        if looker is self._looker:
            self.say("error", say_error(error))
        self._go_on(clicked, intent)

    def _say_why(self, shown: Shown) -> None:
        severity = "info" if shown.reason.cause in ("found", "nothing") else "warning"
        self.why.setObjectName(severity)
        self.why.setStyleSheet(MESSAGES[severity])
        tell(self.why, say_reason(shown))

    def _go_on(self, clicked: Clicked, intent: ExplainIntent) -> None:
        """Ask again if the form or the click has changed meanwhile."""
        if self._clicked is not clicked or self._wanted != intent:
            self._ask()

    def _on_crashed(self, error: BaseException) -> None:
        self._is_looking = False
        raise error

    def _show_sliders(self, first: bool = False) -> None:
        """Show what there is to choose from."""
        is_known = self._n_layers > 0
        self.layer_slider.setEnabled(is_known)
        self.head_slider.setEnabled(is_known and not self.rollout.isChecked())
        self.hide_map.setVisible(self.shown is not None)
        if not is_known:
            self.layer_value.setText("last")
            self.head_value.setText("mean")
            return
        with QSignalBlocker(self.layer_slider), QSignalBlocker(self.head_slider):
            self.layer_slider.setMaximum(self._n_layers - 1)
            self.head_slider.setMaximum(self._n_heads)
            if first:
                self.layer_slider.setValue(self._n_layers - 1)
        self.layer_value.setText(f"{self.layer_slider.value()} of {self._n_layers - 1}")
        head = self.head_slider.value() - 1
        self.head_value.setText("mean" if head < 0 else f"{head} of {self._n_heads - 1}")

    def _forget(self) -> None:
        """Take the map away."""
        if self._heat is not None:
            self._heat.remove()
        self._heat = self.shown = self._clicked = self._wanted = None
        self.head_grid.show_heads(None)
        tell(self.why, "")
        self._show_sliders()
        self.say("info", CLICK if self.target is not None else "")

    def _close_pointer(self) -> None:
        if self._pointer is not None:
            self._pointer.close()
            self._pointer = None
