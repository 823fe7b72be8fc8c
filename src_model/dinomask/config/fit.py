"""Which weights a training changes, and how fast."""

from __future__ import annotations

import dataclasses
from typing import Literal

from dinomask.config.checks import require
from dinomask.config.model import LoraSettings


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """The way to fit: what of the model learns. The heads always do, unless told otherwise."""

    mode: Literal["full", "late", "lora", "hybrid", "frozen"] = "full"
    """What of the backbone learns: all of it (full), its last blocks (late), LoRA matrices beside
    its blocks (lora), its last blocks and LoRA beside the earlier ones (hybrid), nothing (frozen).
    """

    late_blocks: int = 4
    """Number of last blocks that learn; in networks of stages, residual blocks count."""

    backbone_rate: float | None = None
    """Peak learning rate of the backbone's own weights; None takes the heads'."""

    lora_rate: float | None = None
    """Peak learning rate of the LoRA matrices; None takes the heads'."""

    layer_decay: float = 1.0
    """Rates fall by this factor from each block of the backbone to the one before it; the last
    block has the full rate."""

    lora: LoraSettings = LoraSettings()
    """Where LoRA is used. Without `blocks`, lora adapts the late half, hybrid all earlier ones."""

    def __post_init__(self) -> None:
        require(self.late_blocks >= 1, "at least one late block", self.late_blocks, "Use 4.")
        for name in ("backbone_rate", "lora_rate"):
            rate = getattr(self, name)
            require(
                rate is None or rate > 0,
                f"{name} above 0",
                rate,
                "Leave it out for the heads' rate; to keep the backbone, fit with 'frozen'.",
            )
        require(
            0 < self.layer_decay <= 1,
            "a layer decay above 0, at most 1",
            self.layer_decay,
            "Use 1 for the same rate in all blocks.",
        )

    @property
    def uses_lora(self) -> bool:
        """Whether LoRA matrices learn."""
        return self.mode in ("lora", "hybrid")
