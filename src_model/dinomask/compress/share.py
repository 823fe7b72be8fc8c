"""Let neighbouring blocks of a plain transformer share attention and MLP.

As in ALBERT (Lan et al., arXiv 1909.11942), but norms and layer scales stay each block's
own. Blocks are as many as before, so it makes a model smaller and not faster; it needs
distillation to work again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dinomask.compress.prune import blocks_of, transformer_of, with_shape
from dinomask.config import NetworkShape
from dinomask.nets.reshape import tie_blocks

if TYPE_CHECKING:
    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import ShareSettings
    from dinomask.nets.centermask import CenterMask


class Share:
    """Let the blocks of each group use the first one's weights."""

    def reason_against(self, subject: Subject, settings: ShareSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        model = subject.model
        if transformer_of(model.backbone) is None:
            return f"{model.config.backbone} is no plain transformer (DINOv2, ViT, MAE, CLIP)"
        if (model.config.shape or NetworkShape()).shared:
            return "its blocks share weights already"
        if not plan_groups(model, settings.group):
            return "no neighbouring blocks have layers of the same shapes"
        return None

    def apply(self, subject: Subject, settings: ShareSettings, work: Work) -> Subject:
        """Tie the weights."""
        model = subject.model
        owners = plan_groups(model, settings.group)
        tie_blocks(model, owners)
        with_shape(model, shared=tuple(owners.items()))
        work.note(
            f"{len(owners)} of {len(blocks_of(model))} blocks use an earlier one's weights;"
            " follow this by distil"
        )
        return subject


def plan_groups(model: CenterMask, group: int) -> dict[int, int]:
    """Return the first block of the group of each other block, where all shapes are the same."""
    shapes = [
        [p.shape for part in (block.attn, block.mlp) for p in part.parameters()]
        for block in blocks_of(model)
    ]
    owners: dict[int, int] = {}
    for i in range(len(shapes)):
        first = i - i % group
        if first != i and shapes[first] == shapes[i]:
            owners[i] = first
    return owners


SHARE = Share()
