"""An adapter, taught in a moment, whose matrices can be made sparse or merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dinomask.adapt.finetune import finetune
from dinomask.adapt.taught import taught_from_sample
from dinomask.compress.bench.variant import Variant
from dinomask.compress.choose import Recipe
from dinomask.compress.material import Material
from dinomask.config import TeachConfig
from dinomask.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TAUGHT = "lora"
"""What the model with its adapter is called in tables, beside the adapter's variants."""

IMAGES = 8
"""Images of the train split that it is taught with."""

RECIPES = (Recipe(("lora-sparsify",)), Recipe(("lora-int8",)), Recipe(("merge",)))


def teach(model: str, places: Sequence[Path], work: Path, minutes: float, threads: int) -> Path:
    """Teach an adapter, unless it is there; return its folder.

    Parameters
    ----------
    model : name of the checkpoint
    places : data sets with a split ``train``
    work : folder of its own
    minutes : of training
    threads : of the processor
    """
    folder = work / TAUGHT
    samples = Material.find(places, "train", IMAGES).sources
    taught = [taught_from_sample(s.sample) for s in samples if s.sample is not None]
    config = TeachConfig(model=model, mode="lora", minutes=minutes, threads=threads)
    try:
        finetune(taught, work / "state", TAUGHT, config, folder=folder)
    except OutputError:
        # what a former version of the benchmark taught
        finetune(taught, work / "state", TAUGHT, config, folder=folder, overwrite=True)
    return folder


def with_adapter(model: str, folder: Path) -> Variant:
    """Return the model with the adapter as it was taught."""
    return Variant(TAUGHT, model, str(folder), (TAUGHT,))
