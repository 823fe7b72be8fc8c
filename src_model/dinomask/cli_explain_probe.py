"""The command that tries whether features tell classes apart: explain probe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dinomask.cli_explain_features import LabelPaths, Layers, collect_images
from dinomask.cli_explain_input import open_plane
from dinomask.cli_options import (
    SEGMENT_DEFAULTS,
    JsonPath,
    SegmentOptions,
    check_report,
    complain,
    err_console,
    out_console,
    say,
    write_report,
)
from dinomask.config import ProbeConfig, as_dict
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.config import SegmentConfig
    from dinomask.explain.annotated_objects import Classes
    from dinomask.explain.collect import ImageObjects
    from dinomask.explain.objects import ObjectFeatures
    from dinomask.explain.probe import ProbeReport

PROBE_DEFAULTS = ProbeConfig()
Output = Annotated[Path | None, Parameter(name=["-o", "--output"])]


def probe(
    *data: str,
    output: Output = None,
    labels: LabelPaths = (),
    classes: Path | None = None,
    split: str | None = None,
    layer: Layers = (),
    folds: int = PROBE_DEFAULTS.folds,
    neighbours: int = PROBE_DEFAULTS.n_neighbours,
    penalty: float = PROBE_DEFAULTS.penalty,
    seed: int = PROBE_DEFAULTS.seed,
    save_probe: Path | None = None,
    use: Path | None = None,
    config: SegmentOptions = SEGMENT_DEFAULTS,
    overwrite: bool = False,
    json: JsonPath = None,
) -> int:
    """Try whether what the model sees tells classes of objects apart, layer by layer.

    Simple classifiers learn the classes from the objects' features, and are judged on images
    (or, where there is one only, on places) that they did not learn from.

    Parameters
    ----------
    data
        Annotated folders, as for `train`, with classes of objects or images, or with
        modalities; or images. Of several images without --classes it is tried whether their
        objects can be told apart.
    output
        All objects with the class that the best probe gives them (.csv, .parquet), or a
        picture of the result (.png, .svg).
    labels
        Label image of each image. Without them the images are segmented first.
    classes
        Table with the columns id and class, and image if there are several images (.csv,
        .parquet). Objects that it leaves out are classified, too.
    split
        Only images of this split of the folders.
    layer
        Only these layers of the backbone, from 0; -1 is the last. All, if left out.
    folds
        Parts that the objects are divided into.
    neighbours
        How many vote in the k-NN probe.
    penalty
        How strongly the linear probe's weights are kept small.
    seed
        The same seed gives the same parts.
    save_probe
        Keep the best probe (.safetensors).
    use
        Classify the objects of the images by this probe, which was saved before, instead.
    overwrite
        Replace existing outputs.
    json
        Write settings and figures to this file.
    """
    _check(output, save_probe, use, json, overwrite)
    if use is not None:
        return _use(use, data, labels, config, output)
    how = ProbeConfig(folds, neighbours, penalty, seed)
    images, known, said = _read(data, labels, classes, split, config)
    layers = layer or _all_layers(config)
    features = collect_images(images, config, layers)
    if not known:
        known = {
            (str(name), int(i)): str(name)
            for name, i in zip(features.table["image"], features.ids, strict=True)
        }
    report = _run(features, known, how)
    _show(report, said)
    classified = report.probe.classify(_with_classes(features, known))
    _write(classified, report, output)
    if save_probe is not None:
        from dinomask.explain.probe_model import save_probe as save

        save(report.probe, save_probe)
        say(f"→ {save_probe}; use it with --use {save_probe}")
    figures = {**report.as_dict(), "settings": as_dict(how), "model": dict(features.model)}
    write_report(json, {**figures, "classes_are": said, "images": features.images})
    return 0


def _check(
    output: Path | None,
    save_probe: Path | None,
    use: Path | None,
    json: Path | None,
    overwrite: bool,
) -> None:
    from dinomask.explain.outputs import TABLE_SUFFIXES, check_new
    from dinomask.explain.picture import PICTURE_SUFFIXES
    from dinomask.explain.probe_model import PROBE_SUFFIX

    tables = tuple(s for s in TABLE_SUFFIXES if s != ".json")
    if output is not None:
        check_new(output, tables if use else (*tables, *PICTURE_SUFFIXES), overwrite)
    if save_probe is not None:
        check_new(save_probe, (PROBE_SUFFIX,), overwrite)
    check_report(json)
    if use is not None and (output is None or save_probe is not None):
        raise SettingsError(
            expected="an output for --use, and no --save-probe",
            got="--save-probe" if save_probe else "no output",
            remedy="Try: dinomask explain probe IMAGE --use probe.safetensors -o classes.csv",
        )


def _read(
    data: Sequence[str],
    labels: Sequence[Path],
    classes: Path | None,
    split: str | None,
    config: SegmentConfig,
) -> tuple[list[ImageObjects], Classes, str]:
    """Return images, the classes known of their objects, and what the classes are."""
    from dinomask.explain.annotated_objects import read_annotated, read_classes
    from dinomask.explain.collect import ImageObjects

    folders = [Path(d) for d in data if _is_data(Path(d))]
    if folders:
        if len(folders) < len(data) or labels or classes is not None:
            raise SettingsError(
                expected="annotated folders, or images with --labels and --classes",
                got="both",
                remedy="Folders have their own labels and classes: give one or the other.",
            )
        return read_annotated(folders, split, config.channels)
    images = _images(data, labels, config)
    names = [item.image.name for item in images]
    if classes is not None:
        return images, read_classes(classes, names), "classes of the table"
    if len(images) < 2:
        raise SettingsError(
            expected="classes of the objects (--classes TABLE), or several images to tell apart",
            got="one image" if images else "nothing",
            remedy="Give a table with the columns id and class, a folder with classes, or"
            " two images or more.",
        )
    return [ImageObjects(i.image, i.labels) for i in images], {}, "the images the objects are in"


def _images(
    data: Sequence[str], labels: Sequence[Path], config: SegmentConfig
) -> list[ImageObjects]:
    from dinomask.explain.collect import ImageObjects

    if labels and len(labels) != len(data):
        raise SettingsError(
            expected=f"a label image for each of {len(data)} images",
            got=f"{len(labels)}",
            remedy="Give them in the same order, or leave --labels out to segment the images.",
        )
    opened = [open_plane(image, config, None, ()) for image in data]
    return [ImageObjects(o, labels[i] if labels else None) for i, o in enumerate(opened)]


def _is_data(path: Path) -> bool:
    return path.suffix.lower() == ".json" or (path.is_dir() and path.suffix.lower() != ".zarr")


def _all_layers(config: SegmentConfig) -> tuple[int, ...]:
    from dinomask.nets.zoo import load_model

    return tuple(range(load_model(config.model)[0].backbone.n_layers))


def _with_classes(features: ObjectFeatures, known: Classes) -> ObjectFeatures:
    import numpy as np

    return features.with_column("known_class", np.array(_known(features, known), object))


def _known(features: ObjectFeatures, known: Classes) -> list[str | None]:
    keys = zip(features.table["image"].astype(str), features.ids.tolist(), strict=True)
    return [known.get(key) for key in keys]


def _run(features: ObjectFeatures, known: Classes, how: ProbeConfig) -> ProbeReport:
    from dinomask.explain.probe import run_probes
    from dinomask.terminal import ProgressBar

    with ProgressBar(err_console) as bar:
        return run_probes(features, _known(features, known), how, on_progress=bar)


def _show(report: ProbeReport, said: str) -> None:
    from dinomask.terminal import figures_table, print_table

    say(f"{report.n_objects} objects; classes: {said}")
    print_table(out_console, figures_table(report.rows()))
    confusion = [
        {"known ↓ given →": name, **dict(zip(report.classes, row, strict=True))}
        for name, row in zip(report.classes, report.best.confusion.tolist(), strict=True)
    ]
    print_table(out_console, figures_table(confusion))
    for note in report.notes:
        complain("warning", note)
    say(report.sentence)


def _write(features: ObjectFeatures, report: ProbeReport, output: Path | None) -> None:
    from dinomask.explain.outputs import write_table
    from dinomask.explain.picture import PICTURE_SUFFIXES, write_picture

    if output is None:
        return
    if output.suffix.lower() in PICTURE_SUFFIXES:
        from dinomask.explain.feature_pictures import draw_probe

        write_picture(draw_probe(report), output)
    else:
        write_table(features.table, output)
    say(f"→ {output}")


def _use(
    use: Path,
    data: Sequence[str],
    labels: Sequence[Path],
    config: SegmentConfig,
    output: Path | None,
) -> int:
    from dinomask.explain.outputs import write_table
    from dinomask.explain.probe_model import load_probe

    fitted = load_probe(use)
    images = _images(data, labels, config)
    found = fitted.classify(collect_images(images, config, [fitted.layer]))
    counts = found.table["predicted_class"].value_counts()
    if output is not None:
        write_table(found.table, output)
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(f"{said or 'no objects'} → {output}")
    return 0
