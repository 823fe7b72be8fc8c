"""Segment one image: detect → stitch → render."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from dinomask.config import SegmentConfig
from dinomask.image.doctor import Finding, examine
from dinomask.image.identity import require_same
from dinomask.image.normalise import fit_normaliser
from dinomask.run.beginning import begin_run
from dinomask.run.checks import run_findings
from dinomask.run.detect import Detected, FailedTile, detect, failed_tiles
from dinomask.run.engines import SerialEngine
from dinomask.run.engines.tile_work import TileWork
from dinomask.run.progress import OnProgress, OnTile, Progress
from dinomask.run.report import px_per_s, run_report
from dinomask.run.resuming import run_key, run_ledger
from dinomask.run.size import estimate_diameter
from dinomask.tiles.advice import cut_findings
from dinomask.tiles.render import render_image
from dinomask.tiles.stitch import Stitched, stitch
from dinomask.tiles.write import write_labels

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from dinomask.image.source import Image
    from dinomask.instances import Array
    from dinomask.run.engines import Engine
    from dinomask.run.predictor import Predictor
    from dinomask.tiles.plan import Box


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The result of one run.

    Attributes
    ----------
    stitched : all instances
    table : one row an instance: id, box, score, class, area_px, …; its ``attrs``, and the
        metadata of what was written, name tiles that failed
    labels_yx : the label image, if it was not written to a file
    diameter_px : given or estimated; None if no object was found to estimate it
    findings : what the input doctor and the run noticed
    report : version, model, settings, machine, timings and figures
    failed_tiles : where objects are missing; the same command tries them again
    """

    stitched: Stitched
    table: pd.DataFrame
    labels_yx: Array | None
    diameter_px: float | None
    findings: tuple[Finding, ...]
    report: dict[str, Any]
    failed_tiles: tuple[FailedTile, ...] = ()


def segment(
    image: Image,
    out: Path | None = None,
    config: SegmentConfig | None = None,
    *,
    overwrite: bool = False,
    restart: bool = False,
    predictor: Predictor | None = None,
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
    first_yxyx_px: Box | None = None,
    on_tile: OnTile | None = None,
) -> Segmentation:
    """Find every instance of an image.

    A cancelled or crashed run with an output goes on where it stopped when
    called again with the same settings.

    Parameters
    ----------
    image : from `dinomask.image.open_image`
    out : ``.tif`` or ``.zarr``; None draws the labels in memory
    config : settings
    overwrite : replace an existing output
    restart : forget an unfinished run of this output
    predictor : a loaded model to use again; None loads the one of `config`
    engine : how tiles are worked through; None takes one after another
    on_progress : called after each step, and again and again while waiting for
        one; raising `CancelledError` stops the run
    first_yxyx_px : a window of the image whose tiles are worked on first, such
        as what is on a screen
    on_tile : told what was found in each tile as it is done

    Raises
    ------
    InputError
        If the image can't be segmented (e.g. holds NaN), or vanishes or changes
        under way (`SourceChangedError`).
    OutputError
        If the output exists or can't be written.
    SettingsError
        If the diameter does not fit the image.
    ModelError
        If the model can't be loaded.
    EngineError
        If workers can't be started or are lost for good.
    TilesFailedError
        If every tile failed; a few that do are only reported.
    """
    begun = begin_run(
        image,
        out,
        config or SegmentConfig(),
        predictor,
        overwrite=overwrite,
        examine=lambda: examine(image),
        fit=lambda settings: fit_normaliser(image, settings),
        estimate=lambda normaliser, model: (
            estimate_diameter(image, normaliser, model, on_progress).diameter_px
        ),
    )
    config, predictor, plan, watch = begun.config, begun.predictor, begun.plan, begun.watch
    engine = engine or SerialEngine()
    tiles = Detected(len(plan))
    with run_ledger(out, run_key(image, predictor, config, plan), len(plan), restart) as ledger:
        if begun.diameter_px is not None:
            work = TileWork(image, begun.normaliser, plan, config)
            first = plan.tiles_touching(first_yxyx_px or (0, 0, 0, 0))
            tiles = detect(
                work, predictor, ledger, engine, on_progress, first=first, on_tile=on_tile
            )
            require_same(image)
        watch.lap("detect")
        failed = failed_tiles(plan, ledger)
        stitched = stitch(plan, ledger.records(), ledger.path)
        watch.lap("stitch")
        table, labels = _render(stitched, image, out, overwrite, failed, on_progress)
        watch.lap("render")
    findings = [
        *begun.findings,
        *run_findings(config, begun.diameter_px, table, failed),
        *cut_findings(stitched, plan),
    ]
    report = {
        **run_report(predictor, config, engine, tiles, watch, failed, findings),
        "image": {"name": image.name, "identity": image.identity, "shape_yx": image.shape_yx},
        "diameter_px": begun.diameter_px,
        "scale": begun.scale,
        "n_instances": len(table),
        "n_seam_duplicates": stitched.n_seam_duplicates,
        "n_cut_objects": stitched.n_cut_objects,
        "n_merged_objects": stitched.n_merged_objects,
        "px_per_s": px_per_s(image.shape_yx, tiles, watch),
    }
    return Segmentation(stitched, table, labels, begun.diameter_px, tuple(findings), report, failed)


def _render(
    stitched: Stitched,
    image: Image,
    out: Path | None,
    overwrite: bool,
    failed: tuple[FailedTile, ...],
    on_progress: OnProgress | None,
) -> tuple[pd.DataFrame, Array | None]:
    notes = {"failed_tiles": [dataclasses.asdict(t) for t in failed]} if failed else {}
    started = time.monotonic()

    def tell(done: int, total: int) -> None:
        if on_progress:
            on_progress(Progress("render", done, total, time.monotonic() - started))

    if out is None:
        labels, table = render_image(stitched, image.shape_yx, tell)
        table.attrs.update(notes)
        return table, labels
    table = write_labels(
        stitched,
        image.shape_yx,
        out,
        pixel_size_um=image.pixel_size_um,
        overwrite=overwrite,
        progress=tell,
        notes=notes,
    )
    return table, None
