"""The method `fuse`: norms and scales become part of the layers before them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from dinomask.compress.prune import with_shape
from dinomask.config import NetworkShape
from dinomask.nets.fusing import fuse

if TYPE_CHECKING:
    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work


class Fuse:
    """Compute what is a fixed factor of each channel into the layer before it."""

    def reason_against(self, subject: Subject, settings: None) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        shape = subject.model.config.shape or NetworkShape()
        if shape.fused:
            return "its layers are fused already"
        if shape.shared:
            return "its blocks share weights, but each has a scale of its own"
        if not fuse(copy.deepcopy(subject.model.backbone).eval()):
            return f"{subject.model.config.backbone} has no batch norms or layer scales"
        return None

    def apply(self, subject: Subject, settings: None, work: Work) -> Subject:
        """Fuse in place."""
        n = fuse(subject.model.backbone)
        with_shape(subject.model, fused=True)
        work.note(f"{n} norms and scales fused")
        return subject


FUSE = Fuse()
