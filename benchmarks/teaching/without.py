"""A base checkpoint that never saw some kind of image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dinomask.config import TrainConfig
from dinomask.nets.zoo import MANIFEST_FILE, read_manifest
from dinomask.train.datasets import find_samples
from dinomask.train.loop import train
from dinomask.train.state import STATE_FILE

if TYPE_CHECKING:
    from pathlib import Path


def base_without(
    folders: list[Path], modality: str, out: Path, minutes: float, threads: int | None
) -> Path:
    """Train from random weights on all train images but those of a modality.

    Parameters
    ----------
    folders : data sets
    modality : beginning of the names of the modalities that are left out
    out : checkpoint; one that is there and was trained for as long is taken, an interrupted
        training goes on
    minutes, threads : of the training

    Returns
    -------
    the checkpoint's folder
    """
    if (out / MANIFEST_FILE).exists() and read_manifest(out).training["minutes"] >= minutes - 0.1:
        return out
    samples = [s for s in find_samples(folders, "train") if not s.modality.startswith(modality)]
    config = TrainConfig(
        minutes=minutes,
        threads=threads,
        batch=6,
        crop_px=224,
        learning_rate=8e-4,
        modality_power=0.5,
        generated_share=0.0,
    )
    train(samples, out, config, resume=(out / STATE_FILE).exists(), score_threshold=0.35)
    return out
