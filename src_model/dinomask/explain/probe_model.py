"""A fitted probe: classes of objects from their features, by plain arithmetic."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Literal

import numpy as np

from dinomask.errors import ExplainError
from dinomask.explain.knn import nearest
from dinomask.explain.prepare import Preparation
from dinomask.tiles.outputs import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dinomask.explain.objects import ObjectFeatures
    from dinomask.instances import Array

ProbeKind = Literal["linear", "knn"]

PROBE_SUFFIX = ".safetensors"

_KIND = "dinomask-probe"


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """Tells C classes apart by the features of one layer.

    Attributes
    ----------
    kind : ``linear`` (logistic regression) or ``knn`` (votes of the nearest neighbours)
    layer : of the backbone
    classes : names, in the order of the probabilities
    tensors : linear: ``weights`` (C, D) and ``bias`` (C,) of the features themselves; knn:
        ``vectors`` (N, D) and ``codes`` (N,) of the objects that vote
    n_neighbours : that vote
    model : whose features it was fitted on, as in `ObjectFeatures`
    """

    kind: ProbeKind
    layer: int
    classes: tuple[str, ...]
    tensors: Mapping[str, Array]
    n_neighbours: int = 10
    model: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    def probabilities(self, vectors: Array) -> Array:
        """Return how likely each class is, shape (n, C), rows add up to 1.

        Parameters
        ----------
        vectors : shape (n, D)
        """
        if self.kind == "linear":
            logits = vectors.astype(np.float64) @ self.tensors["weights"].T + self.tensors["bias"]
            return softmax(logits)
        return votes(
            vectors,
            self.tensors["vectors"],
            self.tensors["codes"],
            len(self.classes),
            self.n_neighbours,
        )

    def classify(self, features: ObjectFeatures) -> ObjectFeatures:
        """Return the objects with the columns ``predicted_class`` and ``probability``.

        Raises
        ------
        ExplainError
            If the features come from another model.
        SettingsError
            If those of the layer were not computed.
        """
        if self.model and features.model and dict(features.model) != dict(self.model):
            raise ExplainError(
                expected=f"features of the probe's model, {self.model.get('name')!r}",
                got=f"features of {features.model.get('name')!r}, or of another adapter",
                remedy="Compute them with the model and adapter of the probe.",
            )
        found = self.probabilities(features.vectors(self.layer))
        names = np.array(self.classes, object)[found.argmax(axis=1)]
        labelled = features.with_column("predicted_class", names)
        return labelled.with_column("probability", found.max(axis=1, initial=0))


def softmax(logits: Array) -> Array:
    """Return exp(x) / Σ exp(x) along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def votes(queries: Array, vectors: Array, codes: Array, n_classes: int, k: int) -> Array:
    """Return the shares of the classes among the nearest neighbours, by angle, shape (n, C)."""
    preparation = Preparation.fit(vectors, "cosine")
    index, _ = nearest(preparation.apply(queries), preparation.apply(vectors), k)
    return np.asarray((codes[index][..., None] == np.arange(n_classes)).mean(axis=1))


def save_probe(probe: Probe, path: Path) -> None:
    """Write a probe as one safetensors file; replaces an earlier one.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    from safetensors.numpy import save_file

    about = {
        "kind": _KIND,
        "probe": probe.kind,
        "layer": probe.layer,
        "classes": list(probe.classes),
        "n_neighbours": probe.n_neighbours,
        "model": dict(probe.model),
    }
    tensors = {name: np.ascontiguousarray(values) for name, values in probe.tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"dinomask": json.dumps(about)})


def load_probe(path: Path) -> Probe:
    """Read what `save_probe` wrote; nothing in the file is run.

    Raises
    ------
    ExplainError
        If it is missing, damaged or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["dinomask"])
            if about["kind"] != _KIND:
                raise KeyError(about["kind"])
            wanted = ("weights", "bias") if about["probe"] == "linear" else ("vectors", "codes")
            tensors = {name: file.get_tensor(name) for name in wanted}
        return Probe(
            about["probe"],
            int(about["layer"]),
            tuple(about["classes"]),
            tensors,
            int(about["n_neighbours"]),
            about["model"],
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ExplainError(
            expected="a probe, written by dinomask explain probe -o probe.safetensors",
            got=str(path),
            remedy="Choose another file, or fit the probe anew.",
        ) from error
