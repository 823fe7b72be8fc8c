"""What a teaching tells: beforehand, on its way, and at its end. No torch here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

Phase = Literal["prepare", "train", "gate"]


@dataclasses.dataclass(frozen=True)
class TeachProgress:
    """Where a teaching stands."""

    phase: Phase
    """Getting ready, learning, or being judged."""

    step: int
    """Optimiser steps done."""

    fraction: float
    """Part of the whole that is done, 0 to 1."""

    elapsed_s: float
    """Seconds of work so far, without pauses."""

    eta_s: float
    """Seconds left."""

    loss: float | None = None
    """Of the last step; None where there was none."""

    held_out: float | None = None
    """Quality on corrected objects that are not learned from, 0 to 1; None where not measured."""


@dataclasses.dataclass(frozen=True)
class TeachResult:
    """What came of a teaching."""

    folder: Path
    """The adapter."""

    promoted: bool
    """Whether the gate let it pass."""

    reason: str
    """Why, or why not, in words."""

    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What was measured; anything json can hold."""


@dataclasses.dataclass(frozen=True)
class Preflight:
    """What a teaching would take, and whether it is worth it."""

    seconds: float
    """How long it will take."""

    memory_mb: float
    """Memory it will need."""

    n_objects: int
    """Objects to learn from."""

    n_held_out: int
    """Objects kept aside for the gate."""

    mode: str
    """What will learn, chosen where the settings say auto."""

    problems: tuple[str, ...] = ()
    """Why it can't begin, in words."""

    warnings: tuple[str, ...] = ()
    """What would make it better, in words."""
