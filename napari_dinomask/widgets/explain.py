"""The Explain panel: where the model looks, what it sees, which cells look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from dinomask.errors import DinomaskError
from napari_dinomask.widgets.attention_tab import AttentionTab
from napari_dinomask.widgets.explain_tab import TabArea
from napari_dinomask.widgets.explain_target import ExplainTarget
from napari_dinomask.widgets.features_tab import FeaturesTab
from napari_dinomask.widgets.labels_combo import LabelsCombo
from napari_dinomask.widgets.layer_combo import LayerCombo
from napari_dinomask.widgets.look import caption, hint, tell
from napari_dinomask.widgets.model_combo import ModelCombo
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_dinomask.widgets.explain_tab import ExplainTab

NO_IMAGE = "Open an image, or try one from File › Open Sample › DINOmask."
NO_LABELS = "none"


def tab_types() -> tuple[type[ExplainTab], ...]:
    """Return the tabs in the order in which they stand; some need pyqtgraph."""
    try:
        from napari_dinomask.widgets.objects_tab import ObjectsTab
    except ModuleNotFoundError as error:
        if error.name != "pyqtgraph":
            raise
        return AttentionTab, FeaturesTab
    return AttentionTab, FeaturesTab, ObjectsTab


class ExplainPanel(QWidget):
    """Look inside the model.

    Parameters
    ----------
    napari_viewer : given by napari
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.layer_combo = LayerCombo(napari_viewer)
        self.labels_combo = LabelsCombo(napari_viewer, NO_LABELS)
        self.model_combo = ModelCombo()
        self.image_hint = hint()
        self.tabs = QTabWidget()
        self.pages: list[ExplainTab] = [make() for make in tab_types()]
        self._key: tuple[object, ...] | None = ()
        self._has_left = False
        self._arrange()
        self._connect()
        self.model_combo.refresh()
        self._show_image()

    @property
    def page(self) -> ExplainTab:
        """The tab in front."""
        return self.pages[self.tabs.currentIndex()]

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 4, 8, 8)
        column.setSpacing(5)
        for widget in (
            caption("Image"),
            self.layer_combo,
            self.image_hint,
            caption("Labels on it"),
            self.labels_combo,
            caption("Model"),
            self.model_combo,
        ):
            column.addWidget(widget)
        for page in self.pages:
            self.tabs.addTab(TabArea(page), page.title)
        column.addWidget(self.tabs, 1)
        self.setMinimumWidth(340)

    def _connect(self) -> None:
        self.layer_combo.layer_changed.connect(self._show_image)
        self.labels_combo.labels_changed.connect(self._show_target)
        self.model_combo.chosen.connect(self._show_target)
        self.viewer.dims.events.current_step.connect(self._show_target)
        self.viewer.dims.events.order.connect(self._show_target)
        self.tabs.currentChanged.connect(self._on_tab)

    def _show_image(self) -> None:
        self.labels_combo.show_image(self.layer_combo.layer)
        self._show_target()

    def _show_target(self, _: Any = None) -> None:
        """Tell the tabs what to look at, if it is something else."""
        target, said = None, NO_IMAGE
        image = self.layer_combo.layer
        if image is not None:
            try:
                labels, models = self.labels_combo.labels, self.model_combo
                target = ExplainTarget.of(self.viewer, image, labels, models.model, models.adapter)
                said = ""
            except DinomaskError as error:
                said = say_error(error)
        tell(self.image_hint, said)
        key = None if target is None else (*target.key, id(target.labels))
        if key == self._key:
            return
        self._key = key
        for page in self.pages:
            page.show_target(target)
        self._on_tab()

    def _on_tab(self, _: int = 0) -> None:
        for page in self.pages:
            if page is not self.page:
                page.deactivate()
        self.page.activate()

    def event(self, event: QEvent | None) -> bool:
        """Leave when napari takes the panel out of its dock."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._leave()
        return super().event(event)

    def closeEvent(self, event: Any) -> None:
        """Leave when the panel is a window of its own."""
        self._leave()
        super().closeEvent(event)

    def _leave(self) -> None:
        """Give up all work, and stop following the viewer."""
        if self._has_left:
            return
        self._has_left = True
        for page in self.pages:
            page.leave()
        self.layer_combo.leave()
        self.labels_combo.leave()
        self.viewer.dims.events.current_step.disconnect(self._show_target)
        self.viewer.dims.events.order.disconnect(self._show_target)
