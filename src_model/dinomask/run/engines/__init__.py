"""Engines: how the tiles of a plan are worked through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dinomask.run.engines.base import Engine
from dinomask.run.engines.serial import SerialEngine

if TYPE_CHECKING:
    from dinomask.config import EngineConfig

__all__ = ["Engine", "SerialEngine", "make_engine"]


def make_engine(config: EngineConfig) -> Engine:
    """Return the engine of the settings; use it in a ``with`` block, or close it.

    Raises
    ------
    EngineError
        If the engine needs a package that is not installed.
    """
    if config.engine == "processes":
        from dinomask.run.engines.processes import ProcessEngine

        return ProcessEngine(config.workers)
    if config.engine == "dask":
        from dinomask.run.engines.cluster import DaskEngine

        return DaskEngine(config.workers, config.scheduler)
    return SerialEngine()
