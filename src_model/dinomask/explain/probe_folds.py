"""Fitting probes and judging them on what they did not learn from; runs in a process of its own."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.explain.probe_model import Probe, ProbeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dinomask.instances import Array

KINDS: tuple[ProbeKind, ...] = ("linear", "knn")


def cross_validate(
    arrays: Mapping[str, Array], settings: Mapping[str, Any], tell: Callable[[int, int], None]
) -> dict[str, Array]:
    """Try every layer with every kind of probe, and fit the best one on all objects.

    Parameters
    ----------
    arrays : ``layer_<k>`` (N, D), ``codes`` (N,) of the classes, ``groups`` (N,) that
        folds never part
    settings : ``layers``, ``n_classes`` and the fields of `ProbeConfig`
    tell : told of trials done and of all

    Returns
    -------
    ``predicted`` : shape (layers · kinds, N), each object's class, from a probe that learned
        from other folds; layers first, then `KINDS`
    ``fold`` : shape (N,)
    ``best`` : shape (1,), the row with the highest balanced accuracy
    and the tensors of the best probe, ``probe_<name>``
    """
    codes, n_classes = arrays["codes"], settings["n_classes"]
    fold = np.full(len(codes), -1, np.int64)
    splits = list(_split(codes, arrays["groups"], settings))
    for number, (_, test) in enumerate(splits):
        fold[test] = number
    trials = [(layer, kind) for layer in settings["layers"] for kind in KINDS]
    predicted = np.zeros((len(trials), len(codes)), np.int64)
    for row, (layer, kind) in enumerate(trials):
        vectors = arrays[f"layer_{layer}"]
        for number, (train, test) in enumerate(splits):
            tell(row * len(splits) + number, len(trials) * len(splits))
            probe = fit_probe(kind, layer, vectors[train], codes[train], settings)
            predicted[row, test] = probe.probabilities(vectors[test]).argmax(axis=1)
    scores = [balanced_accuracy(codes, p, n_classes) for p in predicted]
    # of equally good ones the first, which is shallower and simpler
    best = int(np.argmax(scores))
    layer, kind = trials[best]
    probe = fit_probe(kind, layer, arrays[f"layer_{layer}"], codes, settings)
    tensors = {f"probe_{name}": values for name, values in probe.tensors.items()}
    return {"predicted": predicted, "fold": fold, "best": np.array([best]), **tensors}


def balanced_accuracy(codes: Array, predicted: Array, n_classes: int) -> float:
    """Return the mean over classes of the share of their objects that were recognised."""
    hit = np.bincount(codes, codes == predicted, n_classes)
    return float(np.mean(hit / np.maximum(np.bincount(codes, minlength=n_classes), 1)))


def fit_probe(
    kind: ProbeKind, layer: int, vectors: Array, codes: Array, settings: Mapping[str, Any]
) -> Probe:
    """Fit a probe on vectors (N, D) of known classes.

    The linear one is logistic regression on standardised features, in which classes count
    alike however many objects they have.
    """
    names = tuple(map(str, range(settings["n_classes"])))
    if kind == "knn":
        tensors = {"vectors": vectors, "codes": codes}
        return Probe("knn", layer, names, tensors, settings["n_neighbours"])
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean = vectors.mean(axis=0, dtype=np.float64)
    deviation = vectors.std(axis=0, dtype=np.float64)
    scale = np.where(deviation > 1e-9, deviation, 1.0)
    known = np.unique(codes)
    weights = np.zeros((len(names), vectors.shape[1]))
    bias = np.full(len(names), -np.inf)
    bias[known] = 0.0
    if len(known) > 1:
        regression = LogisticRegression(
            C=1 / settings["penalty"], class_weight="balanced", max_iter=1000
        )
        with warnings.catch_warnings():
            # what was reached by then serves
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.fit((vectors - mean) / scale, codes)
        # of two classes, scikit-learn gives the second's weights only
        rows = known if len(known) > 2 else known[1:]
        weights[rows] = regression.coef_ / scale
        bias[rows] = regression.intercept_ - weights[rows] @ mean
    return Probe("linear", layer, names, {"weights": weights, "bias": bias})


def _split(
    codes: Array, groups: Array, settings: Mapping[str, Any]
) -> Iterator[tuple[Array, Array]]:
    from sklearn.model_selection import StratifiedGroupKFold

    n = min(settings["folds"], len(np.unique(groups)))
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=settings["seed"])
    with warnings.catch_warnings():
        # a class in fewer groups than folds is missing from some of them
        warnings.simplefilter("ignore", UserWarning)
        for train, test in splitter.split(np.zeros(len(codes)), codes, groups):
            if len(train) and len(test):
                yield train, test
