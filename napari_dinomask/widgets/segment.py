"""The Segment panel: one image layer in, one Labels layer of its cells out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QComboBox, QFrame, QScrollArea, QVBoxLayout, QWidget

from dinomask.config import SegmentConfig
from dinomask.errors import DinomaskError
from napari_dinomask.layers import all_planes_of, facts_of, view_of
from napari_dinomask.session import RunRequest, SegmentIntent, describe_field
from napari_dinomask.widgets.advanced import AdvancedForm
from napari_dinomask.widgets.cell_pen import CellPen
from napari_dinomask.widgets.edit_box import EditBox
from napari_dinomask.widgets.layer_combo import LayerCombo
from napari_dinomask.widgets.look import caption, hint, tell
from napari_dinomask.widgets.model_combo import ModelCombo
from napari_dinomask.widgets.output import OutputField
from napari_dinomask.widgets.planes_box import PlanesBox
from napari_dinomask.widgets.run_box import RunBox
from napari_dinomask.widgets.runner import Runner, Target
from napari_dinomask.widgets.size import SizeChooser
from napari_dinomask.wording import say_error, say_layer, say_model

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_dinomask.jobs import SegmentJob
    from napari_dinomask.session import LayerFacts

NO_IMAGE = "Open an image, or try one from File › Open Sample › DINOmask."
SHOWN_CHANNEL, ALL_CHANNELS = "the one on display", "all, averaged"


class SegmentPanel(QScrollArea):
    """Find every cell of the plane on display, or of all planes.

    Parameters
    ----------
    napari_viewer : given by napari
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.layer_combo = LayerCombo(napari_viewer)
        self.layer_hint = hint()
        self.planes_box = PlanesBox()
        self.channel_caption = caption("Channel")
        self.channel_combo = QComboBox()
        self.model_combo = ModelCombo()
        self.model_hint = hint()
        self.size_chooser = SizeChooser()
        self.output = OutputField()
        self.advanced = AdvancedForm()
        self.run_box = RunBox("Segment")
        self.runner = Runner(napari_viewer, self.run_box)
        self.edit_box = EditBox(napari_viewer)
        self.pen = CellPen(napari_viewer, lambda: self.layer_combo.layer)
        self._arrange()
        self._connect()
        self.model_combo.refresh()
        self._show_layer()

    def _arrange(self) -> None:
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(8, 4, 8, 8)
        column.setSpacing(5)
        for widget in (
            caption("Image"),
            self.layer_combo,
            self.layer_hint,
            self.planes_box,
            self.channel_caption,
            self.channel_combo,
            caption("Model"),
            self.model_combo,
            self.model_hint,
            caption("Object size"),
            self.size_chooser,
            caption("Save to"),
            self.output,
            self.advanced,
            self.run_box,
            self.edit_box,
        ):
            column.addWidget(widget)
        column.addStretch(1)
        self.setWidget(body)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(300)

    def _connect(self) -> None:
        self.layer_combo.layer_changed.connect(self._show_layer)
        self.planes_box.changed.connect(self._show_layer)
        self.viewer.dims.events.current_step.connect(self._show_layer)
        self.viewer.dims.events.order.connect(self._show_layer)
        self.model_combo.chosen.connect(self._show_model)
        self.model_combo.failed.connect(
            lambda error: self.run_box.add_message("warning", say_error(error))
        )
        self.model_combo.setToolTip(describe_field(SegmentConfig, "model"))
        self.channel_combo.setToolTip(describe_field(SegmentConfig, "channels"))
        self.size_chooser.draw_toggled.connect(self.pen.set_in_hand)
        self.pen.drawn.connect(self._on_drawn)
        self.run_box.start.clicked.connect(self.start)
        self.run_box.start.setToolTip("Ctrl+Enter")
        self.run_box.cancel.clicked.connect(self.runner.cancel)
        self.runner.ended.connect(self._show_idle)
        self.runner.size_estimated.connect(self.size_chooser.show_estimate)
        # once it is laid out anew
        self.edit_box.changed.connect(
            lambda: QTimer.singleShot(0, lambda: self.ensureWidgetVisible(self.edit_box))
        )
        self.edit_box.failed.connect(lambda text: self.run_box.add_message("error", text))
        QShortcut(QKeySequence("Ctrl+Return"), self, self.run_box.start.click)

    def _show_model(self) -> None:
        manifest, threshold = self.model_combo.manifest, self.model_combo.score_threshold
        if manifest is None or threshold is None:
            return
        tell(self.model_hint, say_model(manifest))
        self.advanced.show_threshold(threshold)

    def _show_layer(self, event: Any = None) -> None:
        """Show what of the chosen layer will be segmented."""
        layer, facts, text = self.layer_combo.layer, None, NO_IMAGE
        if layer is not None:
            try:
                view = view_of(layer, self.viewer.dims)
                # whether there are planes to choose from decides what is chosen
                self.planes_box.show_facts(facts_of(layer, view))
                facts = self._target(layer).facts
                text = say_layer(facts)
            except DinomaskError as error:
                text = f"{error}"
        if facts is None:
            self.planes_box.show_facts(None)
        tell(self.layer_hint, text)
        self.size_chooser.show_facts(facts)
        self.output.show_facts(facts)
        self._fill_channels(facts)
        if self.job is None:
            self._show_idle()

    def _fill_channels(self, facts: LayerFacts | None) -> None:
        n_channels = facts.n_channels if facts else 1
        choices = [SHOWN_CHANNEL, *map(str, range(n_channels)), ALL_CHANNELS]
        if self.channel_combo.count() != len(choices):
            self.channel_combo.clear()
            self.channel_combo.addItems(choices)
        self.channel_combo.setVisible(n_channels > 1)
        self.channel_caption.setVisible(n_channels > 1)

    def _channels(self, facts: LayerFacts) -> tuple[int, ...]:
        if facts.n_channels == 1 or self.channel_combo.currentText() == ALL_CHANNELS:
            return ()
        if self.channel_combo.currentText() == SHOWN_CHANNEL:
            return (facts.shown_channel,)
        return (int(self.channel_combo.currentText()),)

    def intent(self, facts: LayerFacts) -> SegmentIntent:
        """Read the form."""
        return SegmentIntent(
            model=self.model_combo.model,
            adapter=self.model_combo.adapter,
            diameter_px=self.size_chooser.diameter_px,
            sizes=self.advanced.sizes,
            channels=self._channels(facts),
            score_threshold=self.advanced.score_threshold,
            tile_px=self.advanced.tile_px,
            device=self.advanced.device,
        )

    @property
    def job(self) -> SegmentJob | None:
        """The run in progress."""
        return self.runner.job

    def start(self) -> None:
        """Segment the chosen layer in a thread."""
        layer = self.layer_combo.layer
        if layer is None or self.job is not None:
            return
        try:
            target = self._target(layer)
            config, out = self.intent(target.facts).resolve(), self.output.choose(target.facts)
            request = RunRequest(config, out, planes=self.planes_box.config)
        except DinomaskError as error:
            self.runner.explain(error)
            return
        self.runner.ask(target, request)

    def _target(self, layer: Image) -> Target:
        """Return the planes of a layer that are chosen.

        Raises
        ------
        AxesError
            If its axes can't be told apart, or no plane of it is on display.
        """
        view = view_of(layer, self.viewer.dims)
        if self.planes_box.wants_all:
            view = all_planes_of(layer, view)
        return Target(layer, view, facts_of(layer, view))

    def _show_idle(self) -> None:
        self.run_box.show_idle(can_start=self.layer_combo.layer is not None)

    def _on_drawn(self, diameter_px: float) -> None:
        self.size_chooser.draw.setChecked(False)
        self.size_chooser.take_drawn(diameter_px)

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
        """Stop the run and stop following the viewer."""
        self.runner.end()
        self.edit_box.leave()
        self.size_chooser.draw.setChecked(False)
        self.pen.leave()
        self.layer_combo.leave()
        self.viewer.dims.events.current_step.disconnect(self._show_layer)
        self.viewer.dims.events.order.disconnect(self._show_layer)
