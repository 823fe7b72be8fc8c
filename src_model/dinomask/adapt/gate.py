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
    from collections.abc import Sequence

    from torch import Tensor

    from dinomask.adapt.clock import WorkClock
    from dinomask.adapt.progress import Phase
    from dinomask.adapt.trial import Scene
    from dinomask.config import FitConfig, TeachConfig

SHARES = (1.0, 0.6, 0.35, 0.2)
"""How far from base to taught the tried weights are."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """A model's quality.

    Attributes
    ----------
    held_out : mean AP over IoU 0.5 to 0.95 on the held-out objects
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

    Parameters
    ----------
    held_out : scenes with objects that are not learned from
    reference : scenes on which nothing should be forgotten
    config : settings of the teaching
    clock : told after each scene
    classes : names of all classes, where there are more than the checkpoint's
    """

    def __init__(
        self,
        held_out: Sequence[Scene],
        reference: Sequence[Scene],
        config: TeachConfig,
        clock: WorkClock,
        classes: Sequence[str] = (),
    ) -> None:
        self.config = config
        self._held_out = held_out
        self._reference = reference
        self._clock = clock
        self.classes = tuple(classes)
        self._usual = load_model(config.model)[1].score_threshold

    @property
    def held_out_share(self) -> float:
        """Part of all scenes that show held-out objects."""
        n = len(self._held_out)
        return n / max(1, n + len(self._reference))

    def quality(self, fit: FitConfig, tensors: dict[str, Tensor], step: int = 0) -> float:
        """Return the mean AP of an adapter on the held-out objects."""
        scores = self._scores(fit, tensors, self._held_out, "train", step)
        return float(scores.at(scores.best_threshold(self._usual)).mean())

    def figures(
        self,
        fit: FitConfig | None = None,
        tensors: dict[str, Tensor] | None = None,
        phase: Phase = "gate",
    ) -> Figures:
        """Measure an adapter, or the base without one, on everything.

        The base is taken at the threshold that suits it best, as the adapter is.
        """
        held_out = self._scores(fit, tensors, self._held_out, phase)
        threshold = held_out.best_threshold(self._usual)
        reference = self._scores(fit, tensors, self._reference, phase)
        aps = held_out.at(threshold)
        # at the threshold that suits it there: another one is no loss of what it knows
        kept = float(reference.ap[:, HALF].max())
        return Figures(float(aps.mean()), float(aps[HALF]), kept, threshold)

    def _scores(
        self,
        fit: FitConfig | None,
        tensors: dict[str, Tensor] | None,
        scenes: Sequence[Scene],
        phase: Phase,
        step: int = 0,
    ) -> TrialScores:
        model, manifest = load_model(self.config.model)
        if fit is not None and tensors is not None:
            model = merge_tensors(model, fit, rounded(tensors), self.classes).eval()
        device = choose_device(self.config.device)
        predictor = Predictor(model.to(device), manifest, device, choose_dtype("auto", device))
        return score_scenes(predictor, scenes, tick=lambda: self._clock.tell(phase, step))


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
    tried: list[Verdict] = []
    for share in SHARES:
        weaker = between(judge.config.model, tensors, share, judge.classes)
        after = judge.figures(fit, weaker)
        promoted, reason = decide(before, after, judge.config.max_forgetting)
        tried.append(Verdict(weaker, promoted, reason, before, after, share))
        if promoted or after.held_out <= before.held_out:
            # weaker ones would learn even less
            break
    passed = [verdict for verdict in tried if verdict.promoted]
    return passed[0] if passed else tried[0]


def decide(before: Figures, after: Figures, max_forgetting: float) -> tuple[bool, str]:
    """Return whether an adapter may be used, and why."""
    learned = f"{before.held_out:.3f} → {after.held_out:.3f} on held-out objects"
    lost = before.reference_ap50 - after.reference_ap50
    kept = f"{before.reference_ap50:.3f} → {after.reference_ap50:.3f} on the reference images"
    if after.held_out <= before.held_out:
        return False, f"not better than the base: {learned}"
    if lost > max_forgetting + 1e-9:
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
