"""What the Explain panel has computed in threads: features of cells, maps, groups, probes.

Without Qt and napari; the network is used in turn with the other panels.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from dinomask.config import MapConfig
from dinomask.run.progress import Progress
from napari_dinomask.network import network
from napari_dinomask.objects import Objects, require_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt
    import pandas as pd

    from dinomask.config import ClusterConfig, SegmentConfig
    from dinomask.explain.probe import ProbeReport
    from dinomask.image.source import Image
    from dinomask.run.progress import OnProgress

    Array = npt.NDArray[Any]

_POLL_S = 0.1


@dataclasses.dataclass(frozen=True)
class Look:
    """Cells to be looked at.

    Attributes
    ----------
    open_image : opens what they are in; called in the thread
    labels_yx : a copy
    table : what is known of them, by the column ``id``
    config : model, channels, tiles
    layer : of the network, whose features are taken; -1 is the last, None the library's
        default
    """

    open_image: Callable[[], Image]
    labels_yx: Array
    table: pd.DataFrame
    config: SegmentConfig
    layer: int | None = None

    def run(self, on_progress: OnProgress) -> Objects:
        """Compute features of all cells, and lay them out by PCA, which takes no time.

        Raises
        ------
        ExplainError
            If there is no cell, or all are alike.
        InputError, ModelError
            If the image can't be read, or the model not be loaded.
        CancelledError
            If `on_progress` raises it.
        """
        require_objects(int(self.labels_yx.max(initial=0)))
        on_progress(Progress("open", 0, 0, 0.0))
        image = self.open_image()
        with using_network(on_progress):
            on_progress(Progress("load", 0, 0, 0.0))
            predictor = network.load(self.config)
            from dinomask.explain.pooling import object_features

            features = object_features(
                image,
                self.labels_yx,
                table=self.table,
                layers=() if self.layer is None else (self.layer,),
                config=self.config,
                predictor=predictor,
                on_progress=on_progress,
            )
        objects = Objects(features, self.layer)
        return lay_out(objects, MapConfig(method="pca"), on_progress)


def lay_out(objects: Objects, config: MapConfig, on_progress: OnProgress) -> Objects:
    """Lay the cells that are there out anew.

    Raises
    ------
    ExplainError
        If there is no cell, or all are alike.
    CancelledError
        If `on_progress` raises it.
    """
    from dinomask.explain.embedding import fit_map

    require_objects(len(objects))
    found = fit_map(objects.present, config, on_progress=on_progress)
    # at the end, so that a map that was given up leaves the one before
    objects.map = found
    return objects


def group(objects: Objects, config: ClusterConfig, on_progress: OnProgress) -> tuple[Array, Array]:
    """Part the cells that are there into groups; return their labels and groups.

    HDBSCAN parts them on the map: among features of many dimensions all are about equally far
    apart.

    Raises
    ------
    ExplainError
        If there are fewer cells than groups, or all are alike.
    CancelledError
        If `on_progress` raises it.
    """
    from dinomask.explain.clusters import find_clusters

    features = objects.present
    positions = None
    if config.method == "hdbscan":
        cloud = objects.cloud()
        features = features.take(features.rows_of(cloud.keys))
        positions = cloud.points_xy
    found = find_clusters(features, config, positions=positions, on_progress=on_progress)
    return features.ids, found


def probe(objects: Objects, on_progress: OnProgress) -> ProbeReport:
    """Find out whether the features tell the given classes apart.

    Raises
    ------
    ExplainError
        If there are fewer than two classes, or too few cells of one.
    CancelledError
        If `on_progress` raises it.
    """
    from dinomask.explain.probe import run_probes

    features = objects.present
    known = objects.given_classes
    classes = [str(known[i]) if i in known else None for i in features.ids.tolist()]
    return run_probes(features, classes, on_progress=on_progress)


def classes_by(objects: Objects, report: ProbeReport) -> dict[int, int]:
    """Return the probe's classes of the cells that have none by the user."""
    found = report.probe.classify(objects.present).table
    pairs = zip(found["id"].tolist(), found["predicted_class"].tolist(), strict=True)
    return {int(i): int(name) for i, name in pairs if i not in objects.given_classes}


@contextlib.contextmanager
def using_network(on_progress: OnProgress) -> Iterator[None]:
    """Wait until no other thread uses the network, and keep it meanwhile."""
    while not network.turn.acquire(timeout=_POLL_S):
        on_progress(Progress("wait", 0, 0, 0.0))
    try:
        yield
    finally:
        network.turn.release()
