"""Smaller adapters: LoRA matrices with zeros, or in eight bits.

They change what is stored. A merged adapter costs nothing when segmenting, so there is no
speed to be won.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from dinomask.compress.sparsify import largest
from dinomask.nets.adapters import LORA
from dinomask.nets.packing import quantised

if TYPE_CHECKING:
    from torch import Tensor

    from dinomask.compress.subject import AdapterPart, Subject
    from dinomask.compress.work import Work
    from dinomask.config import LoraSparsifySettings

_A, _B = ".lora_A.", ".lora_B."


def _reason(subject: Subject) -> str | None:
    if subject.adapter is None:
        return "there is no adapter"
    if not any(name.startswith(LORA) for name in subject.adapter.tensors):
        return f"the adapter {subject.adapter.manifest.name} has no LoRA matrices"
    return None


def _with_tensors(subject: Subject, part: AdapterPart, tensors: dict[str, Tensor]) -> Subject:
    return dataclasses.replace(subject, adapter=dataclasses.replace(part, tensors=tensors))


class LoraSparsify:
    """Set the entries of A and B to zero that change the update least."""

    def reason_against(self, subject: Subject, settings: LoraSparsifySettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return _reason(subject)

    def apply(self, subject: Subject, settings: LoraSparsifySettings, work: Work) -> Subject:
        """Return the subject with a sparse adapter."""
        part = subject.adapter
        if part is None:
            return subject
        tensors = dict(part.tensors)
        for name, down in part.tensors.items():
            if not name.startswith(LORA) or _A not in name:
                continue
            up = part.tensors[name.replace(_A, _B)]
            keep_down, keep_up = most_effective(down, up, 1 - settings.ratio)
            tensors[name], tensors[name.replace(_A, _B)] = down * keep_down, up * keep_up
        work.note(f"{settings.ratio:.0%} of LoRA's entries are zero; smaller files, no more speed")
        return _with_tensors(subject, part, tensors)


class LoraInt8:
    """Store A and B in eight bits with a scale a row."""

    def reason_against(self, subject: Subject, settings: None) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return _reason(subject)

    def apply(self, subject: Subject, settings: None, work: Work) -> Subject:
        """Return the subject with a quantised adapter."""
        part = subject.adapter
        if part is None:
            return subject
        tensors = {
            name: quantised(value) if name.startswith(LORA) else value
            for name, value in part.tensors.items()
        }
        manifest = dataclasses.replace(part.manifest, int8=True)
        work.note("LoRA's matrices in eight bits; a quarter of the size, no more speed")
        return _with_tensors(subject, dataclasses.replace(part, manifest=manifest), tensors)


def most_effective(down: Tensor, up: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return where the entries are that change the update B·A most: 1 there, else 0.

    Removing an entry of A changes B·A by its magnitude times the norm of B's column, and
    the other way round.

    Parameters
    ----------
    down, up : A of shape (r, …) and B of shape (outputs, r, …)
    share : of each matrix's entries that stay
    """
    rows, columns = down.flatten(1), up.flatten(1)
    effect_down = rows.abs() * columns.norm(dim=0)[:, None]
    effect_up = columns.abs() * rows.norm(dim=1)[None]
    kept_down, kept_up = largest(effect_down, share), largest(effect_up, share)
    return kept_down.view_as(down), kept_up.view_as(up)


SPARSIFY = LoraSparsify()
INT8 = LoraInt8()
