"""Cheaper attention with the weights a model has: windows, and merging of similar tokens.

See `dinomask.nets.windows` and `dinomask.nets.merging`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dinomask.compress.prune import transformer_of
from dinomask.nets.centermask import CenterMask

if TYPE_CHECKING:
    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import TokenMergeSettings, WindowSettings


def rebuilt(model: CenterMask, **changes: Any) -> CenterMask:
    """Return a model of another architecture with the same weights."""
    other = CenterMask(dataclasses.replace(model.config, **changes))
    other.load_state_dict(model.state_dict())
    return other.eval()


def _reason(subject: Subject, *, windows: bool) -> str | None:
    config = subject.model.config
    if transformer_of(subject.model.backbone) is None:
        return f"{config.backbone} is no plain transformer (DINOv2, ViT, MAE, CLIP)"
    if config.merge_tokens and windows:
        return "it merges tokens, which then lie in no window"
    if config.window_tokens and not windows:
        return "it attends within windows, in which merged tokens have no place"
    return None


class TokenMerging:
    """Merge similar tokens in each block."""

    def reason_against(self, subject: Subject, settings: TokenMergeSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return _reason(subject, windows=False)

    def apply(self, subject: Subject, settings: TokenMergeSettings, work: Work) -> Subject:
        """Rebuild the model with merging."""
        model = rebuilt(subject.model, merge_tokens=settings.tokens)
        work.note("products saved depend on the tile; at most half of the tokens merge a block")
        return dataclasses.replace(subject, model=model)


class WindowAttention:
    """Let most blocks attend within windows."""

    def reason_against(self, subject: Subject, settings: WindowSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return _reason(subject, windows=True)

    def apply(self, subject: Subject, settings: WindowSettings, work: Work) -> Subject:
        """Rebuild the model with windows."""
        model = rebuilt(subject.model, window_tokens=settings.tokens)
        work.note(f"tiles of up to {settings.tokens} patches a side are not changed by it")
        return dataclasses.replace(subject, model=model)


MERGING = TokenMerging()
WINDOWS = WindowAttention()
