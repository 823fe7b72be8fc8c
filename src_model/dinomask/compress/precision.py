"""Methods that leave the network as it is: merging an adapter, and another arithmetic."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from dinomask.nets.precision import has_fast_bf16, processor_abilities

if TYPE_CHECKING:
    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work


class Merge:
    """Merge an adapter into its checkpoint."""

    def reason_against(self, subject: Subject, settings: None) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return "there is no adapter to merge" if subject.adapter is None else None

    def apply(self, subject: Subject, settings: None, work: Work) -> Subject:
        """Return the plain model, which predicts as the model with the adapter on does."""
        name = subject.adapter.manifest.name if subject.adapter else ""
        work.note(f"adapter {name} merged")
        return subject.merged()


@dataclasses.dataclass(frozen=True)
class Precision:
    """Let a model be computed in another arithmetic wherever the user leaves the choice to it.

    Attributes
    ----------
    kind : of matrix products; sums, norms and losses stay in float32 (autocast)
    """

    kind: Literal["bf16", "fp16"]

    def reason_against(self, subject: Subject, settings: None) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return None

    def apply(self, subject: Subject, settings: None, work: Work) -> Subject:
        """Note the arithmetic in the manifest, from which a predictor takes it."""
        can = has_fast_bf16(work.device) or processor_abilities()["avx512_bf16"]
        if self.kind == "bf16" and not can:
            work.warn(
                "bfloat16 is slower than float32 on a CPU without instructions for it (AMX,"
                " AVX512-BF16), such as this one; use int8 instead, or a GPU"
            )
        if self.kind == "fp16" and work.device.type != "cuda":
            work.note(
                "half precision is computed on CUDA only; on a CPU this model runs in the"
                " arithmetic that is fastest there"
            )
        manifest = dataclasses.replace(subject.manifest, precision=self.kind)
        return dataclasses.replace(subject, manifest=manifest)


MERGE = Merge()
BF16 = Precision("bf16")
FP16 = Precision("fp16")
