"""The Review & correct panel: clicks, lines and strokes become corrections in a journal."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from dinomask.errors import DinomaskError
from napari_dinomask.layers import saved_layers
from napari_dinomask.review_actions import find
from napari_dinomask.review_files import EarlierReviewError
from napari_dinomask.review_wording import (
    NO_IMAGE,
    ON_DISK,
    parse_names,
    say_counts,
    say_earlier,
    say_keys,
)
from napari_dinomask.widgets.labels_combo import LabelsCombo
from napari_dinomask.widgets.layer_combo import LayerCombo
from napari_dinomask.widgets.look import (
    MESSAGES,
    PLAIN_BUTTON,
    PRIMARY_BUTTON,
    caption,
    hint,
    message,
    tell,
)
from napari_dinomask.widgets.review_target import ReviewTarget
from napari_dinomask.widgets.review_tools import ToolBox
from napari_dinomask.widgets.reviewer import Reviewer
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_dinomask.review_files import Begin

BEGIN, END = "Begin correcting", "Done"


class ReviewPanel(QScrollArea):
    """Correct labels by pointing and clicking.

    Parameters
    ----------
    napari_viewer : given by napari
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.reviewer: Reviewer | None = None
        self.layer_combo = LayerCombo(napari_viewer)
        self.labels_combo = LabelsCombo(napari_viewer)
        self.image_hint = hint()
        self.begin = QPushButton(BEGIN)
        self.begin.setStyleSheet(PRIMARY_BUTTON)
        self.note = message("info", "")
        self.go_on = QPushButton("Go on with the earlier labels")
        self.anew = QPushButton("Begin anew")
        self.tools = ToolBox()
        self.names = QLineEdit()
        self.names.setPlaceholderText("cell, dividing cell, …")
        self.names.setToolTip("Names of the classes 0, 1, …, in order; keys 0 to 9 set them.")
        self.counts = hint()
        self.keys = QLabel()
        self.undo, self.redo, self.view = (
            self._command_button(name) for name in ("undo", "redo", "view")
        )
        self._in_review: list[QWidget] = []
        self._before_review: list[QWidget] = []
        self._arrange()
        self._connect()
        self._show()

    def _command_button(self, name: str) -> QPushButton:
        act = find(name)
        button = QPushButton(f"{act.title}  {act.shown_key}")
        button.setToolTip(act.hint)
        button.setStyleSheet(PLAIN_BUTTON)
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        button.clicked.connect(lambda: self._act(name))
        return button

    def _arrange(self) -> None:
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(8, 4, 8, 8)
        column.setSpacing(5)
        history = QWidget()
        row = QHBoxLayout(history)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.undo)
        row.addWidget(self.redo)
        self._before_review = [
            caption("Image"),
            self.layer_combo,
            caption("Labels to correct"),
            self.labels_combo,
            self.image_hint,
        ]
        self._in_review = [
            caption("Tool"),
            self.tools,
            history,
            self.view,
            self.counts,
            caption("Keys, for the cell under the mouse"),
            self.keys,
            caption("Classes"),
            self.names,
        ]
        choices = QWidget()
        row = QVBoxLayout(choices)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (self.go_on, self.anew):
            button.setStyleSheet(PLAIN_BUTTON)
            row.addWidget(button)
        self.choices = choices
        before, after = self._before_review, self._in_review
        for widget in (*before, self.begin, self.note, choices, *after):
            column.addWidget(widget)
        column.addStretch(1)
        self.setWidget(body)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(320)

    def _connect(self) -> None:
        self.layer_combo.layer_changed.connect(self._show_image)
        self.viewer.layers.events.removed.connect(self._on_removed)
        self.begin.clicked.connect(self._on_begin)
        self.go_on.clicked.connect(functools.partial(self.start, "go on"))
        self.anew.clicked.connect(functools.partial(self.start, "anew"))
        self.tools.chosen.connect(self._choose)
        self.names.textChanged.connect(self._show_names)
        self.names.editingFinished.connect(self._keep_names)
        self._show_image()
        self._show_names("")

    def start(self, how: Begin = "ask", _: bool = False) -> None:
        """Begin to correct the chosen labels."""
        image = self.layer_combo.layer
        if image is None:
            return
        self.finish()
        try:
            target = ReviewTarget.of(self.viewer, image, self.labels_combo.labels)
            self.reviewer = Reviewer(target)
        except DinomaskError as error:
            self._tell("error", say_error(error))
            return
        self.reviewer.told.connect(self._tell)
        self.reviewer.failed.connect(self._on_failed)
        self.reviewer.began.connect(self._show)
        self.reviewer.changed.connect(self._show)
        self.reviewer.class_names = parse_names(self.names.text())
        self.reviewer.begin(how)
        self._show()

    def finish(self) -> None:
        """End the review; everything is on disk already."""
        reviewer, self.reviewer = self.reviewer, None
        if reviewer is not None:
            reviewer.close()
        self._tell("info", "")
        self.choices.hide()
        self._show()

    def _on_begin(self) -> None:
        if self.reviewer is None:
            self.start()
        else:
            self.finish()

    def _on_failed(self, error: DinomaskError) -> None:
        reviewer, self.reviewer = self.reviewer, None
        if reviewer is not None:
            reviewer.close()
        if isinstance(error, EarlierReviewError):
            self._tell("warning", say_earlier(error.n_corrections))
            self.choices.show()
        else:
            self._tell("error", say_error(error))
        self._show()

    def _on_removed(self, event: Any = None) -> None:
        """End the review when its labels are removed."""
        reviewer = self.reviewer
        if reviewer is not None and reviewer.target.labels not in self.viewer.layers:
            self.finish()

    def _choose(self, tool: str) -> None:
        if self.reviewer is not None:
            self.reviewer.choose(tool)

    def _act(self, command: str) -> None:
        if self.reviewer is not None:
            self.reviewer.act(command)

    def _tell(self, severity: str, text: str) -> None:
        """Show one message in the place of the one before; nothing if it is empty."""
        self.note.setObjectName(severity)
        self.note.setStyleSheet(MESSAGES[severity])
        tell(self.note, text)

    def _show_image(self) -> None:
        self.labels_combo.show_image(self.layer_combo.layer)
        on_disk = "" if not saved_layers(self.viewer) else ON_DISK
        tell(self.image_hint, NO_IMAGE if self.layer_combo.layer is None else on_disk)
        self._show()

    def _show_names(self, text: str) -> None:
        names = parse_names(text)
        self.keys.setText(say_keys(names))
        if self.reviewer is not None:
            self.reviewer.class_names = names
            if self.reviewer.review is not None:
                self.reviewer.review.class_names = names

    def _keep_names(self) -> None:
        if self.reviewer is not None:
            self.reviewer.keep_classes()

    def _show(self) -> None:
        """Show what can be done now."""
        reviewer = self.reviewer
        review = None if reviewer is None else reviewer.review
        for widget in self._before_review:
            widget.setVisible(reviewer is None)
        for widget in self._in_review:
            widget.setVisible(review is not None)
        self.image_hint.setVisible(reviewer is None and bool(self.image_hint.text()))
        self.begin.setText(BEGIN if reviewer is None else END)
        self.begin.setEnabled(reviewer is not None or self.layer_combo.layer is not None)
        if not self.choices.isVisibleTo(self) or reviewer is not None:
            self.choices.hide()
        if reviewer is not None and review is not None:
            if review.class_names and not self.names.text():
                self.names.setText(", ".join(review.class_names))
            self.tools.show_tool(reviewer.tool)
            tell(self.counts, say_counts(review.counts()))
            self.undo.setEnabled(review.journal.can_undo)
            self.redo.setEnabled(review.journal.can_redo)

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
        """End the review and stop following the viewer."""
        self.finish()
        self.layer_combo.leave()
        self.labels_combo.leave()
        self.viewer.layers.events.removed.disconnect(self._on_removed)
