"""Colours of an image's tokens, computed in a thread; without Qt and napari."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from dinomask.nets.catalogue import find_model
from dinomask.run.progress import Progress
from napari_dinomask.exploring import using_network
from napari_dinomask.network import network

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.config import SegmentConfig
    from dinomask.explain.pca import TokenColours
    from dinomask.explain.seen import SeenImage
    from dinomask.image.source import Image
    from dinomask.instances import Array
    from dinomask.run.predictor import Predictor
    from dinomask.run.progress import OnProgress

UNMOVED = (
    "The layer that is shown is as before, since the adapter changes later ones: "
    "choose the last layer to see it."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Coloured:
    """An image's tokens in colours.

    Attributes
    ----------
    image : what was coloured
    after : by the model with its adapter, if it has one
    before : by the checkpoint alone, whose components both have; None without an adapter
    sentence : how the adapter moved the features, or whether the image is like those of the
        training; empty if that can't be told
    """

    image: Image
    after: TokenColours
    before: TokenColours | None = None
    sentence: str = ""

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
    layer : of the network; -1 is the last, None the library's default
    compare : colour without the adapter, too, in the same colours
    """

    open_image: Callable[[], Image]
    config: SegmentConfig
    diameter_px: float | None
    layer: int | None = None
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
            seen = _Seen(image, first, diameter_px, predictor)
            if not self.compare:
                return Coloured(image, found, sentence=seen.compare_with_training())
            before_nd = seen.tokens()
            on_progress(Progress("load", 0, 0, 0.0))
            predictor = network.load(self.config)
            args = (image, self.config, diameter_px, self.layer, predictor)
            after = _colour(*args, found, on_progress)
            taught = _Seen(image, self.config, diameter_px, predictor)
            said = _say_moved(before_nd, taught.tokens())
            if bool((found.rgb_yxc == after.rgb_yxc).all()):
                said = f"{said} {UNMOVED}"
            return Coloured(image, after, found, said)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """An image at the size of its objects, and a model that looks at some places of it."""

    image: Image
    config: SegmentConfig
    diameter_px: float
    predictor: Predictor

    def _look(self) -> SeenImage:
        from dinomask.explain.seen import SeenImage

        sized = dataclasses.replace(self.config, diameter_px=self.diameter_px)
        return SeenImage.of(self.image, sized, self.predictor)

    def tokens(self) -> Array:
        """Return tokens of the last layer at the same places whatever the model."""
        from dinomask.explain.layer_tokens import sample_tokens

        return next(iter(sample_tokens(self._look(), layer=-1).layers.values()))

    def compare_with_training(self) -> str:
        """Say whether the model was trained on such images; empty where that isn't known."""
        from dinomask.explain.reference import read_reference, typicality

        if self.predictor.adapter is not None:
            return ""
        manifest = self.predictor.manifest
        found = read_reference(find_model(self.config.model), manifest.weights_sha256)
        return "" if found is None else typicality(found, self._look()).sentence


def _say_moved(before_nd: Array, after_nd: Array) -> str:
    from dinomask.explain.shift import shift_by_change

    return shift_by_change(before_nd, after_nd).sentence


def _colour(
    image: Image,
    config: SegmentConfig,
    diameter_px: float,
    layer: int | None,
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
