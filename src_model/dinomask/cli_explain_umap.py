"""The commands that lay objects out in a plane: explain umap, explain tsne."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from dinomask.cli_explain_features import LabelPaths, collect
from dinomask.cli_explain_input import OutPath
from dinomask.cli_options import (
    SEGMENT_DEFAULTS,
    JsonPath,
    SegmentOptions,
    check_report,
    complain,
    err_console,
    say,
    write_report,
)
from dinomask.config import ClusterConfig, MapConfig, as_dict
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.config import SegmentConfig
    from dinomask.explain.embedding import ObjectMap
    from dinomask.explain.objects import ObjectFeatures
    from dinomask.instances import Array
    from dinomask.run.progress import OnProgress

MAP_DEFAULTS = MapConfig()
NAMES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PCA"}


@dataclasses.dataclass(frozen=True)
class MapOptions:
    """What is laid out, and what becomes of the map."""

    output: OutPath
    """Table with the positions (.parquet, .csv), also with the features (.h5ad, .zarr), or a
    picture (.png, .svg)."""

    labels: LabelPaths = ()
    """Label image of each image, such as the output of `segment`. Without them the images are
    segmented first."""

    layer: int | None = None
    """Which layer of the backbone, from 0; -1 is the last. Left out, the one at three quarters
    of the depth."""

    metric: Literal["cosine", "euclidean"] = MAP_DEFAULTS.metric
    """By the angle between features, or by their distance."""

    seed: int = MAP_DEFAULTS.seed
    """The same seed gives the same map."""

    clusters: str | None = None
    """Also part the objects into so many groups by k-means, or by 'hdbscan' into as many as
    there are; adds the column cluster."""

    color: str | None = None
    """Column that colours a picture, such as cluster, score, area_px or image."""

    into: Path | None = None
    """Place the objects into this map, which was saved before, instead of making one."""

    save_map: Path | None = None
    """Keep the map (.safetensors), so that objects can be placed into it later."""

    overwrite: bool = False
    """Replace existing outputs."""

    axes: str | None = None
    """Names of the images' axes, where the files don't tell."""

    plane: tuple[str, ...] = ()
    """Which plane of movies or stacks: z=5."""

    json: JsonPath = None
    """Write settings and figures to this file."""

    def check(self) -> None:
        """Refuse what can't be written or be meant, before any work."""
        from dinomask.explain.map_files import MAP_SUFFIX
        from dinomask.explain.object_files import FEATURE_SUFFIXES
        from dinomask.explain.outputs import check_new
        from dinomask.explain.picture import PICTURE_SUFFIXES

        check_new(self.output, (*FEATURE_SUFFIXES, *PICTURE_SUFFIXES), self.overwrite)
        if self.save_map is not None:
            check_new(self.save_map, (MAP_SUFFIX,), self.overwrite)
        check_report(self.json)
        if self.into is not None and self.save_map is not None:
            raise SettingsError(
                expected="a map to place objects into, or one to save",
                got="--into and --save-map",
                remedy="A map stays as it is when objects are placed into it: leave out one.",
            )
        self.grouping()

    def collect(self, images: Sequence[str], config: SegmentConfig) -> ObjectFeatures:
        """Compute what is to be laid out: features as those of the map to place objects into."""
        from dinomask.explain.map_files import load_map

        layers = [] if self.layer is None else [self.layer]
        if self.into is not None:
            layers = [load_map(self.into).layer]
        return collect(images, self.labels, config, layers, self.axes, self.plane)

    def grouping(self) -> ClusterConfig | None:
        """Return how to part objects into groups; None if that isn't asked for."""
        if self.clusters is None:
            return None
        if self.clusters == "hdbscan":
            return ClusterConfig("hdbscan", seed=self.seed)
        if not self.clusters.isdigit():
            raise SettingsError(
                expected="a number of groups, or hdbscan",
                got=repr(self.clusters),
                remedy="Try --clusters 5.",
            )
        return ClusterConfig("kmeans", n_clusters=int(self.clusters), seed=self.seed)


MapOptionsParameter = Annotated[MapOptions, Parameter(name="*")]


def umap(
    *images: str,
    options: MapOptionsParameter,
    neighbours: int = MAP_DEFAULTS.n_neighbours,
    min_dist: float = MAP_DEFAULTS.min_dist,
    config: SegmentOptions = SEGMENT_DEFAULTS,
) -> int:
    """Lay objects out by UMAP, so that those that look alike to the model lie together.

    Parameters
    ----------
    images
        One or several, each what `segment` takes.
    neighbours
        How many each object is kept close to. Few show fine groups, many the whole.
    min_dist
        How tightly objects may be packed, from 0 to 1.
    """
    how = MapConfig(
        "umap",
        n_neighbours=neighbours,
        min_dist=min_dist,
        metric=options.metric,
        seed=options.seed,
    )
    return _map(images, how, options, config)


def tsne(
    *images: str,
    options: MapOptionsParameter,
    perplexity: float = MAP_DEFAULTS.perplexity,
    config: SegmentOptions = SEGMENT_DEFAULTS,
) -> int:
    """Lay objects out by t-SNE, so that those that look alike to the model lie together.

    Parameters
    ----------
    images
        One or several, each what `segment` takes.
    perplexity
        About how many neighbours each object is kept close to.
    """
    how = MapConfig("tsne", perplexity=perplexity, metric=options.metric, seed=options.seed)
    return _map(images, how, options, config)


def _map(images: Sequence[str], how: MapConfig, options: MapOptions, config: SegmentConfig) -> int:
    """Lay objects out, and write what is asked for."""
    from dinomask.explain.clusters import find_clusters
    from dinomask.explain.map_files import save_map
    from dinomask.terminal import ProgressBar

    options.check()
    features = options.collect(images, config)
    with ProgressBar(err_console) as bar:
        found, positions = _lay_out(features, how, options, bar)
        grouping = options.grouping()
        if grouping is not None:
            # HDBSCAN finds little in many dimensions
            on = positions if grouping.method == "hdbscan" else None
            groups = find_clusters(features, grouping, positions=on, on_progress=bar)
            features = features.with_column("cluster", groups)
    for note in found.notes:
        complain("warning", note)
    _write(features, found, positions, options)
    if options.save_map is not None:
        save_map(found, options.save_map)
    report = {"n_objects": len(features), "images": features.images, "layer": found.layer}
    write_report(
        options.json, {**report, "settings": as_dict(found.config), "model": dict(found.model)}
    )
    groups_said = f", {features.table['cluster'].max() + 1} groups" if grouping else ""
    placed = " placed into a map" if options.into else ""
    say(f"{len(features)} objects{placed}{groups_said} → {options.output}")
    return 0


def _lay_out(
    features: ObjectFeatures, how: MapConfig, options: MapOptions, bar: OnProgress
) -> tuple[ObjectMap, Array]:
    from dinomask.explain.embedding import fit_map
    from dinomask.explain.map_files import load_map

    if options.into is None:
        found = fit_map(features, how, on_progress=bar)
        return found, found.positions
    found = load_map(options.into)
    return found, found.project(features)


def _write(
    features: ObjectFeatures,
    found: ObjectMap,
    positions: Array,
    options: MapOptions,
) -> None:
    from dinomask.explain.object_files import with_maps, write_features
    from dinomask.explain.outputs import write_table
    from dinomask.explain.picture import PICTURE_SUFFIXES

    output, method = options.output, found.config.method
    suffix = output.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        _draw(features, found, positions, options.color, output)
    elif suffix in (".parquet", ".csv"):
        # the features themselves are what `explain features` writes
        write_table(with_maps(features, {method: positions}), output)
    else:
        write_features(features, output, {method: positions})


def _draw(
    features: ObjectFeatures, found: ObjectMap, positions: Array, color: str | None, output: Path
) -> None:
    from dinomask.explain.feature_pictures import draw_map
    from dinomask.explain.picture import write_picture

    table = features.table
    if color is not None and color not in table.columns:
        raise SettingsError(
            expected=f"one of the columns {', '.join(map(str, table.columns))}",
            got=color,
            remedy="Choose one of these for --color.",
        )
    if color is None:
        several = len(features.images) > 1
        color = "cluster" if "cluster" in table else "image" if several else "area_px"
    name = NAMES[found.config.method]
    caption = (
        f"{len(features)} objects of {', '.join(features.images)}; layer {found.layer} of"
        f" {found.model.get('name')}. Objects that lie together look alike to the model;"
        " lengths, sizes of groups and gaps between them mean little."
    )
    write_picture(draw_map(table, positions, color, f"{name} of objects", caption), output)
