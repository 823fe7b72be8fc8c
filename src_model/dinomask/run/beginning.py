"""What every run does before its first tile: examine, normalise, load, find the size, plan."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from dinomask.image.doctor import Finding, require_usable
from dinomask.run.checks import NO_SIZE_PX, can_show_objects, check_diameter
from dinomask.run.predictor import Predictor
from dinomask.run.report import Stopwatch
from dinomask.run.sizes import with_scales
from dinomask.tiles.outputs import check_output
from dinomask.tiles.plan import TilePlan, plan_tiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dinomask.config import NormaliseConfig, SegmentConfig
    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image


@dataclasses.dataclass(frozen=True)
class Beginning:
    """What a run knows before its first tile.

    Attributes
    ----------
    config : settings, with the scales at which objects are looked for
    predictor : the model
    normaliser : of the intensities
    diameter_px : given or estimated; None if there is no object to estimate it
    scale : of model pixels to image pixels
    plan : of one plane
    findings : of the input doctor
    watch : with the times of these steps
    """

    config: SegmentConfig
    predictor: Predictor
    normaliser: Normaliser
    diameter_px: float | None
    scale: float
    plan: TilePlan
    findings: list[Finding]
    watch: Stopwatch


def begin_run(
    image: Image,
    out: Path | None,
    config: SegmentConfig,
    predictor: Predictor | None,
    *,
    overwrite: bool,
    examine: Callable[[], list[Finding]],
    fit: Callable[[NormaliseConfig], Normaliser],
    estimate: Callable[[Normaliser, Predictor], float | None],
) -> Beginning:
    """Do all that a run needs before its first tile.

    Parameters
    ----------
    image : the image, or the first plane of several
    out : where labels will be written; None for memory
    config : settings
    predictor : a loaded model to use again; None loads the one of `config`
    overwrite : whether an existing output may be replaced
    examine : what the input doctor says
    fit : the normaliser of all that is segmented
    estimate : the diameter, where none is given and there can be objects

    Raises
    ------
    InputError, OutputError, SettingsError, ModelError
        As `dinomask.run.segment.segment`.
    """
    check_diameter(config.diameter_px, image.shape_yx)
    if out is not None:
        check_output(out, overwrite, keep=[image.path] if image.path else [])
    watch = Stopwatch()
    findings = examine()
    require_usable(findings)
    normaliser = fit(config.normalise)
    watch.lap("examine")
    predictor = Predictor.of(config, predictor)
    config = with_scales(config, predictor)
    watch.lap("load")
    diameter_px = None
    if can_show_objects(normaliser, image.shape_yx):
        given = config.diameter_px
        diameter_px = estimate(normaliser, predictor) if given == "auto" else given
    watch.lap("size")
    scale = predictor.target_diameter_px / (diameter_px or NO_SIZE_PX)
    plan = plan_tiles(image.shape_yx, scale, config.tiles, predictor.network.side_step_px)
    return Beginning(config, predictor, normaliser, diameter_px, scale, plan, list(findings), watch)
