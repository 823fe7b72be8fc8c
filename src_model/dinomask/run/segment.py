"""Segment one image: detect → stitch → render."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinomask.config import SegmentConfig, as_dict
from dinomask.errors import SettingsError
from dinomask.image.doctor import Finding, examine, require_usable
from dinomask.image.normalise import Normaliser, fit_normaliser
from dinomask.image.resample import read_scaled
from dinomask.run.engine import SerialEngine
from dinomask.run.predictor import Predictor
from dinomask.run.progress import OnProgress, Progress
from dinomask.run.report import header
from dinomask.run.size import estimate_diameter
from dinomask.tiles.ledger import Ledger
from dinomask.tiles.outputs import check_output, ledger_path
from dinomask.tiles.plan import TilePlan, owned, plan_tiles
from dinomask.tiles.render import render_image
from dinomask.tiles.stitch import Stitched, stitch
from dinomask.tiles.write import write_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from dinomask.image.source import Image
    from dinomask.instances import Array, Instances
    from dinomask.run.engine import Engine

MIN_SIDE_PX = 4
"""Images narrower than this can't show an object."""


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The result of one run.

    Attributes
    ----------
    stitched : all instances
    table : one row an instance: id, box, score, class, area_px, …
    labels_yx : the label image, if it was not written to a file
    diameter_px : given or estimated; None if no object was found to estimate it
    findings : what the input doctor and the run noticed
    report : version, model, settings, machine, timings and figures
    """

    stitched: Stitched
    table: pd.DataFrame
    labels_yx: Array | None
    diameter_px: float | None
    findings: tuple[Finding, ...]
    report: dict[str, Any]


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
    on_progress : called between steps; raising `CancelledError` stops the run

    Raises
    ------
    InputError
        If the image can't be segmented (e.g. holds NaN).
    OutputError
        If the output exists or can't be written.
    SettingsError
        If the diameter does not fit the image.
    ModelError
        If the model can't be loaded.
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
        predictor = predictor or Predictor.load(config)
    with clock.stage("size"):
        diameter_px = _diameter(image, normaliser, predictor, config, on_progress)
    plan = plan_tiles(
        image.shape_yx, predictor.target_diameter_px / (diameter_px or 32.0), config.tiles
    )
    with _ledger(out, run_key(image, predictor, config, plan), len(plan), restart) as ledger:
        with clock.stage("detect"):
            if diameter_px is not None:
                work = _Work(image, normaliser, predictor, plan, config)
                _detect(work, ledger, engine or SerialEngine(), on_progress)
        with clock.stage("stitch"):
            stitched = stitch(plan, ledger.records())
        with clock.stage("render"):
            table, labels = _render(stitched, image, out, overwrite, on_progress)
    findings = [*findings, *_run_findings(diameter_px, table)]
    report = {
        **header(predictor),
        "image": {"name": image.name, "identity": image.identity, "shape_yx": image.shape_yx},
        "settings": as_dict(config),
        "diameter_px": diameter_px,
        "scale": plan.scale,
        "n_tiles": len(plan),
        "n_instances": len(table),
        "n_seam_duplicates": stitched.n_seam_duplicates,
        "timings_s": clock.timings_s,
        "px_per_s": _px_per_s(image, clock),
        "findings": [dataclasses.asdict(f) for f in findings],
    }
    return Segmentation(stitched, table, labels, diameter_px, tuple(findings), report)


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
    # where and with how many threads it runs is free to change when resuming
    for name in ("model", "device", "threads", "diameter_px"):
        settings.pop(name)
    return {
        "image": image.identity,
        "model": predictor.manifest.weights_sha256,
        "score_threshold": predictor.score_threshold(config.detect),
        "settings": settings,
        "scale": plan.scale,
    }


@dataclasses.dataclass(frozen=True)
class _Work:
    """The tile function: what one tile needs, and nothing of the others."""

    image: Image
    normaliser: Normaliser
    predictor: Predictor
    plan: TilePlan
    config: SegmentConfig

    def __call__(self, index: int) -> Instances:
        tile = self.plan[index]
        pixels = read_scaled(self.image, self.normaliser, self.plan.scale, tile.read_yxyx_px)
        found = self.predictor.detect(pixels, self.config.detect)
        origin = np.array([*tile.read_yxyx_px[:2]] * 2, np.float32)
        boxes = (found.boxes_yxyx_px + origin) / np.float32(self.plan.scale)
        return owned(self.plan, tile, dataclasses.replace(found, boxes_yxyx_px=boxes))


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
def _ledger(out: Path | None, key: dict[str, Any], n_tiles: int, restart: bool) -> Iterator[Ledger]:
    """Open the ledger; it outlives a TIFF's run only if that is cut short."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="dinomask-") as folder:
            yield Ledger.create(Path(folder) / "run.ledger", key, n_tiles)
        return
    ledger = Ledger.create(ledger_path(out), key, n_tiles, restart)
    yield ledger
    if out.suffix.lower() != ".zarr":
        ledger.remove()


def _detect(work: _Work, ledger: Ledger, engine: Engine, on_progress: OnProgress | None) -> None:
    started = time.monotonic()
    pending = list(ledger.pending())
    total = len(work.plan)
    done = resumed = total - len(pending)
    for index, instances in engine.map(work, pending):
        ledger.write(index, instances)
        done += 1
        if on_progress:
            on_progress(Progress("detect", done, total, time.monotonic() - started, resumed))


def _render(
    stitched: Stitched,
    image: Image,
    out: Path | None,
    overwrite: bool,
    on_progress: OnProgress | None,
) -> tuple[pd.DataFrame, Array | None]:
    started = time.monotonic()

    def tell(done: int, total: int) -> None:
        if on_progress:
            on_progress(Progress("render", done, total, time.monotonic() - started))

    if out is None:
        labels, table = render_image(stitched, image.shape_yx, tell)
        return table, labels
    table = write_labels(
        stitched,
        image.shape_yx,
        out,
        pixel_size_um=image.pixel_size_um,
        overwrite=overwrite,
        progress=tell,
    )
    return table, None


def _run_findings(diameter_px: float | None, table: pd.DataFrame) -> list[Finding]:
    if diameter_px is None:
        what = "no object was found while estimating the object size"
        return [Finding("warning", what, "If there are objects, give their size (--diameter PX).")]
    if not len(table):
        what = f"no object of about {diameter_px:g} px was found"
        return [Finding("warning", what, "Try another object size or a lower score threshold.")]
    return []


def _px_per_s(image: Image, clock: _Clock) -> float:
    work = sum(clock.timings_s[k] for k in ("size", "detect", "stitch", "render"))
    return round(image.shape_yx[0] * image.shape_yx[1] / max(work, 1e-9))
