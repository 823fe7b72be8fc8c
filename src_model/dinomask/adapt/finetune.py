"""Teach a checkpoint from what a user corrected: train, judge, keep an adapter.

Always from the base checkpoint on everything known so far: training on from the last
adapter would bend it towards the first images. The held-out objects are looked at a few
times on the way, and the best state is judged by `dinomask.adapt.gate`.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import torch

from dinomask.adapt.clock import WorkClock
from dinomask.adapt.gate import Figures, Judge, Verdict, judge_learned
from dinomask.adapt.held_out import part_places
from dinomask.adapt.learning import Learning
from dinomask.adapt.preflight import plan_teaching, require_teachable
from dinomask.adapt.progress import TeachProgress, TeachResult
from dinomask.adapt.reference import reference_images, reference_scenes
from dinomask.adapt.self_distil import add_confident
from dinomask.adapt.taught import (
    class_list,
    diameter_ratio,
    diameter_spread,
    typical_diameter_px,
)
from dinomask.adapt.teaching_notes import teaching_key
from dinomask.adapt.trial import cut_scenes
from dinomask.config import as_dict
from dinomask.errors import ModelError, OutputError
from dinomask.nets.adapters import (
    MANIFEST_FILE,
    AdapterManifest,
    adapters_folder,
    read_adapter_manifest,
    require_name,
    save_adapter,
)
from dinomask.nets.zoo import load_model
from dinomask.run.predictor import default_threads
from dinomask.run.sizes import MIXED_SCALES, are_mixed, views_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dinomask.adapt.taught import TaughtImage
    from dinomask.config import TeachConfig

GATE_LOOKS = 3
"""Looks at the reference for which time is kept; there are four at most."""

KEY = "teaching"
"""Where the provenance names the teaching."""

__all__ = ["TeachProgress", "TeachResult", "finetune", "plan_teaching"]


def finetune(
    taught: Sequence[TaughtImage],
    out: Path,
    name: str,
    config: TeachConfig,
    on_progress: Callable[[TeachProgress], object] | None = None,
    *,
    folder: Path | None = None,
    overwrite: bool = False,
    notes: dict[str, Any] | None = None,
) -> TeachResult:
    """Teach a model and keep what it learned as an adapter.

    A teaching that was stopped goes on when called again with the same images, settings
    and `out`.

    Parameters
    ----------
    taught : what is known
    out : folder of this teaching's state
    name : of the adapter
    config : settings
    on_progress : told at least once a step; the time it takes doesn't count. An
        exception from it ends the teaching, and what was learned so far is kept in `out`
    folder : where the adapter goes; None takes its place on the shelf
    overwrite : whether an adapter of that name may be replaced
    notes : further provenance to keep

    Raises
    ------
    TeachError
        If nothing is known that could be learned from, or memory is short.
    DivergedError
        If the loss becomes NaN.
    OutputError
        If there is an adapter already, or nothing can be written.
    """
    folder = folder or adapters_folder() / require_name(name)
    require_teachable(taught, config)
    base = load_model(config.model)[1]
    key = teaching_key(taught, config, base.weights_sha256)
    if (finished := _finished(folder, key, overwrite)) is not None:
        return finished
    torch.set_num_threads(config.threads or default_threads())
    learned_from, held_out = part_places(taught, config.held_out, config.seed)
    n_objects = sum(image.n_objects for image in taught)
    own = base.architecture
    classes = class_list(taught, config.classes, own.class_names, own.n_classes)
    learning = Learning.begin(learned_from, out, config, n_objects, classes)
    clock = WorkClock(learning.notes.worked_s, config.minutes * 60, on_progress)
    judge = _judge(taught, held_out, config, clock, classes)
    before, n_confident = _learn(learning, judge, config, clock)
    fit = learning.fitting.config
    verdict = judge_learned(judge, before, learning.best_tensors(), fit)
    figures = _figures(taught, held_out, learning, verdict, config)
    figures |= {"classes": list(classes), "confident_objects": n_confident}
    manifest = AdapterManifest(
        folder.name,
        base.name,
        base.weights_sha256,
        fit,
        score_threshold=verdict.after.threshold,
        diameter_px=_typical(taught),
        diameter_spread=diameter_spread(taught),
        diameter_ratio=diameter_ratio(taught),
        class_names=classes,
        provenance=figures | {KEY: key} | (notes or {}),
    )
    save_adapter(folder, verdict.tensors, manifest, overwrite=overwrite)
    learning.forget()
    return TeachResult(folder, verdict.promoted, verdict.reason, figures)


def _learn(
    learning: Learning, judge: Judge, config: TeachConfig, clock: WorkClock
) -> tuple[Figures, int]:
    """Train in the time that judging leaves.

    Returns
    -------
    the base's figures, and how many of its own findings were learned along
    """
    started = time.monotonic()
    kept = judge.kept(phase="prepare")
    reference_s = time.monotonic() - started
    before = judge.figures(phase="prepare", kept=kept)
    held_out_s = time.monotonic() - started - reference_s
    n_confident = 0
    # where classes are new, what the base takes an object for is not to be kept
    if config.confident_score < 1 and not judge.has_new_classes:
        n_confident = add_confident(
            learning.stepper.data.images,
            judge.base(),
            config.confident_score,
            lambda: clock.tell("prepare"),
        )
    fit = learning.fitting.config
    learning.run(
        lambda tensors: judge.quality(fit, tensors, learning.step),
        clock,
        held_out_s,
        held_out_s * views_cost(judge.scales) + GATE_LOOKS * reference_s,
    )
    return before, n_confident


def _judge(
    taught: Sequence[TaughtImage],
    held_out: Sequence[TaughtImage],
    config: TeachConfig,
    clock: WorkClock,
    classes: Sequence[str],
) -> Judge:
    target_px = load_model(config.model)[0].config.target_diameter_px
    clock.tell("prepare")
    held_scenes = cut_scenes(held_out, target_px, _typical(taught), seed=config.seed)
    clock.tell("prepare")
    reference = reference_scenes(reference_images(), target_px)
    scales = MIXED_SCALES if are_mixed(diameter_ratio(taught)) else ()
    return Judge(held_scenes, reference, config, clock, classes, scales)


def _figures(
    taught: Sequence[TaughtImage],
    held_out: Sequence[TaughtImage],
    learning: Learning,
    verdict: Verdict,
    config: TeachConfig,
) -> dict[str, Any]:
    fitting, notes = learning.fitting, learning.notes
    n_all = sum(p.numel() for p in fitting.model.parameters())
    return {
        "gate": verdict.as_dict(),
        "images": [image.name for image in taught],
        "objects": sum(image.n_objects for image in taught),
        "refuted": sum(image.n_refuted for image in taught),
        "held_out_objects": sum(image.n_objects for image in held_out),
        "mode": config.chosen_mode(sum(image.n_objects for image in taught)),
        "settings": as_dict(config),
        "steps": learning.step,
        "seconds_per_step": round(notes.trained_s / max(learning.step, 1), 4),
        "minutes": round(notes.worked_s / 60, 2),
        "trainable_weights": fitting.n_trainable,
        "weights": n_all,
        "losses": _thinned(notes.losses),
        "checks": notes.checks,
    }


def _thinned(curve: list[tuple[int, float]], most: int = 200) -> list[tuple[int, float]]:
    step = max(1, len(curve) // most)
    return curve[::step]


def _typical(taught: Sequence[TaughtImage]) -> float | None:
    typical = typical_diameter_px(taught)
    return None if typical is None else round(typical, 2)


def _finished(folder: Path, key: str, overwrite: bool) -> TeachResult | None:
    """Return what this very teaching made before a crash kept it from telling.

    Raises
    ------
    OutputError
        If another adapter has the name.
    """
    if (folder / MANIFEST_FILE).exists() and not overwrite:
        # a damaged one is somebody's too, and is not replaced unasked
        with contextlib.suppress(ModelError):
            figures = read_adapter_manifest(folder).provenance
            if figures.get(KEY) == key:
                gate = figures["gate"]
                return TeachResult(folder, gate["promoted"], gate["reason"], figures)
        raise OutputError(
            expected="a name that no adapter has yet",
            got=f"{folder.name!r}, which is on the shelf",
            remedy="Choose another name, or ask to overwrite it.",
        )
    return None
