"""What a review works on: an image, the labels that lie on it, and how they were made."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from napari_dinomask.layers import add_empty, facts_of, made_by, open_layer, view_of
from napari_dinomask.session import config_of, suggest_output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Labels

    from dinomask.config import SegmentConfig
    from dinomask.image.source import Image
    from napari_dinomask.layers import PlaneView


@dataclasses.dataclass(frozen=True)
class ReviewTarget:
    """One label image to be corrected.

    Attributes
    ----------
    viewer, image, labels : where, and which layers
    displayed : axes of the labels along height and width
    config : how the labels were made, or would be
    diameter_px : of the objects; None if unknown
    name : of the image
    beside : where the labels' file is or would be; None if the image has none
    path : of the image; None if it has no file
    """

    viewer: ViewerModel
    image: ImageLayer
    labels: Labels
    displayed: tuple[int, int]
    config: SegmentConfig
    diameter_px: float | None
    name: str
    beside: Path | None
    path: Path | None

    @staticmethod
    def of(viewer: ViewerModel, image: ImageLayer, labels: Labels | None) -> ReviewTarget:
        """Collect it from the layers; without labels, empty ones are made.

        Raises
        ------
        AxesError
            If the plane on display can't be told.
        """
        view = view_of(image, viewer.dims)
        facts = facts_of(image, view)
        labels = labels or add_empty(viewer, image, view)
        missing = image.ndim - labels.ndim
        report = made_by(labels)
        diameter_px = report.get("diameter_px")
        return ReviewTarget(
            viewer,
            image,
            labels,
            (view.displayed[0] - missing, view.displayed[1] - missing),
            config_of(report, facts),
            float(diameter_px) if diameter_px else None,
            facts.name,
            suggest_output(facts) if facts.path is not None else None,
            facts.path,
        )

    @property
    def model_name(self) -> str:
        """The model with its adapter, as the journal notes it."""
        adapter = self.config.adapter
        return f"{self.config.model}+{adapter}" if adapter else self.config.model

    def opener(self) -> Callable[[], Image]:
        """Return what opens the image's plane that is on display now, in a thread.

        Raises
        ------
        AxesError
            If the plane on display can't be told.
        """
        view: PlaneView = view_of(self.image, self.viewer.dims)
        return functools.partial(open_layer, self.image, view, self.config.channels)
