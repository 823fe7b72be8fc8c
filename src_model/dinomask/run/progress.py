"""What a run tells while it works."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from dinomask.instances import Instances


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes
    ----------
    stage : such as "size", "detect", "stitch" or "render"
    done, total : steps of this stage
    elapsed_s : since the stage began
    resumed : steps that an earlier, interrupted run had done already
    """

    stage: str
    done: int
    total: int
    elapsed_s: float
    resumed: int = 0

    @property
    def eta_s(self) -> float | None:
        """Seconds left in this stage, from its speed so far; None before the first step."""
        done_now = self.done - self.resumed
        if done_now <= 0:
            return None
        return self.elapsed_s / done_now * (self.total - self.done)


OnTile = Callable[[tuple[float, float, float, float], Instances, tuple[int, ...]], None]
"""Called with a tile's core in image pixels (y0, x0, y1, x1), what was found there, and the
place of its plane in a stack, `()` of one image, as it is done; in the thread of the run, which
waits for it."""

OnProgress = Callable[[Progress], None]
"""Called between steps; raising `CancelledError` stops the run."""
