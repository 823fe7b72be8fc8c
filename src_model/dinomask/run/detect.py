"""The detect stage: every tile that the ledger misses goes through an engine into it."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import TilesFailedError
from dinomask.image.watch import Watch
from dinomask.run.progress import Progress
from dinomask.tiles.ledger import STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from dinomask.instances import Array, Instances
    from dinomask.run.engines import Engine
    from dinomask.run.engines.tile_work import TileResult, TileWork
    from dinomask.run.predictor import Predictor
    from dinomask.run.progress import OnProgress, OnTile
    from dinomask.tiles.ledger import Ledger
    from dinomask.tiles.plan import TilePlan

_UNWRITTEN = 16
"""Results that may wait to be written, to bound memory where the disk is slow."""


@dataclasses.dataclass
class Detected:
    """What became of a run's tiles.

    Attributes
    ----------
    n_tiles : all of them
    n_resumed : done by an earlier, interrupted run
    n_blank : too even to be shown to the network
    n_failed : without a result
    """

    n_tiles: int
    n_resumed: int = 0
    n_blank: int = 0
    n_failed: int = 0


@dataclasses.dataclass(frozen=True)
class FailedTile:
    """A tile whose objects are missing.

    Attributes
    ----------
    index : its number
    core_yxyx_px : the part of the image that it owns, half-open, in image pixels
    reason : why it failed
    """

    index: int
    core_yxyx_px: tuple[float, float, float, float]
    reason: str

    @property
    def place(self) -> str:
        """Where it is, in words."""
        y0, x0, y1, x1 = self.core_yxyx_px
        return f"y {y0:.0f} to {y1:.0f}, x {x0:.0f} to {x1:.0f}"


def detect(
    work: TileWork,
    predictor: Predictor,
    ledger: Ledger,
    engine: Engine,
    on_progress: OnProgress | None = None,
    *,
    first: Iterable[int] = (),
    on_tile: OnTile | None = None,
) -> Detected:
    """Work through the tiles that are not done, and record what becomes of each.

    A tile that fails is noted in the ledger with the reason, and gets another
    try in the next run.

    Parameters
    ----------
    work, predictor : what to do with a tile
    ledger : of as many tiles
    engine : how tiles are worked through
    on_progress : called after each tile and, with the same figures, while
        waiting; may raise to stop
    first : tiles to work on before all others
    on_tile : called after each tile; those of an earlier run come first

    Raises
    ------
    TilesFailedError
        If there is no tile with a result.
    SourceChangedError
        If the image vanishes or changes; what was found before stays.
    OutputError
        If the ledger can't be written.
    EngineError
        If workers can't be started or are lost for good.
    """
    started = time.monotonic()
    states = ledger.states()
    open_ones = np.isin(states, [STATES.index("pending"), STATES.index("failed")])
    counts = Detected(len(states), n_blank=int(np.count_nonzero(states == STATES.index("blank"))))
    done = counts.n_resumed = len(states) - int(np.count_nonzero(open_ones))
    watch = Watch(work.image)

    def tell() -> None:
        watch()
        if on_progress:
            elapsed_s = time.monotonic() - started
            on_progress(Progress("detect", done, len(states), elapsed_s, counts.n_resumed))

    def show(index: int, instances: Instances | None) -> None:
        if on_tile and instances is not None:
            tile = work.plan[index % len(work.plan)]
            on_tile(work.plan.core_image_yxyx(tile), instances, work.place(index))

    if on_tile:
        for index, instances in ledger.records():
            show(index, instances)
            tell()
    pending = _in_order(open_ones, first)
    # closed at once when something stops the run, so that no worker goes on
    with (
        _Writer(ledger) as writer,
        contextlib.closing(engine.map(work, predictor, pending, tell)) as results,
    ):
        for result in results:
            writer.put(result)
            show(result.index, result.instances)
            done += 1
            counts.n_blank += result.blank
            counts.n_failed += result.instances is None
            tell()
    if counts.n_failed == counts.n_tiles > 0:
        raise _all_failed(ledger)
    return counts


def _in_order(open_ones: Array, first: Iterable[int]) -> Iterator[int]:
    """Yield the tiles to do, some of them before all others."""
    left = open_ones.copy()
    for index in first:
        if left[index]:
            left[index] = False
            yield index
    yield from (index for index in range(len(left)) if left[index])


def failed_tiles(plan: TilePlan, ledger: Ledger) -> tuple[FailedTile, ...]:
    """List the tiles of one image that failed, and why."""
    return tuple(
        FailedTile(index, plan.core_image_yxyx(plan[index]), reason)
        for index, reason in ledger.failed().items()
    )


def _all_failed(ledger: Ledger) -> TilesFailedError:
    reasons = sorted(set(ledger.failed().values()))
    more = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
    return TilesFailedError(
        expected="at least one tile that can be segmented",
        got=f"{ledger.n_tiles} that failed: {reasons[0]}{more}",
        remedy="Mend that and run the same command again.",
    )


class _Writer:
    """Writes records in a thread, while the next tiles are worked on."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._results: queue.Queue[TileResult | None] = queue.Queue(_UNWRITTEN)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="dinomask-ledger")

    def put(self, result: TileResult) -> None:
        """Have a result recorded; raises what went wrong with an earlier one."""
        if self._error is not None:
            raise self._error
        self._results.put(result)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # also when the run is stopped: what was found is kept
        self._results.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        while (result := self._results.get()) is not None:
            if self._error is None:
                try:
                    self._write(result)
                # raised again in the thread of the run
                except Exception as error:  # noqa: BLE001
                    self._error = error

    def _write(self, result: TileResult) -> None:
        if result.instances is None:
            self._ledger.fail(result.index, result.reason)
        else:
            self._ledger.write(result.index, result.instances, result.blank)
