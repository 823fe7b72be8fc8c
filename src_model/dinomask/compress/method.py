"""What a compression method is. No torch here: forms and command lines list the methods."""

from __future__ import annotations

import dataclasses
import enum
import importlib
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

if TYPE_CHECKING:
    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import CompressConfig


class Stage(enum.IntEnum):
    """When a method's turn is, whatever the order in which methods are named."""

    ADAPTER = 0
    MERGE = 1
    PRUNE = 2
    FACTORISE = 3
    SHARE = 4
    TRAIN = 5
    SPARSIFY = 6
    QUANTISE = 7
    EXPORT = 8


Need = Literal["nothing", "images"]
"""What a method works with beside the model."""


class Implementation(Protocol):
    """The part of a method that needs torch; written once a method, see `Method.load`."""

    def reason_against(self, subject: Subject, settings: Any) -> str | None:
        """Say why this backbone or machine can't do it, in a clause; None if it can."""

    def apply(self, subject: Subject, settings: Any, work: Work) -> Subject:
        """Return the compressed subject; the given one may be changed or used up."""


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to make a model smaller or faster."""

    name: str
    """What it is called on the command line and in manifests."""

    summary: str
    """What it does, in a line."""

    stage: Stage
    """When its turn is."""

    implementation: str
    """Where its `Implementation` is, as ``module:object``; imported when it is used."""

    needs: Need = "nothing"
    """Whether it needs the user's images."""

    gain: str = ""
    """What it makes smaller or faster, and what it doesn't, in a line."""

    @property
    def changes_model(self) -> bool:
        """Whether an adapter must be merged before; only its own compression needn't."""
        return self.stage > Stage.MERGE

    def load(self) -> Implementation:
        """Import the implementation."""
        module, _, name = self.implementation.partition(":")
        return cast("Implementation", getattr(importlib.import_module(module), name))

    def settings(self, config: CompressConfig) -> Any:
        """Return its own settings within those of a compression; None if it has none."""
        return getattr(config, self.name.replace("-", "_"), None)
