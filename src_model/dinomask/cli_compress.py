"""The command that makes models smaller and faster, and says what that costs."""

from __future__ import annotations

import hashlib
import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from dinomask.cli_options import (
    SEGMENT_DEFAULTS,
    JsonPath,
    check_report,
    complain,
    err_console,
    out_console,
    say,
    write_report,
)
from dinomask.config import BenchConfig, CompressConfig, SegmentConfig, TileConfig, as_dict
from dinomask.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from typing import Any

    from dinomask.compress.choose import Study

COMPRESS_DEFAULTS = CompressConfig()
BENCH_DEFAULTS = BenchConfig()
CompressOptions = Annotated[CompressConfig, Parameter(name="*")]
BenchOptions = Annotated[BenchConfig, Parameter(name="*")]
TileOptions = Annotated[TileConfig, Parameter(name="*")]


def compress(
    model: str,
    /,
    *,
    method: tuple[str, ...] = (),
    data: tuple[Path, ...] = (),
    adapter: str | None = None,
    output: Annotated[Path | None, Parameter(name=["-o", "--output"])] = None,
    other_data: tuple[Path, ...] = (),
    chart: Path | None = None,
    analyse: bool = False,
    config: CompressOptions = COMPRESS_DEFAULTS,
    bench: BenchOptions = BENCH_DEFAULTS,
    diameter: float | Literal["auto"] = SEGMENT_DEFAULTS.diameter_px,
    tiles: TileOptions = SEGMENT_DEFAULTS.tiles,
    overwrite: bool = False,
    json: JsonPath = None,
) -> int:
    """Make a model smaller and faster in one or several ways, and compare them on your images.

    Each result is saved among your models and used by its name. What can't be done here is
    left out, and told why. Stopped by Ctrl+C, the same command goes on where it was.

    Parameters
    ----------
    model
        Name of a model or a checkpoint folder.
    method
        Ways to compress it, parted by commas; + joins methods to one way, as in
        head-prune+distil. distil beside methods that change the network recovers what they
        lost together. See the list below the options in docs/compress.md, or --method help.
    data
        Folders of images, with or without labels; calibrates, trains and judges. Of data sets
        with splits, train is learned from and val is judged by.
    adapter
        An adapter on the model, merged first.
    output
        Folder of the result; of several, the folder they lie in.
    other_data
        Images of another kind, to see what generalisation is lost.
    chart
        Draw accuracy against speed and size into this file, .png or .svg.
    analyse
        Also list parameters, multiplications, time and memory of the model's parts.
    diameter
        Median diameter of the objects in image pixels; auto estimates it.
    overwrite
        Replace results that were made with other settings.
    json
        Write all figures to this file.
    """
    from dinomask.compress.choose import Study, choose_recipes

    if "help" in method:
        _list_methods()
        return 0
    check_report(json)
    _check_chart(chart)
    if not data:
        raise SettingsError(
            expected="images to calibrate and compare on",
            got="none",
            remedy="Give a folder of images like yours with --data; labels aren't needed.",
        )
    recipes = choose_recipes(method, student=config.distil.student)
    segment = SegmentConfig(
        model=model,
        diameter_px=diameter,
        device=config.device,
        threads=config.threads,
        tiles=tiles,
    )
    study = Study(
        model, recipes, data, adapter, other_data, output, overwrite, config, bench, segment
    )
    if analyse:
        _analyse(segment)
    report = _run(study)
    write_report(json, report)
    _tell(report, chart)
    return 0


def _run(study: Study) -> dict[str, Any]:
    from dinomask.compress.study import run_study
    from dinomask.terminal import ProgressBar

    with ProgressBar(err_console) as bar:
        return run_study(study, _work_folder(study), bar)


def _tell(report: dict[str, Any], chart: Path | None) -> None:
    """Print a report, what was left out of it, and where the results are."""
    from dinomask.terminal import compression_table, print_table

    print_table(out_console, compression_table(report))
    for name, reason in report["left_out"].items():
        complain("warning", f"{name} is left out: {reason}")
    for name, notes in report["notes"].items():
        complain("warning", f"{name}: {' '.join(notes)}")
    if chart is not None:
        from dinomask.compress.bench.chart import draw_chart

        draw_chart(report, chart)
        say(f"chart → {chart}")
    for row in report["variants"][1:]:
        say(f"{row['name']} → {row['model']}")
    say(report["recommendation"])


def _list_methods() -> None:
    from rich.markup import escape
    from rich.table import Table

    from dinomask.compress.methods import METHODS
    from dinomask.terminal import print_table

    table = Table("method", "what it does", "what for", box=None)
    for method in METHODS:
        table.add_row(*map(escape, (method.name, method.summary, method.gain)))
    print_table(out_console, table)


def _work_folder(study: Any) -> Path:
    """Return where a study keeps what it has measured, so that the same one goes on."""
    from dinomask.nets.catalogue import user_models_folder

    key = json_.dumps(as_dict(study), sort_keys=True, default=str)
    return user_models_folder() / "comparisons" / hashlib.sha256(key.encode()).hexdigest()[:16]


def _check_chart(path: Path | None) -> None:
    if path is not None and (path.suffix not in (".png", ".svg") or not path.parent.is_dir()):
        raise OutputError(
            expected="a chart that ends in .png or .svg, in a folder that exists",
            got=str(path),
            remedy="Name it chart.png, for example.",
        )


def _analyse(segment: SegmentConfig) -> None:
    import numpy as np

    from dinomask.compress.analysis import analyse
    from dinomask.run.predictor import Predictor
    from dinomask.terminal import analysis_table, print_table

    side = segment.tiles.tile_px
    tile = np.random.default_rng(0).normal(0.3, 0.2, (3, side, side)).astype(np.float32)
    found = analyse(Predictor.load(segment), tile)
    print_table(out_console, analysis_table(found.as_dict()))
