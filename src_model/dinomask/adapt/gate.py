"""Whether what was learned may be used: better on the held-out objects, little forgotten.

Where too much was forgotten, weights between base and taught are tried too: along that
line models keep most of both (Wortsman et al., "Robust fine-tuning of zero-shot models",
arXiv 2109.01903).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dinomask.adapt.trial import HALF, TrialScores, score_scenes
from dinomask.nets.adapters import WEIGHT, merge_tensors, rounded
from dinomask.nets.growing import grow_classes
from dinomask.nets.precision import choose_dtype
from dinomask.nets.zoo import load_model
from dinomask.run.predictor import Predictor, choose_device

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from dinomask.adapt.clock import WorkClock
    from dinomask.adapt.progress import Phase
    from dinomask.adapt.trial import Scene
    from dinomask.config import FitConfig, TeachConfig

SHARES = (1.0, 0.8, 0.6, 0.45, 0.35, 0.25, 0.18, 0.12)
"""How far from base to taught the tried weights are, the farthest first."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """A model's quality.

    Attributes
    ----------
    held_out : see `TrialScores.quality`; on the held-out objects
    held_out_ap50 : AP at IoU 0.5 there
    reference_ap50 : AP at IoU 0.5 on the reference images, at the score threshold that is
        best there
    threshold : score threshold that is best on the held-out objects
    """

    held_out: float
    held_out_ap50: float
    reference_ap50: float
    threshold: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes
    ----------
    tensors : of the adapter
    promoted : whether it may be used
    reason : in words
    before, after : the base's figures and the adapter's
    share : how far from base to taught
    """

    tensors: dict[str, Tensor]
    promoted: bool
    reason: str
    before: Figures
    after: Figures
    share: float

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the tensors, for json."""
        return {
            "promoted": self.promoted,
            "reason": self.reason,
            "before": dataclasses.asdict(self.before),
            "after": dataclasses.asdict(self.after),
            "share": self.share,
        }


class Judge:
    """Measures models on the same scenes.

    Attributes
    ----------
    has_new_classes : whether the adapter tells more classes apart than the checkpoint

    Parameters
    ----------
    held_out : scenes with objects that are not learned from
    reference : scenes on which nothing should be forgotten
    config : settings of the teaching
    clock : told after each scene
    classes : names of all classes, where there are more than the checkpoint's
    scales : at which the adapter will look beside the first, and so the held-out objects
        are judged; empty for objects of similar size
    """

    def __init__(
        self,
        held_out: Sequence[Scene],
        reference: Sequence[Scene],
        config: TeachConfig,
        clock: WorkClock,
        classes: Sequence[str] = (),
        scales: tuple[float, ...] = (),
    ) -> None:
        self.config = config
        self.scales = scales
        self._held_out = held_out
        self._reference = reference
        self._clock = clock
        self.classes = tuple(classes)
        own = load_model(config.model)[1]
        self._usual = own.score_threshold
        self.has_new_classes = len(self.classes) > own.architecture.n_classes

    def base(self) -> Predictor:
        """Return the model without an adapter."""
        return self._predictor(None, None)

    def quality(self, fit: FitConfig, tensors: dict[str, Tensor], step: int = 0) -> float:
        """Return how well an adapter does on the held-out objects, looked at once: quick."""
        scores = self._scores(fit, tensors, self._held_out, "train", step)
        return scores.quality(scores.best_threshold(self._usual))

    def figures(
        self,
        fit: FitConfig | None = None,
        tensors: dict[str, Tensor] | None = None,
        phase: Phase = "gate",
        *,
        kept: float | None = None,
    ) -> Figures:
        """Measure an adapter, or the base without one, on everything.

        Each is judged as it will be used: the base at the threshold that suits it best and
        at one scale, the adapter at the scales that it asks for, which it has learned too.

        Parameters
        ----------
        fit, tensors : the adapter; None for the base
        phase : that listeners are told
        kept : its AP on the reference, where that is known already
        """
        scales = () if tensors is None else self.scales
        held_out = self._scores(fit, tensors, self._held_out, phase, scales=scales)
        threshold = held_out.best_threshold(self._usual)
        kept = self.kept(fit, tensors, phase) if kept is None else kept
        ap50 = float(held_out.at(threshold)[HALF])
        return Figures(held_out.quality(threshold), ap50, kept, threshold)

    def kept(
        self,
        fit: FitConfig | None = None,
        tensors: dict[str, Tensor] | None = None,
        phase: Phase = "gate",
    ) -> float:
        """Return the AP at IoU 0.5 on the reference, at the threshold that is best there.

        Another threshold is no loss of what a model knows.
        """
        reference = self._scores(fit, tensors, self._reference, phase)
        return float(reference.ap[:, HALF].max())

    def _scores(
        self,
        fit: FitConfig | None,
        tensors: dict[str, Tensor] | None,
        scenes: Sequence[Scene],
        phase: Phase,
        step: int = 0,
        scales: tuple[float, ...] = (),
    ) -> TrialScores:
        predictor, tell = self._predictor(fit, tensors), self._clock.tell
        return score_scenes(predictor, scenes, tick=lambda: tell(phase, step), scales=scales)

    def _predictor(self, fit: FitConfig | None, tensors: dict[str, Tensor] | None) -> Predictor:
        model, manifest = load_model(self.config.model)
        if fit is not None and tensors is not None:
            model = merge_tensors(model, fit, rounded(tensors), self.classes).eval()
        device = choose_device(self.config.device)
        return Predictor(model.to(device), manifest, device, choose_dtype("auto", device))


def judge_learned(
    judge: Judge, before: Figures, tensors: dict[str, Tensor], fit: FitConfig
) -> Verdict:
    """Decide, and choose how far from base to taught to go.

    Parameters
    ----------
    judge : measures
    before : the base's figures
    tensors : what was learned
    fit : the way it was fitted
    """
    tried: dict[float, tuple[dict[str, Tensor], float]] = {}

    def passes(share: float) -> bool:
        weaker = between(judge.config.model, tensors, share, judge.classes)
        kept = judge.kept(fit, weaker)
        tried[share] = weaker, kept
        return not forgot(before.reference_ap50, kept, judge.config.max_forgetting)

    found = farthest(passes)
    share = SHARES[0] if found is None else found
    weaker, kept = tried[share]
    return _verdict(judge, before, weaker, fit, share, kept)


def farthest(passes: Callable[[float], bool]) -> float | None:
    """Return the largest of `SHARES` that passes; None if none does.

    The whole step is tried first. Then halves are, as less is forgotten the nearer to the base.

    Parameters
    ----------
    passes : whether a share may be taken
    """
    if passes(SHARES[0]):
        return SHARES[0]
    low, high = 1, len(SHARES)
    while low < high:
        middle = (low + high) // 2
        if passes(SHARES[middle]):
            high = middle
        else:
            low = middle + 1
    return SHARES[low] if low < len(SHARES) else None


def _verdict(
    judge: Judge,
    before: Figures,
    tensors: dict[str, Tensor],
    fit: FitConfig,
    share: float,
    kept: float,
) -> Verdict:
    after = judge.figures(fit, tensors, kept=kept)
    promoted, reason = decide(before, after, judge.config.max_forgetting)
    return Verdict(tensors, promoted, reason, before, after, share)


def forgot(before: float, after: float, most: float) -> bool:
    """Tell whether more AP was lost on the reference than may be."""
    return before - after > most + 1e-9


def decide(before: Figures, after: Figures, max_forgetting: float) -> tuple[bool, str]:
    """Return whether an adapter may be used, and why."""
    learned = f"{before.held_out:.3f} → {after.held_out:.3f} on held-out objects"
    kept = f"{before.reference_ap50:.3f} → {after.reference_ap50:.3f} on the reference images"
    if after.held_out <= before.held_out:
        return False, f"not better than the base: {learned}"
    if forgot(before.reference_ap50, after.reference_ap50, max_forgetting):
        return False, f"better ({learned}), but too much was forgotten: {kept}"
    return True, f"better ({learned}), nothing much forgotten ({kept})"


def between(
    model: str, tensors: dict[str, Tensor], share: float, classes: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Return an adapter that goes a share of the way from the base to another one.

    Parameters
    ----------
    model : the base's name
    tensors : of the adapter
    share : 0 for the base, 1 for the adapter
    classes : of the adapter, where there are more than the base's
    """
    if share == 1:
        return tensors
    base = grow_classes(load_model(model)[0], classes).state_dict()
    moved = {}
    for name, value in tensors.items():
        plain = name.removeprefix(WEIGHT)
        if name.startswith(WEIGHT) and plain in base and base[plain].shape == value.shape:
            moved[name] = base[plain] + share * (value - base[plain])
        elif ".lora_B" in name:
            moved[name] = share * value
        else:
            moved[name] = value
    return moved
