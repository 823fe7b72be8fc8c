"""Segment the planes of a movie or stack, and link their objects.

All planes share one normaliser, one object size, one plan of tiles and one
ledger. So an engine is busy across planes even where a plane is one tile, a
run that was stopped goes on at the tile, and one key guards all records.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.config import PlanesConfig, SegmentConfig, as_dict
from dinomask.image.stack import examine_stack, fit_stack_normaliser
from dinomask.run.beginning import begin_run
from dinomask.run.checks import run_findings
from dinomask.run.detect import Detected, detect
from dinomask.run.engines import SerialEngine
from dinomask.run.places import activity
from dinomask.run.plane_joiner import PlaneJoiner
from dinomask.run.report import px_per_s, run_report
from dinomask.run.resuming import run_key, run_ledger
from dinomask.run.size import estimate_diameter
from dinomask.run.stack_work import FailedPlaneTile, StackWork

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from dinomask.image.doctor import Finding
    from dinomask.image.normalise import Normaliser
    from dinomask.image.stack import Stack
    from dinomask.instances import Array
    from dinomask.run.engines import Engine
    from dinomask.run.predictor import Predictor
    from dinomask.run.progress import OnProgress, OnTile
    from dinomask.tiles.plan import Box, TilePlan

SIZED_PLANES = 3
"""Planes in which the object size is estimated."""

_LOOKED_AT = 9


@dataclasses.dataclass(frozen=True)
class StackSegmentation:
    """The result of one run over planes.

    Attributes
    ----------
    table : one row an instance: id, as in the label image; object_id where planes are linked,
        the same for all sections of an object, as id is then; t and z, as far as there are
        several, counted in the label image; box, score, class, area_px, …
    labels : the label image, planes before y and x, if it was not written to a file
    diameter_px : given or estimated; None if no object was found to estimate it
    findings : what the input doctor and the run noticed
    report : version, model, settings, machine, timings and figures
    failed_tiles : where objects are missing; the same command tries them again
    """

    table: pd.DataFrame
    labels: Array | None
    diameter_px: float | None
    findings: tuple[Finding, ...]
    report: dict[str, Any]
    failed_tiles: tuple[FailedPlaneTile, ...] = ()


def segment_planes(
    stack: Stack,
    out: Path | None = None,
    config: SegmentConfig | None = None,
    planes: PlanesConfig | None = None,
    *,
    overwrite: bool = False,
    restart: bool = False,
    predictor: Predictor | None = None,
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
    first_place: tuple[int, ...] = (),
    first_yxyx_px: Box = (0, 0, 0, 0),
    on_tile: OnTile | None = None,
) -> StackSegmentation:
    """Find every instance in every plane, and the objects they are sections of.

    A cancelled or crashed run with an output goes on where it stopped when
    called again with the same settings; planes may be linked otherwise.

    Parameters
    ----------
    stack : from `dinomask.image.open_stack`
    out : ``.tif`` or ``.zarr``, of axes TZYX as far as there are several planes; None draws
        the labels in memory
    config : settings, as for one image
    planes : whether and how to link; through z where there are several, else through t
    overwrite : replace an existing output
    restart : forget an unfinished run of this output
    predictor : a loaded model to use again; None loads the one of `config`
    engine : how tiles are worked through; None takes one after another
    on_progress : called between steps; raising `CancelledError` stops the run
    first_place : the plane that is worked on first, by its place in the stack's shape; `()`
        begins with the first one
    first_yxyx_px : a window of that plane whose tiles come before all others
    on_tile : told what was found in each tile as it is done

    Raises
    ------
    InputError
        If the stack can't be segmented, or changes under way (`SourceChangedError`).
    OutputError
        If the output exists or can't be written.
    SettingsError
        If the diameter does not fit the image.
    ModelError
        If the model can't be loaded.
    """
    base, planes = stack.base, planes or PlanesConfig()
    begun = begin_run(
        base,
        out,
        config or SegmentConfig(),
        predictor,
        overwrite=overwrite,
        examine=lambda: examine_stack(stack),
        fit=lambda settings: fit_stack_normaliser(stack, settings),
        estimate=lambda normaliser, model: _estimate(stack, normaliser, model, on_progress),
    )
    config, predictor, plan, watch = begun.config, begun.predictor, begun.plan, begun.watch
    work = StackWork(base, begun.normaliser, plan, config, stack)
    engine = engine or SerialEngine()
    tiles = Detected(work.n_tiles)
    key = stack_key(stack, predictor, config, plan)
    with run_ledger(out, key, work.n_tiles, restart) as ledger:
        if begun.diameter_px is not None:
            first = work.of_plane(first_place, first_yxyx_px)
            tiles = detect(
                work, predictor, ledger, engine, on_progress, first=first, on_tile=on_tile
            )
            stack.require_same()
        watch.lap("detect")
        failed = work.failed_tiles(ledger)
        joiner = PlaneJoiner(stack, plan, ledger, planes, on_progress)
        table, labels = joiner.render(out, overwrite)
        watch.lap("render")
    findings = [*begun.findings, *run_findings(config, begun.diameter_px, table, failed)]
    common = run_report(predictor, config, engine, tiles, watch, failed, findings)
    report = {
        **common,
        "image": {"name": base.name, "identity": stack.identity, "shape_yx": base.shape_yx},
        "planes": {axis: [r.start, r.stop] for axis, r in stack.indices.items()},
        "settings": {**common["settings"], "planes": as_dict(planes)},
        "diameter_px": begun.diameter_px,
        "scale": begun.scale,
        "n_instances": len(table),
        "n_objects": joiner.n_objects,
        "px_per_s": px_per_s((len(stack), *base.shape_yx), tiles, watch),
    }
    return StackSegmentation(table, labels, begun.diameter_px, tuple(findings), report, failed)


def stack_key(
    stack: Stack, predictor: Predictor, config: SegmentConfig, plan: TilePlan
) -> dict[str, Any]:
    """Return all that the records depend on, for the ledger; linking comes after them."""
    return {
        **run_key(stack.base, predictor, config, plan),
        "image": stack.identity,
        "planes": {axis: [r.start, r.stop] for axis, r in stack.indices.items()},
    }


def _estimate(
    stack: Stack, normaliser: Normaliser, predictor: Predictor, on_progress: OnProgress | None
) -> float | None:
    """Estimate the diameter in the busiest of some planes; None if nothing was found.

    The size is one for all, so that an object is cut alike in every plane.
    """
    found = []
    for number in busy_planes(stack, normaliser, SIZED_PLANES):
        estimate = estimate_diameter(stack.image(number), normaliser, predictor, on_progress)
        if estimate.diameter_px is not None:
            found += [estimate.diameter_px] * max(estimate.n_objects, 1)
    return round(float(np.median(found)), 2) if found else None


def busy_planes(stack: Stack, normaliser: Normaliser, n: int) -> list[int]:
    """Return the numbers of the n planes with most to see, of some spread over the stack."""
    numbers = stack.spread(max(n, _LOOKED_AT))
    contrast = np.array([activity(stack.image(i), normaliser) for i in numbers])
    order = np.argsort(-contrast, kind="stable")[:n]
    return sorted(numbers[i] for i in order)
