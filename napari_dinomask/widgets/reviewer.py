"""One review of a panel, from the first click to the last: mouse and keys in, corrections out."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from napari_dinomask.layers import (
    PEN_COLOUR,
    PEN_SUFFIX,
    REGION_COLOUR,
    REGION_SUFFIX,
    Hand,
    Lines,
    Stroke,
    visible_window,
)
from napari_dinomask.review_actions import CLASS_KEYS, COMMANDS, TOOLS, find
from napari_dinomask.review_wording import LOADING, THINKING, say_taken
from napari_dinomask.widgets.review_model import ReviewModel
from napari_dinomask.widgets.review_session import ReviewSession
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dinomask.adapt.prompt import Proposal
    from dinomask.errors import DinomaskError
    from napari_dinomask.corrections import Review
    from napari_dinomask.questions import Done, Point, Question
    from napari_dinomask.widgets.review_target import ReviewTarget

_PAINTING = ("paint", "erase", "fill", "polygon", "pick")
"""napari's own tools."""


class Reviewer(ReviewSession):
    """Links the labels on display, the model and the journal by mouse and keys.

    Attributes
    ----------
    tool : in hand, by its name
    model : that answers clicks; None before the review is opened
    """

    def __init__(self, target: ReviewTarget) -> None:
        super().__init__(target)
        self.tool = "add"
        self.model: ReviewModel | None = None
        self._hand: Hand | None = None
        self._mouse: Point | None = None
        self._is_ready = False
        self._pen = Lines(target.viewer, self._layer, PEN_SUFFIX, PEN_COLOUR)
        self._regions = Lines(target.viewer, self._layer, REGION_SUFFIX, REGION_COLOUR)
        self.changed.connect(self._show_regions)

    def close(self) -> None:
        """End the review; everything is on disk already."""
        if self.model is not None:
            self.model.stop()
        if self._hand is not None:
            self._hand.close()
            self.target.viewer.dims.events.current_step.disconnect(self._on_plane)
            self.target.labels.events.mode.disconnect(self._on_mode)
        self._pen.close()
        self._regions.close()
        if self.target.labels.mode != "pan_zoom":
            self.target.labels.mode = "pan_zoom"
        super().close()

    def choose(self, tool: str) -> None:
        """Take a tool into hand."""
        if self.review is None:
            return
        self.review.picked = 0
        labels = self.target.labels
        self.target.viewer.layers.selection.active = labels
        self.tool = tool
        if tool == "draw":
            label = self.review.label_at(self._mouse) if self._mouse else 0
            labels.selected_label = label or self.review.store.next_id()
            labels.mode = "paint"
        elif labels.mode != "pan_zoom":
            labels.mode = "pan_zoom"
        self.told.emit("info", "")
        self.changed.emit()

    def act(self, command: str) -> None:
        """Do something at once."""
        if self.review is None:
            return
        if command in ("larger", "smaller"):
            self._next_size(1 if command == "larger" else -1)
            return
        acts: dict[str, Callable[[], Done | None]] = {
            "remove": lambda: self._at_mouse("remove"),
            "accept": lambda: self._at_mouse("accept"),
            "view": self._vouch_view,
            "undo": self.review.undo,
            "redo": self.review.redo,
        }
        self.do(acts[command], "There is nothing to " + find(command).title.lower() + ".")

    def classify(self, class_id: int) -> None:
        """Say of which class the object under the mouse is."""
        self.keep_classes()
        name = self.class_names[class_id] if class_id < len(self.class_names) else ""
        self.do(lambda: self._at_mouse("classify", class_id, name), "There is no cell here.")

    def _at_mouse(self, method: str, *arguments: Any) -> Done | None:
        if self.review is None or self._mouse is None:
            return None
        done: Done | None = getattr(self.review, method)(self._mouse, *arguments)
        return done

    def _vouch_view(self) -> Done | None:
        target = self.target
        window = visible_window(target.viewer, target.labels, target.displayed)
        if self.review is None or window is None:
            return None
        y0, x0, y1, x1 = (float(v) for v in window)
        return self.review.vouch([(y0, x0), (y0, x1), (y1, x1), (y1, x0)])

    def _set_up(self, review: Review) -> None:
        """Take mouse, keys and model into service."""
        target = self.target
        model = self.model = ReviewModel(review, self.background)
        model.answered.connect(self._on_answer)
        model.refused.connect(self._on_refused)
        model.prepared.connect(self._on_prepared)
        keys = {t.key: functools.partial(self.choose, t.name) for t in TOOLS}
        keys |= {c.key: functools.partial(self.act, c.name) for c in COMMANDS}
        keys |= {k: functools.partial(self.classify, int(k)) for k in CLASS_KEYS}
        self._regions.open()
        self._pen.open()
        self._hand = Hand(
            target.viewer,
            self._layer,
            wants=lambda modifiers: self.tool not in ("look", "draw"),
            on_trace=self._on_trace,
            on_stroke=self._on_stroke,
            on_hover=self._on_hover,
            on_wheel=self._on_wheel,
            keys=keys,
        )
        target.viewer.dims.events.current_step.connect(self._on_plane)
        target.labels.events.mode.connect(self._on_mode)
        self.choose("add")
        self._on_plane()
        self.told.emit("info", LOADING)
        centre = self._view_centre()
        if centre is not None:
            model.prepare(centre)

    def _on_plane(self, event: Any = None) -> None:
        """Follow the sliders."""
        plane = self._layer.plane
        if self.review is None or self.model is None or plane is None:
            return
        self.review.plane = plane
        self.review.picked = 0
        self.model.show_plane(plane, self.target.opener())
        self._show_regions()

    def _on_mode(self, event: Any = None) -> None:
        """Follow a tool that was chosen in napari's own controls."""
        painting = str(self.target.labels.mode) in _PAINTING
        if painting != (self.tool == "draw"):
            self.tool = "draw" if painting else "look"
            self.changed.emit()

    def _on_trace(self, points: Sequence[Point]) -> None:
        path = list(points)
        if len(path) > 1 and self.tool in ("add", "region"):
            path = [*_corners(path[0], path[-1]), path[0]]
        elif len(path) > 1 and self.tool == "split":
            path = [path[0], path[-1]]
        self._pen.show([path])

    def _on_stroke(self, stroke: Stroke) -> None:
        review = self.review
        if review is None:
            return
        points = stroke.points_yx_px
        if "Shift" in stroke.modifiers:
            self.do(lambda: review.remove(points[0]), "There is no cell here.")
        elif self.tool == "add":
            self._add(review, stroke)
        elif self.tool == "merge":
            self.do(lambda: review.merge(points[0]), "There is no cell here.")
        elif stroke.is_click:
            self.told.emit("info", find(self.tool).hint)
        elif self.tool == "split":
            self.do(lambda: review.split([points[0], points[-1]]), "")
        else:
            ring = _corners(points[0], points[-1]) if self.tool == "region" else points
            self.do(lambda: review.vouch(ring), "")

    def _add(self, review: Review, stroke: Stroke) -> None:
        start, end = stroke.points_yx_px[0], stroke.points_yx_px[-1]
        label = review.label_at(start)
        if not stroke.is_click:
            self._ask(review.ask_in(start, end))
        elif label:
            self.told.emit("info", say_taken(label))
        else:
            self._ask(review.ask_at(start))

    def _ask(self, question: Question) -> None:
        if self.model is not None:
            self.told.emit("info", THINKING)
            self.model.ask(question)

    def _on_answer(self, question: Question, proposal: Proposal) -> None:
        review = self.review
        if review is not None:
            self.do(lambda: review.take(question, proposal), "")

    def _on_refused(self, error: DinomaskError) -> None:
        self.told.emit("warning", say_error(error))

    def _on_prepared(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            self.told.emit("info", "")

    def _next_size(self, step: int) -> None:
        question = self.review.ask_next_size(step) if self.review else None
        if question is None:
            self.told.emit("info", "Other sizes are there for the cell that was added last.")
        elif self.model is not None and not self.model.is_asking:
            self._ask(question)

    def _on_wheel(self, step: int) -> bool:
        review = self.review
        if review is None or self.tool != "add" or self._mouse is None:
            return False
        label = review.label_at(self._mouse)
        if not label or not review.is_fresh(label):
            return False
        self._next_size(step)
        return True

    def _on_hover(self, point: Point | None) -> None:
        self._mouse = point
        if self.tool == "add" and point is not None and self.model is not None:
            self.model.hover(point)

    def _view_centre(self) -> Point | None:
        target = self.target
        window = visible_window(target.viewer, target.labels, target.displayed)
        return ((window[0] + window[2]) / 2, (window[1] + window[3]) / 2) if window else None

    def _show_regions(self) -> None:
        if self.review is None:
            return
        rings = [
            [tuple(p) for p in (*region.polygon_yx_px, region.polygon_yx_px[0])]
            for region in self.review.journal.reviewed()
            if region.plane == self.review.plane
        ]
        self._regions.show(rings)


def _corners(start: Point, end: Point) -> list[Point]:
    return [start, (start[0], end[1]), end, (end[0], start[1])]
