"""A list of the Labels layers that lie on an image, and of new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy

from dinomask.errors import DinomaskError
from napari_dinomask.layers import correctable, view_of
from napari_dinomask.widgets.layer_combo import set_entries

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

NEW = "new, empty labels"


class LabelsCombo(QComboBox):
    """Choose the labels on an image.

    Parameters
    ----------
    viewer : whose layers
    otherwise : what the last entry says, which stands for none of them
    """

    labels_changed = Signal()
    """Other labels may be chosen."""

    def __init__(self, viewer: ViewerModel, otherwise: str = NEW) -> None:
        super().__init__()
        self._otherwise = otherwise
        self._viewer = viewer
        self._image: Image | None = None
        self._layers: list[Labels] = []
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        for event in self._events():
            event.connect(self._refill)
        self.currentIndexChanged.connect(lambda _: self.labels_changed.emit())

    @property
    def labels(self) -> Labels | None:
        """The chosen layer; None for the last entry."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def show_image(self, image: Image | None) -> None:
        """List the labels on an image."""
        self._image = image
        self._refill()

    def leave(self) -> None:
        """Stop following the viewer."""
        for event in self._events():
            event.disconnect(self._refill)
        self._layers, self._image = [], None

    def _events(self) -> list[Any]:
        layers = self._viewer.layers
        active = layers.selection.events.active
        return [layers.events.inserted, layers.events.removed, active]

    def _refill(self, event: Any = None) -> None:
        chosen, active = self.labels, self._viewer.layers.selection.active
        self._layers = []
        if self._image is not None:
            try:
                view = view_of(self._image, self._viewer.dims)
                self._layers = correctable(self._viewer, self._image, view)
            except DinomaskError:
                # the panel says so when it begins
                pass
        with QSignalBlocker(self):
            set_entries(self, [layer.name for layer in self._layers] + [self._otherwise])
            keep = chosen in self._layers and active not in self._layers
            self.setCurrentIndex(self._layers.index(chosen) if keep else 0)
        self.setEnabled(self._image is not None)
        self.labels_changed.emit()
