"""What flows through the methods: a model with its manifest, perhaps with an adapter beside it."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

from dinomask.nets.adapters import (
    find_adapter,
    merge_tensors,
    read_adapter_manifest,
    read_tensors,
    require_base,
)
from dinomask.nets.zoo import load_model

if TYPE_CHECKING:
    from torch import Tensor

    from dinomask.compress.artefacts import Artefact
    from dinomask.nets.adapters import AdapterManifest
    from dinomask.nets.catalogue import Manifest
    from dinomask.nets.centermask import CenterMask


@dataclasses.dataclass
class AdapterPart:
    """An adapter that isn't merged yet.

    Attributes
    ----------
    manifest : what it is
    tensors : as `dinomask.nets.adapters.read_tensors` gives them
    """

    manifest: AdapterManifest
    tensors: dict[str, Tensor]


@dataclasses.dataclass
class Subject:
    """What a method gets and gives.

    Attributes
    ----------
    model : in evaluation mode, on the CPU, without the adapter; ``model.config`` is always
        the architecture from which the model can be built again
    manifest : of the checkpoint; name and architecture are filled in when it is saved
    adapter : what shall be merged, or be compressed by itself
    artefact : files that a backend runs instead of the model, in `Work.folder`; None while
        the model itself is the result
    """

    model: CenterMask
    manifest: Manifest
    adapter: AdapterPart | None = None
    artefact: Artefact | None = None

    @staticmethod
    def load(model: str, adapter: str | None = None) -> Subject:
        """Load a checkpoint, and the adapter that goes with it.

        Raises
        ------
        ModelError
            If one is unknown or damaged, or they don't belong together.
        """
        folder = None if adapter is None else find_adapter(adapter)
        loaded, manifest = load_model(model)
        if folder is None:
            return Subject(loaded, manifest)
        about = read_adapter_manifest(folder)
        require_base(about, manifest)
        return Subject(loaded, manifest, AdapterPart(about, read_tensors(folder, about)))

    def merged(self) -> Subject:
        """Return the plain model with the adapter merged; this one is used up."""
        if self.adapter is None:
            return self
        about = self.adapter.manifest
        merged = merge_tensors(self.model, about.fit, self.adapter.tensors, about.class_names)
        threshold = about.score_threshold
        manifest = self.manifest
        if threshold is not None:
            manifest = dataclasses.replace(manifest, score_threshold=threshold)
        return Subject(merged.eval(), manifest)

    def copied(self) -> Subject:
        """Return a copy that can be changed without changing this one."""
        return copy.deepcopy(self)

    @property
    def n_parameters(self) -> int:
        """Weights of the model; shared ones count once."""
        return sum(p.numel() for p in self.model.parameters())
