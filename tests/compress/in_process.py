"""A variant that is loaded in the test's own process, which saves importing torch again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dinomask.compress.bench.worker import Loaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.config import SegmentConfig


class InProcess:
    """Answers as a `VariantProcess` does."""

    def __init__(self, name: str, config: SegmentConfig, tick: Callable[[], None]) -> None:
        self.loaded = Loaded(config)
        self.tick = tick

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, what: str, **arguments: Any) -> Any:
        self.tick()
        return getattr(self.loaded, what)(**arguments)

    def close(self) -> None:
        pass
