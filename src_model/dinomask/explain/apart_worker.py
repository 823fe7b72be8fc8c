"""The process of `dinomask.explain.apart`: one task, then it ends.

Only this module and `dinomask.explain.probe_folds` import scikit-learn and umap-learn.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import ExplainError
from dinomask.explain.apart import INPUT_FILE, OUTPUT_FILE, REFUSED_FILE, SETTINGS_FILE
from dinomask.explain.components import fit_components
from dinomask.explain.knn import nearest
from dinomask.explain.probe_folds import cross_validate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dinomask.instances import Array

Tell = Callable[[int, int], None]
"""Called with the steps done and all steps."""

Results = dict[str, "Array"]


def fit_umap(arrays: Mapping[str, Array], settings: Mapping[str, Any], tell: Tell) -> Results:
    """Lay out vectors (N, D) by UMAP (McInnes et al., arXiv 1802.03426).

    Neighbours are found exactly, by products of matrices: that is without chance, and
    up to some 100,000 objects faster than compiling an approximate search.
    """
    import umap.umap_ as umap

    vectors = _reduce(arrays["vectors"], settings)
    # an object is its own first neighbour
    k = settings["n_neighbours"] + 1
    n_epochs = 500 if len(vectors) <= 10_000 else 200
    index, distance = nearest(
        vectors, vectors, k, lambda done, total: tell(n_epochs * done // total, 2 * n_epochs)
    )
    mapper = umap.UMAP(
        n_neighbors=k,
        min_dist=settings["min_dist"],
        n_epochs=n_epochs,
        init=_plane(vectors),
        random_state=settings["seed"],
        n_jobs=1,
        # the third would place new objects, which `ObjectMap.project` does
        precomputed_knn=(index, distance, None),
        verbose=True,
        tqdm_kwds={
            "file": _Counter(r"(\d+)/\d+", lambda done: tell(n_epochs + done, 2 * n_epochs)),
            "mininterval": 0.2,
            "disable": False,
        },
    )
    return {"positions": mapper.fit_transform(vectors).astype(np.float32)}


def fit_tsne(arrays: Mapping[str, Array], settings: Mapping[str, Any], tell: Tell) -> Results:
    """Lay out vectors (N, D) by t-SNE (van der Maaten and Hinton, JMLR 2008)."""
    from sklearn.manifold import TSNE

    vectors = _reduce(arrays["vectors"], settings)
    n_iterations = 1000
    start = _plane(vectors)
    mapper = TSNE(
        perplexity=settings["perplexity"],
        # as small as scikit-learn makes its own start
        init=1e-4 * start / max(float(start[:, 0].std()), 1e-30),
        random_state=settings["seed"],
        max_iter=n_iterations,
        verbose=2,
        n_jobs=1,
    )
    counter: Any = _Counter(r"Iteration (\d+):", lambda done: tell(done, n_iterations))
    with contextlib.redirect_stdout(counter):
        return {"positions": mapper.fit_transform(vectors).astype(np.float32)}


def fit_kmeans(arrays: Mapping[str, Array], settings: Mapping[str, Any], tell: Tell) -> Results:
    """Part vectors (N, D) into groups by k-means, the best of ten starts."""
    from sklearn.cluster import KMeans

    tell(0, 0)
    found = KMeans(settings["n_clusters"], n_init=10, random_state=settings["seed"])
    return {"clusters": found.fit_predict(arrays["vectors"]).astype(np.int64)}


def fit_hdbscan(arrays: Mapping[str, Array], settings: Mapping[str, Any], tell: Tell) -> Results:
    """Part vectors (N, D) by density (Campello et al., PAKDD 2013); -1 belongs to no group."""
    from sklearn.cluster import HDBSCAN

    tell(0, 0)
    found = HDBSCAN(min_cluster_size=settings["min_size"], copy=True)
    return {"clusters": found.fit_predict(arrays["vectors"]).astype(np.int64)}


TASKS: dict[str, Callable[[Mapping[str, Array], Mapping[str, Any], Tell], Results]] = {
    "umap": fit_umap,
    "tsne": fit_tsne,
    "kmeans": fit_kmeans,
    "hdbscan": fit_hdbscan,
    "probe": cross_validate,
}


def _reduce(vectors: Array, settings: Mapping[str, Any]) -> Array:
    return fit_components(vectors, settings["n_components"]).project(vectors)


def _plane(vectors: Array) -> Array:
    """Return the first two components, (N, 2), float32, from which a layout starts."""
    plane = np.zeros((len(vectors), 2), np.float32)
    plane[:, : min(2, vectors.shape[1])] = vectors[:, :2]
    return plane


class _Counter:
    """A stream that picks a number out of what is written to it."""

    def __init__(self, pattern: str, tell: Callable[[int], None]) -> None:
        self._pattern = re.compile(pattern)
        self._tell = tell

    def write(self, text: str) -> None:
        """Tell of the last number in a text."""
        found = self._pattern.findall(text)
        if found:
            self._tell(int(found[-1]))

    def flush(self) -> None:
        """Do nothing: what is written is used at once."""


def main(task: str, folder: Path) -> None:
    """Do one task with the files of a folder, and leave its result there."""
    # Ctrl+C in the terminal reaches this process, too; the one that started it decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    out = sys.stdout
    settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    with np.load(folder / INPUT_FILE, allow_pickle=False) as found:
        arrays = dict(found)

    def tell(done: int, total: int) -> None:
        out.write(f"progress {done} {total}\n")
        out.flush()

    try:
        results = TASKS[task](arrays, settings, tell)
    except (ExplainError, ImportError) as found_wrong:
        error = found_wrong
        if isinstance(error, ImportError):
            error = ExplainError(
                expected="scikit-learn and umap-learn",
                got=str(error),
                remedy="Install them: pip install 'napari-dinomask[explain]'",
            )
        parts = {"expected": error.expected, "got": error.got, "remedy": error.remedy}
        (folder / REFUSED_FILE).write_text(json.dumps(parts), encoding="utf-8")
        return
    np.savez(folder / OUTPUT_FILE, **results)  # type: ignore[arg-type]


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
