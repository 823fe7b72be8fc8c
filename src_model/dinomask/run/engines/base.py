"""What every engine is: a way to work through the tiles of a plan."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType
    from typing import Self

    from dinomask.config import SegmentConfig
    from dinomask.run.engines.tile_work import TileResult, TileWork
    from dinomask.run.predictor import Predictor


class Engine(abc.ABC):
    """Applies the work of a run to tiles; use it in a ``with`` block.

    Workers stay between runs, so that several images or planes load the model
    once. Every engine gives the same instances, to the last bit where machines,
    devices and the number of threads (of each worker) are the same.

    Attributes
    ----------
    name : as in the settings
    workers : processes that work; None while a cluster has not been asked
    """

    name: str
    workers: int | None

    @abc.abstractmethod
    def map(
        self,
        work: TileWork,
        predictor: Predictor,
        tiles: Iterable[int],
        poll: Callable[[], None],
    ) -> Generator[TileResult, None, None]:
        """Yield the result of each tile as it is done, in any order.

        Parameters
        ----------
        work : what to do with a tile
        predictor : the model; other processes load the same one
        tiles : the tiles' numbers; taken as needed, never listed
        poll : called again and again while waiting; may raise to stop

        Raises
        ------
        EngineError
            If workers can't be started or are lost for good.
        ModelError
            If a worker can't load the model.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let the workers go."""

    def describe(self, config: SegmentConfig) -> dict[str, Any]:
        """Return name, workers and threads of each, for reports.

        Threads split sums differently, so their number shows in the last bits.
        """
        return {"name": self.name, "workers": self.workers, "threads": config.threads or 1}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
