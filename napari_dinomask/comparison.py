"""One field of view segmented twice, and what became of each object."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal

from dinomask.config import SegmentConfig
from dinomask.errors import DinomaskError, InputError
from dinomask.image.source import open_image
from napari_dinomask.jobs import SegmentJob
from napari_dinomask.layers import facts_of, image_layers, open_layer, view_of, visible_window
from napari_dinomask.layers.region import cut_middle
from napari_dinomask.session import RunRequest

if TYPE_CHECKING:
    from typing import Literal

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from dinomask.image.source import Image
    from dinomask.measure.changes import Changes
    from napari_dinomask.corrections import Review
    from napari_dinomask.jobs import Outcome
    from napari_dinomask.layers import PlaneView

    Array = npt.NDArray[Any]
    Box = tuple[int, int, int, int]

LARGEST_PX = 2048
"""Longest side of a field of view that is compared."""


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """What is segmented twice.

    Attributes
    ----------
    layer, view : the plane
    window_yxyx_px : the part of it
    channels : along the layer's channel axis; empty takes all
    """

    layer: ImageLayer
    view: PlaneView
    window_yxyx_px: Box
    channels: tuple[int, ...] = ()

    def open(self) -> Image:
        """Read the part; safe in a thread."""
        image = open_layer(self.layer, self.view, self.channels)
        pixels_cyx = image.read(self.window_yxyx_px)
        if image.is_rgb:
            return open_image(np.moveaxis(pixels_cyx, 0, -1), axes="yxs")
        return open_image(pixels_cyx, axes="cyx")


def choose_field(viewer: ViewerModel, review: Review | None) -> Field:
    """Return what of the viewer is to be compared: all of a small plane, else what is on display.

    Parameters
    ----------
    review : whose image is meant; None takes the active or topmost one

    Raises
    ------
    InputError
        If there is no image.
    """
    layers = image_layers(viewer)
    active = viewer.layers.selection.active
    layers.sort(key=lambda layer: (not _fits(viewer, layer, review), layer is not active))
    if not layers:
        raise InputError(
            expected="an image to compare on",
            got="no image layer",
            remedy="Open the image that was corrected.",
        )
    return field_of(viewer, layers[0], () if review is None else review.config.channels)


def field_of(viewer: ViewerModel, layer: ImageLayer, channels: tuple[int, ...] = ()) -> Field:
    """Return what of a layer is to be compared, as `choose_field` does."""
    view = view_of(layer, viewer.dims)
    height, width = facts_of(layer, view).shape_yx
    window = (0, 0, height, width)
    if max(height, width) > LARGEST_PX:
        window = cut_middle(visible_window(viewer, layer, view.displayed) or window, LARGEST_PX)
    return Field(layer, view, window, channels)


def _fits(viewer: ViewerModel, layer: ImageLayer, review: Review | None) -> bool:
    """Tell whether a layer shows the image of a review."""
    try:
        facts = facts_of(layer, view_of(layer, viewer.dims))
    except DinomaskError:
        return False
    if review is None:
        return True
    return facts.shape_yx == review.image.shape_yx and review.title.startswith(layer.name)


@dataclasses.dataclass(frozen=True, eq=False)
class Compared:
    """What came of it.

    Attributes
    ----------
    field : what was segmented
    before_yx, after_yx : label images of the window
    changes : objects gained, lost and changed
    """

    field: Field
    before_yx: Array
    after_yx: Array
    changes: Changes


@dataclasses.dataclass(frozen=True)
class Choice:
    """A model, by name.

    Attributes
    ----------
    model : the checkpoint
    adapter : on it; None for the bare checkpoint
    """

    model: str
    adapter: str | None = None


class Comparison(QObject):
    """Segments a field of view with one model and with another, in a thread.

    Parameters
    ----------
    field : what to look at
    before, after : the models
    diameter_px : of the objects; auto is estimated once, for both
    """

    progressed = Signal(str)
    """What it is at, in words."""

    succeeded = Signal(object)
    """A `Compared`."""

    failed = Signal(object)
    """A `DinomaskError`."""

    crashed = Signal(object)
    """Any other exception."""

    def __init__(
        self,
        field: Field,
        before: Choice,
        after: Choice,
        diameter_px: float | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        self._field = field
        self._choices = (before, after)
        self._diameter_px = diameter_px
        self._labels: list[Array] = []
        self._job: SegmentJob | None = None
        self._live = True

    def start(self) -> None:
        """Begin."""
        self._next()

    def cancel(self) -> None:
        """Give it up at once."""
        self._live = False
        if self._job is not None:
            self._job.cancel()

    def _next(self) -> None:
        number = len(self._labels)
        self.progressed.emit(f"Segmenting {('before', 'after')[number]}…")
        choice = self._choices[number]
        config = SegmentConfig(
            model=choice.model, adapter=choice.adapter, diameter_px=self._diameter_px
        )
        job = self._job = SegmentJob(self._field.open, RunRequest(config), "comparison")
        job.succeeded.connect(self._on_segmented)
        job.failed.connect(self.failed)
        job.crashed.connect(self.crashed)
        job.start()

    def _on_segmented(self, outcome: Outcome) -> None:
        from dinomask.run.segment import Segmentation

        found = outcome.segmentation
        if not isinstance(found, Segmentation) or found.labels_yx is None or not self._live:
            return
        self._labels.append(found.labels_yx)
        # another size would change more than the adapter does
        self._diameter_px = found.diameter_px or self._diameter_px
        if len(self._labels) < len(self._choices):
            self._next()
            return
        self._job = None
        worker: Any = create_worker(self._compare, _start_thread=False)
        worker.returned.connect(self._on_compared)
        worker.errored.connect(self.crashed)
        worker.start()

    def _compare(self) -> Compared:
        from dinomask.measure.changes import compare

        before_yx, after_yx = self._labels
        return Compared(self._field, before_yx, after_yx, compare(before_yx, after_yx))

    def _on_compared(self, compared: Compared) -> None:
        if self._live:
            self.succeeded.emit(compared)
