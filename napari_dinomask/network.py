"""The only place of the plugin that imports torch; called from worker threads.

napari starts in seconds without torch, and torch takes seconds to import.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from dinomask.errors import InputError, NoAttentionError
from dinomask.nets.adapter_manifest import find_adapter, read_adapter_manifest
from dinomask.nets.catalogue import find_model, read_manifest

if TYPE_CHECKING:
    from dinomask.adapt.prompt import Prompter
    from dinomask.config import DetectConfig, SegmentConfig
    from dinomask.explain.attention import TileAttention
    from dinomask.explain.heads import TileHeads
    from dinomask.explain.missed import Reason
    from dinomask.explain.proposed import Proposals
    from dinomask.explain.seen import SeenImage
    from dinomask.image.source import Image
    from dinomask.image.stack import Stack
    from dinomask.run.planes import StackSegmentation
    from dinomask.run.predictor import Predictor
    from dinomask.run.progress import OnProgress, OnTile
    from dinomask.run.segment import Segmentation
    from dinomask.tiles.plan import Tile
    from napari_dinomask.session import RunRequest

_LOADED_LIBRARIES = Path("/proc/self/maps")


class Network:
    """The model that was used last, kept so that the next run starts at once."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        """To be held by the one thread that uses the network."""
        self._loading = threading.Lock()
        self._key: tuple[str, ...] = ()
        self._predictor: Predictor | None = None

    def load(self, config: SegmentConfig) -> Predictor:
        """Return the model of a segmentation's settings, loaded only if it is another.

        Raises
        ------
        ModelError
            If it can't be loaded.
        """
        _keep_triton_from_mesa()
        from dinomask.run.predictor import Predictor

        with self._loading:
            folder = find_model(config.model)
            key = (str(folder), read_manifest(folder).weights_sha256, config.device)
            if config.adapter is not None:
                adapter = find_adapter(config.adapter)
                key += (str(adapter), read_adapter_manifest(adapter).tensors_sha256)
            if self._predictor is None or key != self._key:
                # two models at once may not fit into memory
                self._predictor = None
                self._predictor, self._key = Predictor.load(config), key
            return self._predictor

    def segment(
        self, image: Image, request: RunRequest, on_progress: OnProgress, on_tile: OnTile
    ) -> Segmentation:
        """Run `dinomask.run.segment.segment` with the model of the settings."""
        predictor = self.load(request.config)
        from dinomask.run.segment import segment

        return segment(
            image,
            request.out,
            request.config,
            overwrite=request.overwrite,
            restart=request.restart,
            predictor=predictor,
            on_progress=on_progress,
            first_yxyx_px=request.first_yxyx_px,
            on_tile=on_tile,
        )

    def segment_planes(
        self, stack: Stack, request: RunRequest, on_progress: OnProgress, on_tile: OnTile
    ) -> StackSegmentation:
        """Run `dinomask.run.planes.segment_planes` with the model of the settings."""
        predictor = self.load(request.config)
        from dinomask.run.planes import segment_planes

        return segment_planes(
            stack,
            request.out,
            request.config,
            request.planes,
            overwrite=request.overwrite,
            restart=request.restart,
            predictor=predictor,
            on_progress=on_progress,
            first_place=request.first_place,
            first_yxyx_px=request.first_yxyx_px or (0, 0, 0, 0),
            on_tile=on_tile,
        )

    def prompter(self, image: Image, config: SegmentConfig, diameter_px: float | None) -> Prompter:
        """Return what answers clicks on an image, with the model of the settings.

        Parameters
        ----------
        image : which the clicks are on
        config : model, normalisation and tiles
        diameter_px : of the objects, in image pixels; None estimates it

        Raises
        ------
        ModelError
            If the model can't be loaded.
        InputError
            If the image can't be read, or shows nothing to estimate the size from.
        """
        predictor = self.load(config)
        from dinomask.adapt.prompt import Prompter
        from dinomask.image.normalise import fit_normaliser
        from dinomask.run.size import estimate_diameter

        normaliser = fit_normaliser(image, config.normalise)
        if diameter_px is None:
            diameter_px = estimate_diameter(image, normaliser, predictor).diameter_px
        if diameter_px is None:
            raise InputError(
                expected="objects whose size can be estimated",
                got="an image in which the model sees none",
                remedy="Paint a few cells, or segment with their size given, and begin again.",
            )
        scale = predictor.target_diameter_px / diameter_px
        return Prompter(predictor, image, normaliser, scale, config.tiles)

    def seen(self, image: Image, config: SegmentConfig, diameter_px: float | None) -> SeenImage:
        """Return an image as the model of the settings sees it, to look inside.

        Parameters
        ----------
        image : what is looked at
        config : model, normalisation and tiles
        diameter_px : of the objects, in image pixels; None estimates it

        Raises
        ------
        ModelError
            If the model can't be loaded.
        InputError
            If the image can't be read, or shows nothing to estimate the size from.
        """
        predictor = self.load(config)
        from dinomask.explain.seen import SeenImage

        known = dataclasses.replace(config, diameter_px=diameter_px or config.diameter_px)
        return SeenImage.of(image, known, predictor)

    def inside(self, seen: SeenImage, tile: Tile) -> TileInside:
        """Look at a tile once, and keep all that is to be seen of it.

        Without attention where the backbone is convolutional.
        """
        from dinomask.explain.heads import heads_of, look_inside

        with self.turn:
            try:
                attention, heads = look_inside(seen, tile)
            except NoAttentionError as error:
                return TileInside(heads_of(seen, tile), None, error)
        return TileInside(heads, attention)

    def reason(
        self, inside: TileInside, point: tuple[float, float], config: DetectConfig
    ) -> Reason:
        """Say why there is an object at a place of a tile, or none; see `why_missed`."""
        from dinomask.explain.missed import why_missed
        from dinomask.explain.proposed import proposals_of

        with self.turn:
            if inside.proposals is None:
                inside.proposals = proposals_of(inside.heads, config)
            return why_missed(inside.heads, point, config, inside.proposals)


@dataclasses.dataclass
class TileInside:
    """What the network did with one tile.

    Attributes
    ----------
    heads : features and the detector's answers
    attention : of all layers; None for a convolutional backbone
    why_none : why there is no attention
    proposals : what reached the mask head; None until it is asked for
    """

    heads: TileHeads
    attention: TileAttention | None
    why_none: NoAttentionError | None = None
    proposals: Proposals | None = None


def _keep_triton_from_mesa() -> None:
    """Make torch do without triton where importing it would end the process.

    Mesa's OpenGL drivers and triton bring an LLVM each; loading the second one
    beside the first is a segmentation fault. torch imports triton by itself,
    but needs it for `torch.compile` only.
    """
    if "triton" in sys.modules or not _LOADED_LIBRARIES.is_file():
        return
    if "libLLVM" in _LOADED_LIBRARIES.read_text(errors="replace"):
        # Python's own way to say: this import fails
        sys.modules["triton"] = None  # type: ignore[assignment]


network = Network()
"""Shared by all panels of a napari process."""
