"""Segment one image: detect → stitch → render."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dinomask.config import SegmentConfig, as_dict
from dinomask.errors import SettingsError
from dinomask.image.doctor import Finding, examine, require_usable
from dinomask.image.identity import require_same
from dinomask.image.normalise import Normaliser, fit_normaliser
from dinomask.run.detect import Detected, FailedTile, detect, failed_tiles
from dinomask.run.engines import SerialEngine
from dinomask.run.engines.tile_work import TileWork
from dinomask.run.predictor import Predictor
from dinomask.run.progress import OnProgress, OnTile, Progress
from dinomask.run.report import header
from dinomask.run.size import estimate_diameter
from dinomask.tiles.advice import cut_findings
from dinomask.tiles.ledger import Ledger
from dinomask.tiles.outputs import check_output, ledger_path
from dinomask.tiles.plan import TilePlan, plan_tiles
from dinomask.tiles.render import render_image
from dinomask.tiles.stitch import Stitched, stitch
from dinomask.tiles.write import write_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from dinomask.image.source import Image
    from dinomask.instances import Array
    from dinomask.run.engines import Engine
    from dinomask.tiles.plan import Box

MIN_SIDE_PX = 4
"""Images narrower than this can't show an object."""


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


@dataclasses.dataclass
class _Clock:
    """Seconds a stage took."""

    timings_s: dict[str, float] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.timings_s[name] = round(time.perf_counter() - started, 4)


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
    config = config or SegmentConfig()
    check_diameter(config.diameter_px, image.shape_yx)
    if out is not None:
        check_output(out, overwrite, keep=[image.path] if image.path else [])
    clock = _Clock()
    with clock.stage("examine"):
        findings = examine(image)
        require_usable(findings)
        normaliser = fit_normaliser(image, config.normalise)
    with clock.stage("load"):
        predictor = Predictor.of(config, predictor)
    with clock.stage("size"):
        diameter_px = _diameter(image, normaliser, predictor, config, on_progress)
    plan = plan_tiles(
        image.shape_yx, predictor.target_diameter_px / (diameter_px or 32.0), config.tiles
    )
    engine = engine or SerialEngine()
    tiles = Detected(len(plan))
    with run_ledger(out, run_key(image, predictor, config, plan), len(plan), restart) as ledger:
        with clock.stage("detect"):
            if diameter_px is not None:
                work = TileWork(image, normaliser, plan, config)
                tiles = detect(
                    work,
                    predictor,
                    ledger,
                    engine,
                    on_progress,
                    first=plan.tiles_touching(first_yxyx_px or (0, 0, 0, 0)),
                    on_tile=on_tile,
                )
                require_same(image)
        failed = failed_tiles(plan, ledger)
        with clock.stage("stitch"):
            stitched = stitch(plan, ledger.records(), ledger.path)
        with clock.stage("render"):
            notes = {"failed_tiles": [dataclasses.asdict(t) for t in failed]} if failed else {}
            table, labels = _render(stitched, image, out, overwrite, notes, on_progress)
    findings += [*run_findings(diameter_px, table, failed), *cut_findings(stitched, plan)]
    report = {
        **header(predictor),
        "image": {"name": image.name, "identity": image.identity, "shape_yx": image.shape_yx},
        "settings": as_dict(config),
        "diameter_px": diameter_px,
        "scale": plan.scale,
        "engine": engine.describe(config),
        **dataclasses.asdict(tiles),
        "failed_tiles": [dataclasses.asdict(tile) for tile in failed],
        "n_instances": len(table),
        "n_seam_duplicates": stitched.n_seam_duplicates,
        "n_cut_objects": stitched.n_cut_objects,
        "n_merged_objects": stitched.n_merged_objects,
        "timings_s": clock.timings_s,
        "px_per_s": _px_per_s(image, tiles, clock),
        "findings": [dataclasses.asdict(f) for f in findings],
    }
    return Segmentation(stitched, table, labels, diameter_px, tuple(findings), report, failed)


def check_diameter(diameter_px: float | Literal["auto"], shape_yx: tuple[int, int]) -> None:
    """Refuse a diameter that no object of the image can have.

    Raises
    ------
    SettingsError
        If it is larger than the image.
    """
    if diameter_px != "auto" and diameter_px > max(shape_yx):
        raise SettingsError(
            expected=f"a diameter up to the image's size of {max(shape_yx)} px",
            got=f"{diameter_px:g} px",
            remedy="Measure one object in pixels, or use 'auto'.",
        )


def run_key(
    image: Image, predictor: Predictor, config: SegmentConfig, plan: TilePlan
) -> dict[str, Any]:
    """Return all that the result depends on, for the ledger."""
    settings = as_dict(config)
    # where, with how many threads and in what batches it runs is free to change when resuming
    for name in ("model", "adapter", "device", "threads", "batch", "diameter_px"):
        settings.pop(name)
    settings["precision"] = predictor.precision
    # without an adapter the key is that of versions that knew none, whose runs can go on
    adapter = {"adapter": predictor.adapter_sha256} if predictor.adapter else {}
    return {
        **adapter,
        "image": image.identity,
        "model": predictor.manifest.weights_sha256,
        "score_threshold": predictor.score_threshold(config.detect),
        "settings": settings,
        "scale": plan.scale,
    }


def _diameter(
    image: Image,
    normaliser: Normaliser,
    predictor: Predictor,
    config: SegmentConfig,
    on_progress: OnProgress | None,
) -> float | None:
    """Return the diameter to segment at; None where there can be no object."""
    has_contrast = any(h > low for low, h in zip(normaliser.low, normaliser.high, strict=True))
    if not has_contrast or min(image.shape_yx) < MIN_SIDE_PX:
        return None
    if config.diameter_px != "auto":
        return config.diameter_px
    return estimate_diameter(image, normaliser, predictor, on_progress).diameter_px


@contextlib.contextmanager
def run_ledger(
    out: Path | None, key: dict[str, Any], n_tiles: int, restart: bool
) -> Iterator[Ledger]:
    """Open the ledger; it outlives a TIFF's run only if there is something left to do."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="dinomask-") as folder:
            yield Ledger.create(Path(folder) / "run.ledger", key, n_tiles)
        return
    ledger = Ledger.create(ledger_path(out), key, n_tiles, restart)
    yield ledger
    if out.suffix.lower() != ".zarr" and not ledger.failed():
        ledger.remove()


def _render(
    stitched: Stitched,
    image: Image,
    out: Path | None,
    overwrite: bool,
    notes: dict[str, Any],
    on_progress: OnProgress | None,
) -> tuple[pd.DataFrame, Array | None]:
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


def run_findings(
    diameter_px: float | None, table: pd.DataFrame, failed: tuple[FailedTile, ...]
) -> list[Finding]:
    """Say what a user should know about a run's result."""
    found = []
    if failed:
        what = f"{len(failed)} tiles failed; objects there are missing"
        remedy = "Run it again with --overwrite: it tries these, and keeps the others."
        found.append(Finding("warning", what, remedy))
    if diameter_px is None:
        what = "no object was found while estimating the object size"
        remedy = "If there are objects, give their size (--diameter PX)."
        found.append(Finding("warning", what, remedy))
    elif not len(table):
        what = f"no object of about {diameter_px:g} px was found"
        remedy = "Try another object size or a lower score threshold."
        found.append(Finding("warning", what, remedy))
    return found


def _px_per_s(image: Image, tiles: Detected, clock: _Clock) -> float:
    """Return the speed of what was done in this run, without tiles of an earlier one."""
    work_s = sum(clock.timings_s[k] for k in ("size", "detect", "stitch", "render"))
    share = 1 - tiles.n_resumed / tiles.n_tiles
    return round(image.shape_yx[0] * image.shape_yx[1] * share / max(work_s, 1e-9))
