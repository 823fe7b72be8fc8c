"""Do the features tell the user's classes apart? Probes, layer by layer, honestly judged.

A probe is a simple classifier on frozen features: logistic regression (Alain and Bengio,
arXiv 1610.01644) or the votes of nearest neighbours. Each object is judged by a probe
that learned from others: from other images where every class is in several, else from
other places.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from dinomask.config import ProbeConfig, as_dict
from dinomask.errors import ExplainError
from dinomask.explain.apart import run_apart
from dinomask.explain.probe_model import Probe, ProbeKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.explain.objects import ObjectFeatures
    from dinomask.instances import Array
    from dinomask.run.progress import OnProgress

FEWEST_OBJECTS = 5
"""Objects of a class below which nothing can be said about it."""

BLOCKS = 4
"""Rows and columns of places that an image is divided into."""

SURE_SE = 3.0
"""Standard errors above chance from which on a probe is said to be better. The best of many
layers is lucky, too, so two would not do."""

_KIND_NAMES: dict[ProbeKind, str] = {"linear": "linear probe", "knn": "k-NN probe"}


@dataclasses.dataclass(frozen=True, eq=False)
class ProbeScore:
    """How well one probe on one layer told the classes apart.

    Attributes
    ----------
    layer, kind : which probe
    confusion : shape (C, C), objects; rows are the true classes, columns the predicted
    """

    layer: int
    kind: ProbeKind
    confusion: Array

    @property
    def recalls(self) -> Array:
        """The share of each class's objects that was recognised, shape (C,)."""
        return np.asarray(np.diag(self.confusion) / np.maximum(self.confusion.sum(axis=1), 1))

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the recalls: classes count alike however many objects they have."""
        return float(self.recalls.mean())

    @property
    def standard_error(self) -> float:
        """Of the balanced accuracy, as if objects were independent of each other."""
        n = np.maximum(self.confusion.sum(axis=1), 1)
        # one object more of either kind, so that a perfect score has an error, too
        recall = (np.diag(self.confusion) + 1) / (n + 2)
        return float(np.sqrt((recall * (1 - recall) / n).sum()) / len(n))


@dataclasses.dataclass(frozen=True, eq=False)
class ProbeReport:
    """What probes found out.

    Attributes
    ----------
    classes : names, ascending
    scores : of every layer and kind, shallow layers first
    best : the score with the highest balanced accuracy; among many it is also the luckiest
    probe : the best one, fitted on all objects of known class
    folds_by : what was kept together: ``image`` or ``place``
    n_objects : of known class
    notes : what the user should know
    """

    classes: tuple[str, ...]
    scores: tuple[ProbeScore, ...]
    best: ProbeScore
    probe: Probe
    folds_by: Literal["image", "place"]
    n_objects: int
    notes: tuple[str, ...] = ()

    @property
    def chance(self) -> float:
        """The balanced accuracy of guessing."""
        return 1 / len(self.classes)

    @property
    def sentence(self) -> str:
        """The result in plain words."""
        best = self.best
        unseen = {"image": "images", "place": "places"}[self.folds_by]
        figure = (
            f"On {unseen} it had not seen, a {_KIND_NAMES[best.kind]} on layer {best.layer} tells"
            f" the {len(self.classes)} classes apart with a balanced accuracy of"
            f" {best.balanced_accuracy:.0%} (guessing: {self.chance:.0%})."
        )
        above = best.balanced_accuracy - self.chance
        if above > SURE_SE * best.standard_error:
            return figure
        return (
            f"{figure} That is no better than chance for so few objects: the features don't"
            " tell these classes apart, or more objects are needed."
        )

    def table(self) -> pd.DataFrame:
        """Return `rows` as a table."""
        return pd.DataFrame(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """Return a row a layer and kind: layer, probe, balanced accuracy, recall of each class."""
        rows: list[dict[str, Any]] = []
        for score in self.scores:
            recalls = {f"recall {c}": r for c, r in zip(self.classes, score.recalls, strict=True)}
            rows.append(
                {
                    "layer": score.layer,
                    "probe": score.kind,
                    "balanced accuracy": score.balanced_accuracy,
                    **recalls,
                }
            )
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Return what a report holds."""
        return {
            "sentence": self.sentence,
            "classes": list(self.classes),
            "n_objects": self.n_objects,
            "folds_by": self.folds_by,
            "chance": self.chance,
            "best": {"layer": self.best.layer, "probe": self.best.kind},
            "balanced_accuracy": self.best.balanced_accuracy,
            "standard_error": self.best.standard_error,
            "confusion": self.best.confusion.tolist(),
            "scores": self.rows(),
            "notes": list(self.notes),
        }


def run_probes(
    features: ObjectFeatures,
    classes: Sequence[str | None],
    config: ProbeConfig | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> ProbeReport:
    """Find out how well features tell classes apart, on every layer there is.

    Runs in a process of its own.

    Parameters
    ----------
    features : of N objects
    classes : N names; None where the class is not known
    config : settings
    on_progress : called ten times a second; raising `CancelledError` stops at once

    Raises
    ------
    ExplainError
        If there are fewer than two classes, or too few objects of one.
    EngineError
        If the process can't be started, or died.
    """
    config = config or ProbeConfig()
    known = np.array([c is not None for c in classes], bool)
    names, codes = np.unique(
        np.array([c for c in classes if c is not None], str), return_inverse=True
    )
    _require_classes(names, codes)
    used = features.take(known)
    groups, folds_by, notes = choose_groups(used.table, codes)
    arrays = {f"layer_{k}": used.vectors(k) for k in used.layers}
    settings = {**as_dict(config), "layers": list(used.layers), "n_classes": len(names)}
    found = run_apart(
        "probe",
        {**arrays, "codes": codes.astype(np.int64), "groups": groups},
        settings,
        on_progress,
    )
    kinds: tuple[ProbeKind, ...] = ("linear", "knn")
    trials = [(layer, kind) for layer in used.layers for kind in kinds]
    scores = tuple(
        ProbeScore(layer, kind, confusion_matrix(codes, predicted, len(names)))
        for (layer, kind), predicted in zip(trials, found["predicted"], strict=True)
    )
    best = int(found["best"][0])
    tensors = {k.removeprefix("probe_"): v for k, v in found.items() if k.startswith("probe_")}
    labels = tuple(map(str, names))
    layer, kind = trials[best]
    probe = Probe(kind, layer, labels, tensors, config.n_neighbours, features.model)
    return ProbeReport(labels, scores, scores[best], probe, folds_by, len(codes), notes)


def confusion_matrix(codes: Array, predicted: Array, n: int) -> Array:
    """Count objects by true class (rows) and predicted class (columns), shape (n, n)."""
    return np.asarray(np.bincount(codes * n + predicted, minlength=n * n).reshape(n, n))


def choose_groups(
    table: pd.DataFrame, codes: Array
) -> tuple[Array, Literal["image", "place"], tuple[str, ...]]:
    """Choose what folds must not part: images, or places within them.

    Parameters
    ----------
    table : of the N objects; columns image, centroid_y, centroid_x
    codes : shape (N,), their classes

    Returns
    -------
    groups : shape (N,), int64
    folds_by : what they are
    notes : what that means
    """
    image = pd.factorize(table["image"])[0]
    pairs = np.unique(np.stack([codes, image]), axis=1)[0]
    if np.bincount(pairs).min() >= 2:
        return image.astype(np.int64), "image", ()
    place = image.astype(np.int64)
    for name in ("centroid_y", "centroid_x"):
        ranks = table.groupby(image)[name].rank(method="first", pct=True).to_numpy()
        place = place * BLOCKS + np.minimum((ranks * BLOCKS).astype(np.int64), BLOCKS - 1)
    note = (
        "Some class is in one image only, so objects are parted by place and not by image:"
        " how well the probe does on other images is not known."
    )
    return np.unique(place, return_inverse=True)[1].astype(np.int64), "place", (note,)


def _require_classes(names: Array, codes: Array) -> None:
    if len(names) < 2:
        raise ExplainError(
            expected="objects of at least two classes",
            got=f"{len(names)}" + (f" ({names[0]})" if len(names) else ""),
            remedy="Name the classes of some objects (--classes), or classify some in napari.",
        )
    few = {str(n): int(c) for n, c in zip(names, np.bincount(codes), strict=True)}
    few = {name: count for name, count in few.items() if count < FEWEST_OBJECTS}
    if few:
        said = ", ".join(f"{count} of {name!r}" for name, count in few.items())
        raise ExplainError(
            expected=f"at least {FEWEST_OBJECTS} objects of each class",
            got=said,
            remedy="Add some, or leave that class out.",
        )
