"""Features of the objects of several images, segmented first where there are no labels."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dinomask.config import SegmentConfig
from dinomask.errors import ExplainError
from dinomask.explain.objects import ObjectFeatures
from dinomask.explain.pooling import object_features
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.image.source import Image
    from dinomask.run.progress import OnProgress


@dataclasses.dataclass(frozen=True)
class ImageObjects:
    """An image, and the labels of its objects if there are any.

    Attributes
    ----------
    image : any size
    labels : what `object_features` takes; None segments the image first
    name : of the image, in the table; None takes its own
    """

    image: Image
    labels: Any = None
    name: str | None = None


def collect_features(
    images: Sequence[ImageObjects],
    config: SegmentConfig | None = None,
    *,
    layers: Sequence[int] = (),
    predictor: Predictor | None = None,
    on_progress: OnProgress | None = None,
) -> ObjectFeatures:
    """Compute the features of all objects of several images.

    Parameters
    ----------
    images : at least one, of different names
    config : model, adapter, object size
    layers : of the backbone; negative ones count from the last; none takes the one at
        three quarters of the depth
    predictor : a loaded model; None loads that of `config`
    on_progress : told after each step; may raise to stop

    Raises
    ------
    ExplainError
        If there is no image, or two have the same name.
    InputError, SettingsError, ModelError
        As `object_features` and `segment`.
    """
    if not images:
        raise ExplainError(expected="at least one image", got="none", remedy="Name an image.")
    config = config or SegmentConfig()
    predictor = Predictor.of(config, predictor)
    parts = []
    for item in images:
        labels, table, own = item.labels, None, config
        if labels is None:
            found = segment(item.image, config=config, predictor=predictor, on_progress=on_progress)
            labels, table = found.labels_yx, found.table
            own = dataclasses.replace(config, diameter_px=found.diameter_px or "auto")
        parts.append(
            object_features(
                item.image,
                labels,
                table=table,
                layers=layers,
                config=own,
                predictor=predictor,
                name=item.name,
                on_progress=on_progress,
            )
        )
    return ObjectFeatures.concatenate(parts)
