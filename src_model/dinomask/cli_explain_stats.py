"""The commands of statistics: explain stats, explain reference."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from dinomask.cli_explain_input import describe_seen, open_seen
from dinomask.cli_options import (
    SEGMENT_DEFAULTS,
    JsonPath,
    SegmentOptions,
    check_report,
    complain,
    err_console,
    out_console,
    require_data,
    say,
    write_report,
)

if TYPE_CHECKING:
    from dinomask.config import SegmentConfig
    from dinomask.explain.attention import TileAttention
    from dinomask.explain.seen import SeenImage
    from dinomask.explain.shift import Shift

MaybeOut = Annotated[Path | None, Parameter(name=["-o", "--output"])]


def stats(
    image: str,
    /,
    *,
    output: MaybeOut = None,
    other_image: str | None = None,
    other_model: str | None = None,
    other_adapter: str | None = None,
    picture: Path | None = None,
    config: SegmentOptions = SEGMENT_DEFAULTS,
    axes: str | None = None,
    plane: tuple[str, ...] = (),
    overwrite: bool = False,
    json: JsonPath = None,
) -> int:
    """Measure what each layer makes of an image, and compare images and models.

    Says, too, whether the image is like those the model was trained on.

    Parameters
    ----------
    image
        What `segment` takes.
    output
        Write the table of layers: .csv, .parquet or .json.
    other_image
        Compare with this image, seen by the same model.
    other_model
        Compare with what this model makes of the same places.
    other_adapter
        Compare with the same model with this adapter: before and after teaching.
    picture
        Draw how alike all layers are (linear CKA) as .png or .svg.
    axes
        Names of the image's axes, where the file doesn't tell.
    plane
        Which plane of a movie or stack: z=5.
    overwrite
        Replace existing outputs.
    json
        Write settings and all figures to this file.
    """
    from dinomask.explain.layer_tokens import sample_tokens
    from dinomask.explain.outputs import TABLE_SUFFIXES, check_new, write_table
    from dinomask.explain.picture import PICTURE_SUFFIXES
    from dinomask.terminal import ProgressBar, print_table

    for path, suffixes in ((output, TABLE_SUFFIXES), (picture, PICTURE_SUFFIXES)):
        if path is not None:
            check_new(path, suffixes, overwrite)
    check_report(json)
    seen = open_seen(image, config, axes, plane)
    with ProgressBar(err_console) as bar:
        raw = sample_tokens(seen, raw=True, on_progress=bar)
    rows = _rows(seen, raw.layers)
    print_table(out_console, _table(rows))
    report: dict[str, Any] = {**describe_seen(seen), "layers": rows, "raw": raw.raw}
    report["trained_on"] = _typicality(seen)
    others = _Others(other_image, other_model, other_adapter)
    report |= _compare(seen, others, config, picture)
    if output is not None:
        import pandas as pd

        write_table(pd.DataFrame(rows), output)
        say(f"{len(rows)} layers → {output}")
    write_report(json, report)
    return 0


def reference(
    model: str,
    data: tuple[Path, ...],
    /,
    *,
    images: int = 600,
    generated_share: float = 0.1,
    config: SegmentOptions = SEGMENT_DEFAULTS,
) -> int:
    """Measure what a model was trained on, so that `stats` can tell images that are not like it.

    Written beside the model's weights; make it anew when they change.

    Parameters
    ----------
    model
        Name of a model, or its folder.
    data
        Folders of annotated images that it was trained on.
    images
        Images to look at, at most; drawn at random.
    generated_share
        Part of generated images among them.
    """
    from dinomask.explain.reference import make_reference, write_reference
    from dinomask.nets.catalogue import find_model
    from dinomask.run.predictor import Predictor
    from dinomask.terminal import ProgressBar

    folders = require_data(data)
    predictor = Predictor.load(dataclasses.replace(config, model=model, adapter=None))
    with ProgressBar(err_console) as bar:
        made = make_reference(
            predictor,
            folders,
            n_images=images,
            generated_share=generated_share,
            on_progress=bar,
        )
    path = write_reference(made, find_model(model))
    counts = ", ".join(f"{n} of {name}" for name, n in made.sources.items())
    say(f"{counts} → {path}")
    return 0


@dataclasses.dataclass(frozen=True)
class _Others:
    """What to compare with."""

    image: str | None
    model: str | None
    adapter: str | None


def _rows(seen: SeenImage, layers: dict[int, Any]) -> list[dict[str, Any]]:
    from dinomask.explain.statistics import layer_figures

    rows = [
        {**dataclasses.asdict(f), "outlier_share": f.outlier_share} for f in layer_figures(layers)
    ]
    attention = _attention(seen)
    if attention is not None and attention.n_layers == len(rows):
        for i, row in enumerate(rows):
            heads = attention.figures_of(i)
            row["attention_bits"] = sum(h.entropy_bits for h in heads) / len(heads)
            row["attention_distance_px"] = sum(h.distance_px for h in heads) / len(heads)
            row["attention_to_prefix"] = sum(h.to_prefix for h in heads) / len(heads)
    return rows


def _attention(seen: SeenImage) -> TileAttention | None:
    """Return attention of the tile in the middle; None for convolutional backbones."""
    from dinomask.errors import NoAttentionError
    from dinomask.explain.attention import attention_of

    height, width = seen.image.shape_yx
    try:
        return attention_of(seen, seen.tile_at((height / 2, width / 2)))
    except NoAttentionError:
        return None


def _table(rows: list[dict[str, Any]]) -> Table:
    titles = {
        "layer": "layer",
        "mean": "mean",
        "variance": "variance",
        "norm": "norm",
        "effective_rank": "rank",
        "n_outliers": "outliers",
        "attention_bits": "attention, bits",
        "attention_distance_px": "distance, px",
    }
    table = Table(box=None, padding=(0, 2, 0, 0))
    keys = [key for key in titles if key in rows[0]]
    for key in keys:
        table.add_column(titles[key], justify="right")
    for row in rows:
        cells = [str(row[k]) if isinstance(row[k], int) else f"{row[k]:.3g}" for k in keys]
        table.add_row(*cells)
    return table


def _typicality(seen: SeenImage) -> dict[str, Any] | None:
    """Say whether the image is like those the model was trained on."""
    from dinomask.explain.reference import read_reference, typicality
    from dinomask.nets.catalogue import find_model

    manifest = seen.predictor.manifest
    if seen.predictor.adapter is not None:
        say("What the adapter was taught on has no reference; compare without it.")
        return None
    found = read_reference(find_model(seen.model_name), manifest.weights_sha256)
    if found is None:
        complain(
            "warning",
            "there is no reference of what these weights were trained on; make one with: "
            f"dinomask explain reference {seen.model_name} DATA",
        )
        return None
    result = typicality(found, seen)
    say(result.sentence)
    return dataclasses.asdict(result)


def _compare(
    seen: SeenImage, others: _Others, config: SegmentConfig, picture: Path | None
) -> dict[str, Any]:
    from dinomask.explain.layer_tokens import sample_tokens
    from dinomask.explain.picture import write_picture
    from dinomask.explain.shift import shift_between, shift_by_change
    from dinomask.explain.statistics import cka_matrix
    from dinomask.explain.statistics_picture import draw_cka

    if picture is None and others == _Others(None, None, None):
        return {}
    own = sample_tokens(seen)
    last = max(own.layers)
    report: dict[str, Any] = {}
    if others.image is not None:
        other = sample_tokens(open_seen(others.image, config, None, ()), layer=-1)
        report["other_image"] = _told(shift_between(own.layers[last], other.layers[last]))
    second, named = own, seen.name
    if others.model is not None or others.adapter is not None:
        changed = seen.with_model(others.model or config.model, others.adapter, config)
        second, named = sample_tokens(changed), changed.name
        same = own.layers[last].shape == second.layers[max(second.layers)].shape
        if same and others.model is None:
            report["change"] = _told(shift_by_change(own.layers[last], second.layers[last]))
    matrix = cka_matrix(own.layers, second.layers)
    report["cka"] = matrix.round(4).tolist()
    if second is not own:
        say(f"CKA of the last layers of {seen.name} and {named}: {matrix[-1, -1]:.2f}")
    if picture is not None:
        write_picture(draw_cka(matrix, seen.name, named, seen.image.name), picture)
        say(f"CKA of all layers → {picture}")
    return report


def _told(shift: Shift) -> dict[str, Any]:
    say(shift.sentence)
    return dataclasses.asdict(shift)
