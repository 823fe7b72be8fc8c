"""How a compressed network differs from the arrangement that its backbone's name stands for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dinomask.config.checks import require

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class NetworkShape:
    """What was removed, split or shared; from it a compressed checkpoint is built again."""

    heads: tuple[int, ...] | None = None
    """Attention heads left in each block of a plain transformer; None leaves them all.
    Its length is the number of blocks left."""

    hidden: tuple[int, ...] | None = None
    """Hidden units left in each block's MLP; None leaves them all."""

    shared: tuple[tuple[int, int], ...] = ()
    """Pairs of a block and the earlier one whose attention and MLP it uses."""

    low_rank: tuple[tuple[str, int], ...] = ()
    """Pairs of a linear layer's path in the model and the rank of the two that replace it."""

    fused: bool = False
    """Whether batch norms are part of the convolutions before them, and layer scales of the
    linear layers before them."""

    sparse_24: bool = False
    """Whether two of each four weights of the blocks' linear layers are zero (2:4), which
    NVIDIA GPUs from Ampere on use."""

    def __post_init__(self) -> None:
        # JSON has no tuples
        for name in ("heads", "hidden"):
            counts = getattr(self, name)
            if counts is not None:
                object.__setattr__(self, name, tuple(int(n) for n in counts))
                require(min(counts, default=0) >= 1, f"at least one of {name}", counts, "Use None.")
        object.__setattr__(self, "shared", tuple((int(a), int(b)) for a, b in self.shared))
        object.__setattr__(self, "low_rank", tuple((str(p), int(r)) for p, r in self.low_rank))
        owners = dict(self.shared)
        require(
            all(owner < block and owner not in owners for block, owner in self.shared),
            "blocks that use an earlier block's own weights",
            self.shared,
            "Let them name the first block of those that share.",
        )
        ranks = [rank for _, rank in self.low_rank]
        require(min(ranks, default=1) >= 1, "ranks of at least 1", ranks, "Use 1 or more.")
        require(
            None in (self.heads, self.hidden) or len(self.heads or ()) == len(self.hidden or ()),
            "as many blocks in heads as in hidden",
            (self.heads, self.hidden),
            "Give one number a block in each.",
        )

    @property
    def depth(self) -> int | None:
        """Number of blocks left; None leaves them all."""
        counts = self.heads if self.heads is not None else self.hidden
        return None if counts is None else len(counts)

    @property
    def plain(self) -> bool:
        """Whether nothing differs."""
        return self == NetworkShape()

    @classmethod
    def parse(cls, raw: NetworkShape | Mapping[str, Any] | None) -> NetworkShape | None:
        """Return the shape that a manifest holds; None where nothing differs."""
        if raw is None:
            return None
        shape = raw if isinstance(raw, NetworkShape) else cls(**raw)
        return None if shape.plain else shape
