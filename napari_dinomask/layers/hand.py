"""The mouse and the keys on a layer, as strokes in pixels."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from napari.components._viewer_mouse_bindings import double_click_to_zoom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from napari.components import ViewerModel

    from napari_dinomask.layers.corrected import CorrectedLayer

    Point = tuple[float, float]

CLICK_PX = 4
"""A stroke that stays within so many pixels of the canvas is a click."""

_STEP_PX = 2.0
"""Points of a stroke lie so many canvas pixels apart at least."""


@dataclasses.dataclass(frozen=True)
class Stroke:
    """What the mouse did from press to release.

    Attributes
    ----------
    points_yx_px : on the labels; the first and the last lie inside the image, or the nearest
        ones that do
    is_click : whether the mouse stayed where it was
    modifiers : keys that were held, by napari's names
    """

    points_yx_px: tuple[Point, ...]
    is_click: bool
    modifiers: frozenset[str]


class Hand:
    """Listens to the left button, the wheel and some keys while a layer is active.

    Parameters
    ----------
    viewer : where
    layer : what is clicked on
    wants : whether a stroke that begins with these modifiers is ours; else it moves the camera
    on_trace : told the points of a stroke in the making; nothing at its end
    on_stroke : told of each stroke
    on_hover : told where the mouse is
    on_wheel : told of the wheel's direction; says whether it was ours
    keys : what to do at each key, by napari's names
    """

    def __init__(
        self,
        viewer: ViewerModel,
        layer: CorrectedLayer,
        wants: Callable[[frozenset[str]], bool],
        on_trace: Callable[[Sequence[Point]], None],
        on_stroke: Callable[[Stroke], None],
        on_hover: Callable[[Point | None], None],
        on_wheel: Callable[[int], bool],
        keys: Mapping[str, Callable[[], None]],
    ) -> None:
        self._viewer = viewer
        self._layer = layer
        self._wants = wants
        self._on_trace = on_trace
        self._on_stroke = on_stroke
        self._on_hover = on_hover
        self._on_wheel = on_wheel
        self._keys = dict(keys)
        self._held = False
        labels = layer.labels
        labels.mouse_drag_callbacks.append(self._drag)
        labels.mouse_move_callbacks.append(self._move)
        labels.mouse_wheel_callbacks.append(self._wheel)
        for key, act in self._keys.items():
            labels.bind_key(key, lambda _, act=act: act(), overwrite=True)
        labels.bind_key("Space", self._hold, overwrite=True)
        # two quick clicks are two clicks
        callbacks = viewer.mouse_double_click_callbacks
        self._zooms = double_click_to_zoom in callbacks
        if self._zooms:
            callbacks.remove(double_click_to_zoom)

    def close(self) -> None:
        """Let go."""
        labels = self._layer.labels
        labels.mouse_drag_callbacks.remove(self._drag)
        labels.mouse_move_callbacks.remove(self._move)
        labels.mouse_wheel_callbacks.remove(self._wheel)
        for key in (*self._keys, "Space"):
            labels.bind_key(key, None)
        if self._zooms:
            self._viewer.mouse_double_click_callbacks.append(double_click_to_zoom)

    def _is_ours(self, event: Any) -> bool:
        is_tool = str(self._layer.labels.mode) == "pan_zoom" and not self._held
        return is_tool and event.button == 1 and self._wants(key_names(event.modifiers))

    def _drag(self, labels: Any, event: Any) -> Iterator[None]:
        start = self._layer.point_at(event.position)
        if not self._is_ours(event) or start is None:
            return
        modifiers = key_names(event.modifiers)
        points, at, first_at, is_click = [start], event.pos, event.pos, True
        event.handled = True
        yield
        while event.type == "mouse_move":
            event.handled = True
            is_click &= _distance(event.pos, first_at) <= CLICK_PX
            point = self._layer.point_at(event.position)
            if point is not None and _distance(event.pos, at) >= _STEP_PX:
                points.append(point)
                at = event.pos
                if not is_click:
                    self._on_trace(points)
            yield
        point = self._layer.point_at(event.position)
        if point is not None:
            points.append(point)
        self._on_trace(())
        self._on_stroke(Stroke(tuple(points), is_click, modifiers))

    def _move(self, labels: Any, event: Any) -> None:
        self._on_hover(self._layer.point_at(event.position))

    def _wheel(self, labels: Any, event: Any) -> None:
        if not event.modifiers and self._on_wheel(1 if event.delta[1] > 0 else -1):
            event.handled = True

    def _hold(self, labels: Any) -> Iterator[None]:
        """Move the camera by dragging as long as the key is held, whatever the tool."""
        mode, self._held = labels.mode, True
        labels.mode = "pan_zoom"
        yield
        labels.mode, self._held = mode, False


def key_names(modifiers: Any) -> frozenset[str]:
    """Return the names of keys, which vispy has as objects."""
    return frozenset(str(getattr(key, "name", key)) for key in modifiers)


def _distance(a: Any, b: Any) -> float:
    return float(max(abs(a[0] - b[0]), abs(a[1] - b[1])))
