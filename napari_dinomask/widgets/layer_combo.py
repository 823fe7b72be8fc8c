"""A list of the viewer's image layers that keeps in step with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy

from napari_dinomask.layers import image_layers

if TYPE_CHECKING:
    from typing import Any

    from napari.components import ViewerModel
    from napari.layers import Image


class LayerCombo(QComboBox):
    """Choose an image layer.

    Clicking an image in napari's own layer list chooses it here too.
    """

    layer_changed = Signal()
    """Another layer is chosen, or the chosen one has another name."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers: list[Image] = []
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.currentIndexChanged.connect(self._on_chosen)
        layers = viewer.layers
        for event in (layers.events.inserted, layers.events.removed, layers.events.reordered):
            event.connect(self._refill)
        layers.selection.events.active.connect(self._follow_selection)
        self._refill()
        self._follow_selection()

    @property
    def layer(self) -> Image | None:
        """The chosen layer; None if there is none."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def leave(self) -> None:
        """Stop following the viewer."""
        layers = self._viewer.layers
        for event in (layers.events.inserted, layers.events.removed, layers.events.reordered):
            event.disconnect(self._refill)
        layers.selection.events.active.disconnect(self._follow_selection)
        self._forget()

    def _forget(self) -> None:
        for layer in self._layers:
            layer.events.name.disconnect(self._refill)
        self._layers = []

    def _refill(self, event: Any = None) -> None:
        chosen = self.layer
        self._forget()
        self._layers = image_layers(self._viewer)
        for layer in self._layers:
            layer.events.name.connect(self._refill)
        with QSignalBlocker(self):
            set_entries(self, [layer.name for layer in self._layers])
            self.setCurrentIndex(self._layers.index(chosen) if chosen in self._layers else 0)
        self._on_chosen()

    def _follow_selection(self, event: Any = None) -> None:
        active = self._viewer.layers.selection.active
        if active in self._layers:
            self.setCurrentIndex(self._layers.index(active))

    def _on_chosen(self, index: int = 0) -> None:
        layer = self.layer
        self.setToolTip(layer.name if layer else "Open an image first")
        self.layer_changed.emit()


def set_entries(combo: QComboBox, entries: list[str]) -> None:
    """Let a list offer other entries.

    Those that it has stay: laying a list out anew takes Qt tens of milliseconds, and a viewer
    tells of its layers several times when one is added.
    """
    if [combo.itemText(i) for i in range(combo.count())] != entries:
        combo.clear()
        combo.addItems(entries)
