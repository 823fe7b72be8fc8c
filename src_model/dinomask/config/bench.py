"""Settings of the bench that compares compressed models with their original."""

from __future__ import annotations

import dataclasses
from typing import Literal

from dinomask.config.checks import require


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """One comparison of several variants of a model, on the user's images and machine."""

    bench_images: int = 24
    """Images segmented by every variant at most, evenly spread over those given."""

    rounds: int = 20
    """Times that one tile goes through each network, the variants taking turns."""

    feature_tiles: int = 4
    """Tiles on which features are compared; 0 leaves it out."""

    shaken_tiles: int = 4
    """Tiles that are segmented again with noise, blur and other changes; 0 leaves it out."""

    shaken_px: int = 224
    """Side of these tiles, in model pixels, a multiple of 14."""

    clock: Literal["wall", "cpu"] = "wall"
    """What time means: as a clock on the wall shows it, or the processor's own time a thread,
    which is fairer on a machine that does other work."""

    tolerance: float = 1.0
    """Points of AP at IoU 0.5 that a recommended variant may lose."""

    stability: float = 0.9
    """Least S = AP ratio × throughput ratio of a recommended variant."""

    variants_at_once: int | None = None
    """Variants that are loaded at once, the original among them; more are measured in groups, each
    beside the original. None takes as many as fit into the machine's memory."""

    def __post_init__(self) -> None:
        require(
            self.variants_at_once is None or self.variants_at_once >= 2,
            "at least 2 variants at once",
            self.variants_at_once,
            "Use 2, or leave it out.",
        )
        require(self.bench_images >= 1, "at least 1 image", self.bench_images, "Use 24.")
        require(self.rounds >= 1, "at least 1 round", self.rounds, "Use 20.")
        for name in ("feature_tiles", "shaken_tiles"):
            value = getattr(self, name)
            require(value >= 0, f"{name} of at least 0", value, "Use 4.")
        require(
            self.shaken_px >= 56 and self.shaken_px % 14 == 0,
            "tiles whose side is a multiple of 14 and at least 56",
            self.shaken_px,
            "Use 224.",
        )
        require(self.tolerance >= 0, "a loss of at least 0", self.tolerance, "Use 1 point.")
