"""The tab for features: the image in colours, alike where the model sees the same."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QRadioButton, QWidget

from napari_dinomask.colouring_tokens import Coloured, ColourWish
from napari_dinomask.comparison import Field
from napari_dinomask.layers import (
    BEFORE_SUFFIX,
    FEATURES_SUFFIX,
    TokenColourLayer,
    facts_of,
    visible_window,
)
from napari_dinomask.layers.region import cut_middle
from napari_dinomask.objects_wording import CANCELLED, COLOUR_BEGIN, NO_IMAGE_YET, say_coloured
from napari_dinomask.widgets.errand_bar import ErrandBar
from napari_dinomask.widgets.explain_tab import ExplainTab
from napari_dinomask.widgets.look import PLAIN_BUTTON, PRIMARY_BUTTON, caption, hint, tell
from napari_dinomask.widgets.map_form import LayerSpin
from napari_dinomask.widgets.save_picture import save_colours
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.errors import DinomaskError
    from dinomask.image.source import Image
    from napari_dinomask.widgets.explain_target import ExplainTarget

    Box = tuple[int, int, int, int]

VIEW_PX = 2048
"""Longest side of what is coloured of a view; from here on the view is offered first."""

COMPARE = "Before and after the adapter"


class FeaturesTab(ExplainTab):
    """Colours the image by the principal components of its tokens."""

    title = "Features"

    def __init__(self) -> None:
        super().__init__()
        self.coloured: Coloured | None = None
        self.layer = LayerSpin()
        self.compare = QCheckBox(COMPARE)
        self.whole = QRadioButton("the whole image")
        self.part = QRadioButton("this view")
        self.start = QPushButton("Colour by features")
        self.start.setStyleSheet(PRIMARY_BUTTON)
        self.errands = ErrandBar()
        self.meaning = hint()
        self.see_before = QRadioButton("before")
        self.see_after = QRadioButton("after")
        self.swap = QWidget()
        self.save = QPushButton("Save the picture…")
        self.remove = QPushButton("Remove the colours")
        self._layers: dict[str, TokenColourLayer] = {}
        self._arrange()
        self._connect()
        self._show()

    def _arrange(self) -> None:
        extent = QWidget()
        row = QHBoxLayout(extent)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (QLabel("Colour"), self.part, self.whole):
            row.addWidget(widget)
        row.addStretch(1)
        row = QHBoxLayout(self.swap)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (QLabel("Show"), self.see_before, self.see_after):
            row.addWidget(widget)
        row.addStretch(1)
        self.extent = extent
        for widget in (
            caption("Layer of the network"),
            self.layer,
            self.compare,
            extent,
            self.start,
            self.errands,
            self.note,
            self.swap,
            self.meaning,
            self.save,
            self.remove,
        ):
            self.column.addWidget(widget)
        for button in (self.save, self.remove):
            button.setStyleSheet(PLAIN_BUTTON)
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.start.clicked.connect(self.colour)
        self.errands.changed.connect(self._show)
        self.errands.failed.connect(self._on_refused)
        self.errands.cancelled.connect(lambda: self.say("info", CANCELLED))
        self.see_after.toggled.connect(self._swap)
        self.save.clicked.connect(self._save)
        self.remove.clicked.connect(self._forget)

    @property
    def is_busy(self) -> bool:
        """Whether something was asked for that is not shown yet."""
        return self.errands.is_busy

    def show_target(self, target: ExplainTarget | None) -> None:
        """Look at another image, plane or model."""
        before = self.target
        super().show_target(target)
        if target is not None and before is not None and target.key == before.key:
            return
        self.errands.give_up()
        self._forget()
        self.say("info", NO_IMAGE_YET if target is None else COLOUR_BEGIN)
        if target is not None:
            is_large = max(facts_of(target.image, target.view).shape_yx) > VIEW_PX
            self.extent.setVisible(is_large)
            (self.part if is_large else self.whole).setChecked(True)
            has_adapter = target.config.adapter is not None
            self.compare.setVisible(has_adapter)
            self.compare.setChecked(has_adapter)
        self._show()

    def leave(self) -> None:
        """Give up all work, and take the layers away."""
        super().leave()
        self.errands.give_up()
        self._forget()

    def colour(self) -> None:
        """Colour the image, or what is on display of it."""
        target = self.target
        if target is None:
            return
        window = self._window(target)
        open_image: Callable[[], Image] = target.opener()
        if window is not None:
            channels = target.config.channels
            open_image = Field(target.image, target.view, window, channels).open
        wish = ColourWish(
            open_image,
            target.config,
            target.diameter_px,
            self.layer.layer_index,
            self.compare.isVisibleTo(self) and self.compare.isChecked(),
        )
        corner = (0, 0) if window is None else window[:2]
        self.say("info", "")
        self.errands.run(wish.run, lambda found: self._on_coloured(found, corner))

    def _window(self, target: ExplainTarget) -> Box | None:
        """Return what of the image is to be coloured; None for all of it."""
        if not self.part.isChecked():
            return None
        seen = visible_window(target.viewer, target.image, target.view.displayed)
        return None if seen is None else cut_middle(seen, VIEW_PX)

    def _on_coloured(self, coloured: Coloured, corner_yx_px: tuple[int, int]) -> None:
        target = self.target
        if target is None or target.image not in target.viewer.layers:
            return
        self._forget()
        self.coloured = coloured
        for name, colours in coloured.titled.items():
            suffix = BEFORE_SUFFIX if name == "before" else FEATURES_SUFFIX
            layer = TokenColourLayer(target.viewer, target.image, target.view, suffix)
            y, x = colours.place.origin_yx_px
            origin = (y + corner_yx_px[0], x + corner_yx_px[1])
            layer.show(colours.rgb_yxc, origin, colours.place.cell_yx_px)
            self._layers[name] = layer
        shares = [float(s) for s in coloured.after.components.shares]
        n_tokens = int(coloured.after.rgb_yxc.shape[0] * coloured.after.rgb_yxc.shape[1])
        said = say_coloured(n_tokens, coloured.after.layer, coloured.before is None)
        self.say("result", f"{said}<br>{escape(coloured.sentence)}" if coloured.sentence else said)
        tell(self.meaning, say_meaning(shares))
        self.see_after.setChecked(True)
        self._swap(True)
        self._show()

    def _swap(self, is_after: bool) -> None:
        """Show the colours before or after the adapter."""
        if "before" in self._layers:
            self._layers["before"].set_visible(not is_after)
            self._layers["after"].set_visible(is_after)

    def _save(self) -> None:
        if self.coloured is not None:
            save_colours(self, self.coloured, self.say)

    def _on_refused(self, error: DinomaskError) -> None:
        self.say("error", say_error(error))

    def _forget(self) -> None:
        """Take the colours away."""
        for layer in self._layers.values():
            layer.remove()
        self._layers, self.coloured = {}, None
        tell(self.meaning, "")
        self._show()

    def _show(self) -> None:
        """Show what can be done now."""
        self.start.setEnabled(self.target is not None and not self.errands.is_busy)
        self.swap.setVisible("before" in self._layers)
        for button in (self.save, self.remove):
            button.setVisible(self.coloured is not None)


def say_meaning(shares: list[float]) -> str:
    """Say what the colours stand for."""
    names = ("red", "green", "blue")
    parts = [f"{name} {share:.0%}" for name, share in zip(names, shares, strict=False)]
    return (
        "Where colours are alike, the model sees the same. Red, green and blue are the three "
        f"strongest differences between places; they hold {', '.join(parts)} of all differences. "
        "The colours themselves mean nothing."
    )
