"""Colours of an image's tokens, computed in a thread; without Qt and napari."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from dinomask.run.progress import Progress
from napari_dinomask.exploring import using_network
from napari_dinomask.network import network

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.config import SegmentConfig
    from dinomask.explain.pca import TokenColours
    from dinomask.image.source import Image
    from dinomask.run.predictor import Predictor
    from dinomask.run.progress import OnProgress


@dataclasses.dataclass(frozen=True, eq=False)
class Coloured:
    """An image's tokens in colours.

    Attributes
    ----------
    image : what was coloured
    after : by the model with its adapter, if it has one
    before : by the checkpoint alone, whose components both have; None without an adapter
    """

    image: Image
    after: TokenColours
    before: TokenColours | None = None

    @property
    def titled(self) -> dict[str, TokenColours]:
        """Both by what they are."""
        if self.before is None:
            return {"features": self.after}
        return {"before": self.before, "after": self.after}


@dataclasses.dataclass(frozen=True)
class ColourWish:
    """What is to be coloured.

    Attributes
    ----------
    open_image : opens the image or a part of it; called in the thread
    config : model, adapter, tiles
    diameter_px : of the objects; None estimates it
    layer : of the network; -1 is the last
    compare : colour without the adapter, too, in the same colours
    """

    open_image: Callable[[], Image]
    config: SegmentConfig
    diameter_px: float | None
    layer: int = -1
    compare: bool = False

    def run(self, on_progress: OnProgress) -> Coloured:
        """Colour it.

        Raises
        ------
        InputError, ModelError
            If the image can't be read, or the model not be loaded.
        SettingsError, ExplainError
            If there is no such layer, or all places are alike.
        CancelledError
            If `on_progress` raises it.
        """
        on_progress(Progress("open", 0, 0, 0.0))
        image = self.open_image()
        with using_network(on_progress):
            on_progress(Progress("load", 0, 0, 0.0))
            bare = dataclasses.replace(self.config, adapter=None)
            first = bare if self.compare else self.config
            predictor = network.load(first)
            diameter_px = self.diameter_px or _diameter_px(image, predictor, on_progress)
            found = _colour(image, first, diameter_px, self.layer, predictor, None, on_progress)
            if not self.compare:
                return Coloured(image, found)
            on_progress(Progress("load", 0, 0, 0.0))
            predictor = network.load(self.config)
            args = (image, self.config, diameter_px, self.layer, predictor)
            return Coloured(image, _colour(*args, found, on_progress), found)


def _colour(
    image: Image,
    config: SegmentConfig,
    diameter_px: float,
    layer: int,
    predictor: Predictor,
    basis: TokenColours | None,
    on_progress: OnProgress,
) -> TokenColours:
    from dinomask.explain.pca import colour_tokens

    sized = dataclasses.replace(config, diameter_px=diameter_px)
    return colour_tokens(
        image, sized, layer=layer, basis=basis, predictor=predictor, on_progress=on_progress
    )


def _diameter_px(image: Image, predictor: Predictor, on_progress: OnProgress) -> float:
    """Estimate the size of the objects; where there are none, the image is taken as it is."""
    from dinomask.image.normalise import fit_normaliser
    from dinomask.run.size import estimate_diameter

    on_progress(Progress("size", 0, 0, 0.0))
    found = estimate_diameter(image, fit_normaliser(image), predictor).diameter_px
    return predictor.target_diameter_px if found is None else found
