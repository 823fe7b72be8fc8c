"""What is compared: models by name, each as a user would load it. No torch here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dinomask.nets.adapter_manifest import find_adapter, read_adapter_manifest
from dinomask.nets.catalogue import find_model, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.config import SegmentConfig
    from dinomask.nets.catalogue import Precision

ORIGINAL = "original"
"""What the uncompressed model is called."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of the models that are compared.

    Attributes
    ----------
    name : in tables, as short as possible
    model : name or folder of a checkpoint or artefact
    adapter : on it
    methods : that it was made with; empty for the original
    precision : of the network; auto as `SegmentConfig.precision`
    """

    name: str
    model: str
    adapter: str | None = None
    methods: tuple[str, ...] = ()
    precision: Precision = "auto"

    def config(self, segment: SegmentConfig) -> SegmentConfig:
        """Return the settings with which it segments."""
        return dataclasses.replace(
            segment,
            model=self.model,
            adapter=self.adapter,
            precision=self.precision if self.precision != "auto" else segment.precision,
        )

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where its files lie."""
        adapter = () if self.adapter is None else (find_adapter(self.adapter),)
        return (find_model(self.model), *adapter)

    @property
    def size_bytes(self) -> int:
        """What it takes on disk."""
        files = [path for folder in self.folders for path in folder.rglob("*")]
        return sum(path.stat().st_size for path in files if path.is_file())

    def identity(self) -> dict[str, Any]:
        """Return all that its results depend on beside images and settings.

        Raises
        ------
        ModelError
            If there is no such model or adapter.
        """
        adapter = None
        if self.adapter is not None:
            adapter = read_adapter_manifest(find_adapter(self.adapter)).tensors_sha256
        folder = find_model(self.model)
        manifest = read_manifest(folder)
        # an artefact of a backend shares the weights' hash of what it was made of
        files = {p.name: p.stat().st_size for p in folder.iterdir() if p.is_file()}
        return {
            "name": self.name,
            "model": manifest.weights_sha256,
            "files": files,
            "adapter": adapter,
            "precision": self.precision,
        }
