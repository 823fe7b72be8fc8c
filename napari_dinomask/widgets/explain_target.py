"""What the Explain panel looks at: an image, perhaps labels on it, and a model."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from dinomask.config import DetectConfig
from napari_dinomask.layers import facts_of, made_by, open_layer, view_of
from napari_dinomask.session import config_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Labels

    from dinomask.config import SegmentConfig
    from dinomask.image.source import Image
    from napari_dinomask.layers import PlaneView


@dataclasses.dataclass(frozen=True)
class ExplainTarget:
    """One plane of an image, as it is on display.

    Attributes
    ----------
    viewer, image : where, and which layer
    labels : on the image; None if none are chosen
    view : the plane
    config : model and settings: the labels' own where the model is theirs
    diameter_px : of the objects, from the labels' run; None if unknown
    """

    viewer: ViewerModel
    image: ImageLayer
    labels: Labels | None
    view: PlaneView
    config: SegmentConfig
    diameter_px: float | None

    @staticmethod
    def of(
        viewer: ViewerModel,
        image: ImageLayer,
        labels: Labels | None,
        model: str,
        adapter: str | None,
    ) -> ExplainTarget:
        """Collect it from the layers.

        Raises
        ------
        AxesError
            If the plane on display can't be told.
        """
        view = view_of(image, viewer.dims)
        report = {} if labels is None else made_by(labels)
        config = config_of(report, facts_of(image, view))
        detect = report.get("settings", {}).get("detect", {})
        config = dataclasses.replace(
            config,
            model=model,
            adapter=adapter,
            detect=DetectConfig(score_threshold=detect.get("score_threshold")),
        )
        diameter_px = report.get("diameter_px")
        return ExplainTarget(
            viewer, image, labels, view, config, float(diameter_px) if diameter_px else None
        )

    @property
    def key(self) -> tuple[object, ...]:
        """What a computed result depends on."""
        return id(self.image), self.view, self.config, self.diameter_px

    @property
    def labels_displayed(self) -> tuple[int, int]:
        """Axes of the labels along height and width."""
        missing = self.image.ndim - (self.image if self.labels is None else self.labels).ndim
        return self.view.displayed[0] - missing, self.view.displayed[1] - missing

    def opener(self) -> Callable[[], Image]:
        """Return what opens the image's plane, in a thread."""
        return functools.partial(open_layer, self.image, self.view, self.config.channels)
