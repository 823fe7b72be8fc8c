"""What every engine does with a tile: read it, look at it, keep what it owns."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from dinomask.errors import DinomaskError, SourceChangedError
from dinomask.image.resample import PAD_VALUE, read_scaled
from dinomask.instances import Instances
from dinomask.run.aside import Aside
from dinomask.run.blank import is_blank
from dinomask.run.engines.prefetch import Prefetch
from dinomask.tiles.plan import owned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dinomask.config import SegmentConfig
    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image
    from dinomask.instances import Array
    from dinomask.run.predictor import Predictor
    from dinomask.tiles.plan import TilePlan

CUDA_BATCH = 8
"""Tiles in a batch on CUDA, unless the settings say otherwise."""

_MAX_REASON = 400

T = TypeVar("T")

_on_cuda = threading.Lock()


@dataclasses.dataclass(frozen=True)
class TileResult:
    """What became of one tile.

    Attributes
    ----------
    index : the tile's number
    instances : what it owns, in image pixels; None if it failed
    blank : it was too even to be shown to the network
    reason : why it failed
    """

    index: int
    instances: Instances | None
    blank: bool = False
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class TileWork:
    """The work of one run, which can be sent to other processes: all but the model.

    Attributes
    ----------
    image, normaliser, plan : where tiles come from
    config : settings
    """

    image: Image
    normaliser: Normaliser
    plan: TilePlan
    config: SegmentConfig

    @property
    def n_tiles(self) -> int:
        """Tiles are numbered from 0 up to this."""
        return len(self.plan)

    def place(self, index: int) -> tuple[int, ...]:
        """Return where among the planes a tile lies; `()` as there is one image."""
        return ()

    def batch(self, predictor: Predictor) -> int:
        """Return how many tiles go through the network at once.

        It does not depend on how many are left to do, because the last bits of
        a tile's result may depend on the batch's size.
        """
        default = CUDA_BATCH if predictor.device.type == "cuda" else 1
        return min(self.config.batch or default, self.n_tiles)

    def read(self, index: int) -> Array | None:
        """Return a tile's pixels, shape (3, H, W), float32; None if it is blank."""
        tile = self.plan[index]
        pixels = read_scaled(self.image, self.normaliser, self.plan.scale, tile.read_yxyx_px)
        # the channels of grey are alike
        seen = pixels if self.normaliser.is_rgb else pixels[:1]
        if self.config.tiles.skip_blank and is_blank(self.plan, tile, seen):
            return None
        return pixels

    def keep(self, index: int, found: Instances) -> Instances:
        """Bring what was found in a tile into image pixels; keep what the tile owns."""
        tile = self.plan[index]
        origin = np.array([*tile.read_yxyx_px[:2]] * 2, np.float32)
        boxes = (found.boxes_yxyx_px + origin) / np.float32(self.plan.scale)
        return owned(self.plan, tile, dataclasses.replace(found, boxes_yxyx_px=boxes))


class Batcher:
    """Shows tiles to the network in batches of one size, halved where memory is short.

    Parameters
    ----------
    predictor, config : the model and its settings
    size : tiles at once; smaller batches are filled up, because how a product is
        computed, and so its last bits, may depend on the batch's size
    """

    def __init__(self, predictor: Predictor, config: SegmentConfig, size: int) -> None:
        self.predictor = predictor
        self.config = config
        self.size = size

    def detect(self, tiles: list[Array]) -> list[Instances]:
        """Find the instances of tiles of shape (3, H, W).

        Raises
        ------
        torch.OutOfMemoryError
            If not even one tile fits.
        """
        if len(tiles) <= self.size:
            try:
                return self._detect_filled(tiles)
            except torch.OutOfMemoryError:
                if self.size == 1:
                    raise
            # out of the except clause: the error holds on to the memory of the attempt
            if self.predictor.device.type == "cuda":
                torch.cuda.empty_cache()
            self.size //= 2
        parts = [tiles[i : i + self.size] for i in range(0, len(tiles), self.size)]
        return [found for part in parts for found in self.detect(part)]

    def _detect_filled(self, tiles: list[Array]) -> list[Instances]:
        spare = [np.full_like(tiles[0], PAD_VALUE)] * (self.size - len(tiles))
        batch = np.stack(tiles + spare)
        # two batches of a worker with several threads may not fit into the card's memory
        with _on_cuda if self.predictor.device.type == "cuda" else contextlib.nullcontext():
            found = self.predictor.detect_batch(batch, self.config.detect)
        return found[: len(tiles)]


def predict(
    work: TileWork, predictor: Predictor, tiles: Iterable[int | None], poll: Callable[[], None]
) -> Iterator[TileResult]:
    """Work through tiles; the next ones are read while the network looks at one batch.

    A tile that fails gets a second try by itself. If that fails too, its
    result says why, and the other tiles go on.

    Parameters
    ----------
    work, predictor : what to do
    tiles : their numbers, taken in another thread; None hands over what was read
        so far, without waiting for the batch to be full
    poll : called again and again while waiting; may raise to stop
    """
    batch = work.batch(predictor)
    predictor.network.expect((batch, 3, *work.plan.tile_yx_px), -(-work.n_tiles // batch))
    batcher = Batcher(predictor, work.config, batch)
    waiting: list[_Read] = []
    reading = (index if index is None else _read(work, index) for index in tiles)
    with Prefetch(reading, batcher.size, poll) as ahead, Aside(poll) as aside:
        for read in ahead:
            if isinstance(read, TileResult):
                yield read
            elif read is not None:
                waiting.append(read)
            if waiting and (read is None or len(waiting) >= batcher.size):
                yield from _look(work, batcher, waiting, aside)
                waiting = []
        if waiting:
            yield from _look(work, batcher, waiting, aside)


@dataclasses.dataclass(frozen=True)
class _Read:
    """A tile on its way to the network."""

    index: int
    pixels: Array


def _read(work: TileWork, index: int) -> _Read | TileResult:
    """Read a tile; one that the network need not see is done."""
    pixels, reason = _attempt(lambda: work.read(index))
    if reason:
        # may have been a hiccup of the disk or the network
        pixels, reason = _attempt(lambda: work.read(index))
    if reason:
        return TileResult(index, None, reason=reason)
    if pixels is None:
        return TileResult(index, Instances.empty(), blank=True)
    return _Read(index, pixels)


def _look(
    work: TileWork, batcher: Batcher, batch: list[_Read], aside: Aside
) -> Iterator[TileResult]:
    """Show a batch to the network; where that fails, each tile by itself."""

    def detect(reads: list[_Read]) -> list[Instances]:
        found = batcher.detect([read.pixels for read in reads])
        return [work.keep(r.index, f) for r, f in zip(reads, found, strict=True)]

    together, reason = aside.run(lambda: _attempt(lambda: detect(batch)))
    if together is not None:
        for read, instances in zip(batch, together, strict=True):
            yield TileResult(read.index, instances)
        return
    for read in batch:
        alone, reason = aside.run(functools.partial(_attempt, functools.partial(detect, [read])))
        yield TileResult(read.index, alone[0] if alone else None, reason=reason)


def _attempt(step: Callable[[], T]) -> tuple[T | None, str]:
    """Return a step's result, or the reason why there is none."""
    try:
        return step(), ""
    except SourceChangedError:
        # the other tiles are gone too
        raise
    # whatever is wrong with one tile must not end the work on all others
    except Exception as error:  # noqa: BLE001
        said = " ".join(str(error).split())[:_MAX_REASON]
        if isinstance(error, DinomaskError):
            return None, said
        return None, f"{type(error).__name__}: {said}".rstrip(": ")
