"""The tab for attention: click a place or a cell, and see where the model looks from there."""

from __future__ import annotations

import functools
from html import unescape
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QPushButton

from napari_dinomask.background import Background
from napari_dinomask.explain_wording import CLICK, LOOKING, say_reason, say_shown
from napari_dinomask.explaining import Clicked, Looker
from napari_dinomask.layers import HeatLayer, Pointer, cell_at
from napari_dinomask.widgets.attention_form import AttentionForm
from napari_dinomask.widgets.explain_tab import ExplainTab
from napari_dinomask.widgets.head_grid import HeadGrid
from napari_dinomask.widgets.look import MESSAGES, PLAIN_BUTTON, message, tell
from napari_dinomask.widgets.save_picture import PICTURES, ask_path
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from dinomask.errors import DinomaskError
    from napari_dinomask.explaining import ExplainIntent, Point, Shown
    from napari_dinomask.widgets.explain_target import ExplainTarget

HEAT_SUFFIX = " · attention"


class AttentionTab(ExplainTab):
    """Shows maps of the tile that is clicked, as a layer on the image."""

    title = "Attention"

    def __init__(self) -> None:
        super().__init__()
        self.form = AttentionForm()
        self.head_grid = HeadGrid()
        self.why = message("info", "")
        self.why.hide()
        self.save_map = QPushButton("Save as picture…")
        self.hide_map = QPushButton("Remove the map")
        for button in (self.save_map, self.hide_map):
            button.setStyleSheet(PLAIN_BUTTON)
        self.background: Background | None = None
        self.shown: Shown | None = None
        self._looker: Looker | None = None
        self._heat: HeatLayer | None = None
        self._pointer: Pointer | None = None
        self._clicked: Clicked | None = None
        self._wanted: ExplainIntent | None = None
        self._is_looking = False
        for widget in (
            self.form,
            self.note,
            self.why,
            self.head_grid,
            self.save_map,
            self.hide_map,
        ):
            self.column.addWidget(widget)
        self.column.addStretch(1)
        self.form.changed.connect(self._ask)
        self.head_grid.chosen.connect(self.form.choose_head)
        self.hide_map.clicked.connect(self._forget)
        self.save_map.clicked.connect(self.save)
        self._show_buttons()

    @property
    def is_busy(self) -> bool:
        """Whether something was asked for that is not shown yet."""
        return self._is_looking

    def show_target(self, target: ExplainTarget | None) -> None:
        """Look at another image, plane or model."""
        before = self.target
        super().show_target(target)
        if target is not None and before is not None and target.key == before.key:
            return
        self._forget()
        self.form.show_choices(0, 0)
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
        """Show what is to be seen from a place of the image, in pixels."""
        target = self.target
        if target is None:
            return
        self._clicked = Clicked(point_yx_px)
        if target.labels is not None:
            found = cell_at(target.viewer, target.labels, target.labels_displayed, point_yx_px)
            if found is not None:
                self._clicked = Clicked(point_yx_px, *found)
        self._ask()

    def save(self) -> None:
        """Ask where what is shown should go, and write it in the thread."""
        shown, looker, background = self.shown, self._looker, self.background
        if shown is None or looker is None or background is None or self.target is None:
            return
        name = f"{self.target.image.name}_{shown.intent.what}.png"
        path = ask_path(self, "Save the picture", name, PICTURES)
        if path is None:
            return
        said = unescape(say_shown(shown))
        background.run(
            lambda: looker.save(shown, said, path),
            lambda path: self.say("result", f"Saved {path.name}."),
            lambda error: self.say("error", say_error(error)),
        )

    def _ask(self) -> None:
        """Have the form answered, after the one in hand; those in between are passed over."""
        if self._clicked is None or self._looker is None:
            return
        self._wanted = self.form.intent
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
        if is_attention:
            self.form.show_choices(shown.n_layers, shown.n_heads)
        self.head_grid.show_heads(shown)
        self._show_buttons()
        self.say("result", say_shown(shown))
        self._say_why(shown)
        self._go_on(clicked, intent)

    def _on_refused(
        self, looker: Looker, clicked: Clicked, intent: ExplainIntent, error: DinomaskError
    ) -> None:
        self._is_looking = False
        if looker is self._looker:
            self.say("error", say_error(error))
        self._go_on(clicked, intent)

    def _go_on(self, clicked: Clicked, intent: ExplainIntent) -> None:
        """Ask again if the form or the click has changed meanwhile."""
        if self._clicked is not clicked or self._wanted != intent:
            self._ask()

    def _on_crashed(self, error: BaseException) -> None:
        self._is_looking = False
        raise error

    def _say_why(self, shown: Shown) -> None:
        severity = "info" if shown.reason.cause in ("found", "nothing") else "warning"
        self.why.setObjectName(severity)
        self.why.setStyleSheet(MESSAGES[severity])
        tell(self.why, say_reason(shown))

    def _show_buttons(self) -> None:
        for button in (self.save_map, self.hide_map):
            button.setVisible(self.shown is not None)

    def _forget(self) -> None:
        """Take the map away."""
        if self._heat is not None:
            self._heat.remove()
        self._heat = self.shown = self._clicked = self._wanted = None
        self.head_grid.show_heads(None)
        tell(self.why, "")
        self._show_buttons()
        self.say("info", CLICK if self.target is not None else "")

    def _close_pointer(self) -> None:
        if self._pointer is not None:
            self._pointer.close()
            self._pointer = None
