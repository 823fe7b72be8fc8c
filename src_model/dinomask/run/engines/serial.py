"""One batch of tiles after another, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dinomask.run.engines.base import Engine
from dinomask.run.engines.tile_work import predict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from dinomask.config import SegmentConfig
    from dinomask.run.engines.tile_work import TileResult, TileWork
    from dinomask.run.predictor import Predictor


class SerialEngine(Engine):
    """The network in one thread, reading in another; this one waits, and can stop waiting."""

    name = "serial"
    workers = 1

    def map(
        self,
        work: TileWork,
        predictor: Predictor,
        tiles: Iterable[int],
        poll: Callable[[], None],
    ) -> Generator[TileResult, None, None]:
        """Yield the result of each tile."""
        for result in predict(work, predictor, tiles, poll):
            poll()
            yield result

    def close(self) -> None:
        """Do nothing: there is no worker."""

    def describe(self, config: SegmentConfig) -> dict[str, Any]:
        """Return name, workers and threads, for reports."""
        return super().describe(config) | {"threads": torch.get_num_threads()}
