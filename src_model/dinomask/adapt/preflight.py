"""What a teaching would take, and whether there is enough to learn from. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import psutil

from dinomask.adapt.held_out import FEWEST, part_places
from dinomask.adapt.progress import Preflight
from dinomask.adapt.taught import class_list
from dinomask.errors import TeachError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.adapt.taught import TaughtImage
    from dinomask.config import TeachConfig

PROCESS_MB = 1450.0
"""Libraries, the bundled model and its copies; measured with benchmarks/fewshot.py."""

CROP_MB = 60.0
"""Activations of a crop of 224 px with the bundled model, all of it learning."""


FEW_OF_A_CLASS = 10
"""With fewer examples of a new class it is learned badly."""


def plan_teaching(taught: Sequence[TaughtImage], config: TeachConfig) -> Preflight:
    """Tell what a teaching would take, and what is missing.

    Parameters
    ----------
    taught : what is known
    config : settings
    """
    n_objects = sum(image.n_objects for image in taught)
    n_refuted = sum(image.n_refuted for image in taught)
    n_held = 0
    if n_objects:
        _, held = part_places(taught, config.held_out, config.seed)
        n_held = sum(image.n_objects for image in held)
    images_mb = sum(i.image_cyx.nbytes + 2 * i.labels_yx.nbytes for i in taught) / 1e6
    memory_mb = PROCESS_MB + images_mb + config.batch * CROP_MB * (config.crop_px / 224) ** 2
    problems, warnings = [], []
    if not n_objects:
        problems.append(
            "no corrected or accepted object yet: correct some, or mark a region as reviewed"
        )
    free_mb = psutil.virtual_memory().available / 1e6
    if memory_mb > free_mb:
        problems.append(f"needs about {memory_mb:,.0f} MB of memory, {free_mb:,.0f} MB are free")
    if 0 < n_objects < FEWEST:
        warnings.append(
            f"{n_objects} objects are too few to hold some out: the result is judged on"
            " the same ones; correct at least five"
        )
    elif n_objects and n_held < FEWEST:
        warnings.append(f"only {n_held} held-out objects judge the result; 25 are a good start")
    if n_objects and not n_refuted and not any(image.reviewed_px for image in taught):
        warnings.append(
            "nothing tells where there is no object: mark a region as reviewed, or delete"
            " false ones"
        )
    warnings += _rare_classes(taught, config)
    mode = config.chosen_mode(n_objects)
    return Preflight(
        config.minutes * 60,
        memory_mb,
        n_objects - n_held if n_objects >= FEWEST else n_objects,
        n_held,
        mode,
        tuple(problems),
        tuple(warnings),
    )


def _rare_classes(taught: Sequence[TaughtImage], config: TeachConfig) -> list[str]:
    """Warn of classes with hardly any example, where there are several."""
    classes = [image.object_classes() for image in taught]
    counts = np.bincount(np.concatenate(classes)) if classes else np.zeros(0, np.int64)
    names = class_list(taught, config.classes, (), 1)
    return [
        f"only {n} of “{names[number]}”: ten or more examples of a class are a good start"
        for number, n in enumerate(counts.tolist())
        if number and 0 < n < FEW_OF_A_CLASS
    ]


def require_teachable(taught: Sequence[TaughtImage], config: TeachConfig) -> None:
    """Refuse a teaching that can't begin.

    Raises
    ------
    TeachError
        With what is missing.
    """
    problems = plan_teaching(taught, config).problems
    if problems:
        raise TeachError(
            expected="something to learn from, and the memory for it",
            got="; ".join(problems),
            remedy="Correct or accept some objects, close other programs, and try again.",
        )
