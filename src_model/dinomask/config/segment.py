"""Settings of a segmentation."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from dinomask.config.checks import require
from dinomask.config.model import PATCH_PX

MIN_DIAMETER_PX = 1.0
"""Smallest object size that can be asked for."""

MIN_TILE_PX = 8 * PATCH_PX
"""Smallest side of what the network is shown."""

TTA_SCALE_RANGE = (0.25, 4.0)
"""Scales of test-time augmentation; further away no object is of a size the model knows."""


@dataclasses.dataclass(frozen=True)
class NormaliseConfig:
    """How intensities become the model's input, once an image."""

    low_pct: float = 1.0
    """Percentile mapped to 0."""

    high_pct: float = 99.8
    """Percentile mapped to 1."""

    max_samples: int = 2_000_000
    """Pixels a channel read to find the percentiles."""

    def __post_init__(self) -> None:
        require(
            0 <= self.low_pct < self.high_pct <= 100,
            "percentiles with 0 <= low < high <= 100",
            (self.low_pct, self.high_pct),
            "Give the percentiles in percent, the lower one first.",
        )


@dataclasses.dataclass(frozen=True)
class TileConfig:
    """How an image is cut, in model pixels (after resampling)."""

    tile_px: int = 560
    """Longest side of the read region, a multiple of 14; shorter where that covers the image with
    as few tiles."""

    halo_px: int = 64
    """Margin around a tile's core; at least the radius of the largest object + 28."""

    seam_px: int = 8
    """How far outside its core a tile keeps candidates for seam matching."""

    skip_blank: bool = True
    """Don't show the network tiles that are too even to hold an object, however faint."""

    def __post_init__(self) -> None:
        require(
            self.tile_px >= MIN_TILE_PX and self.tile_px % PATCH_PX == 0,
            f"a tile side that is a multiple of {PATCH_PX} and at least {MIN_TILE_PX}",
            self.tile_px,
            "Use 560, or 224 where memory is short.",
        )
        require(
            0 <= self.halo_px <= self.tile_px // 2 - PATCH_PX,
            f"a halo from 0 to {self.tile_px // 2 - PATCH_PX} pixels for this tile",
            self.halo_px,
            "Make the halo smaller or the tile larger.",
        )
        require(
            0 <= self.seam_px <= self.halo_px,
            "a seam margin from 0 to the halo",
            self.seam_px,
            "Use 8.",
        )


@dataclasses.dataclass(frozen=True)
class DetectConfig:
    """From dense predictions to instances of one tile."""

    score_threshold: float | None = None
    """Lowest score of an instance, 0 to 1; None takes the model's own."""

    pre_nms: int = 2000
    """Locations a pyramid level that go into non-maximum suppression."""

    nms_iou: float = 0.6
    """Boxes that overlap more than this are one object."""

    max_instances: int = 1000
    """Instances a tile at most."""

    duplicate_iou: float = 0.5
    """Masks with a higher IoU are one object."""

    duplicate_iomin: float = 0.7
    """Masks of which one lies inside the other by more than this are one object."""

    candidate_score: float = 0.05
    """Detections below this never reach the mask head."""

    tta: Literal["off", "flips", "full"] = "off"
    """Test-time augmentation: look at each tile once, flipped along y and x (4 views), or also
    turned by 90° (8 views), and join what is found. A little more accurate, 4 or 8 times the
    time."""

    tta_scales: tuple[float, ...] = ()
    """Further scales at which to look, relative to the first: 0.8 and 1.25 for a little more
    accuracy, 0.4 and 2.5 for objects of very different sizes in one image. Each takes its square
    as long as the first."""

    def __post_init__(self) -> None:
        for name in ("nms_iou", "duplicate_iou", "duplicate_iomin", "candidate_score"):
            value = getattr(self, name)
            require(0 < value < 1, f"{name} between 0 and 1", value, "Use the default.")
        if self.score_threshold is not None:
            require(
                0 <= self.score_threshold < 1,
                "a score threshold from 0 up to 1",
                self.score_threshold,
                "Lower finds more objects, higher fewer; leave it out for the model's own.",
            )
        scales = (1.0, *self.tta_scales)
        low, high = TTA_SCALE_RANGE
        require(
            all(low <= s <= high for s in scales) and len(set(scales)) == len(scales),
            f"different scales from {low:g} to {high:g} beside 1",
            self.tta_scales,
            "Try 0.8 and 1.25, or leave them out.",
        )


@dataclasses.dataclass(frozen=True)
class SegmentConfig:
    """One segmentation of one image."""

    model: str = "tiny"
    """Name of a model (see `dinomask models list`) or a checkpoint folder."""

    adapter: str | None = None
    """Name of an adapter that was taught on the model, or its folder; None uses the bare model."""

    diameter_px: float | Literal["auto"] = "auto"
    """Median diameter of the objects in image pixels; auto estimates it."""

    sizes: Literal["auto", "alike", "mixed"] = "auto"
    """Whether objects of one image are of similar size, or mixed: then far smaller and larger ones
    are looked for at scales of their own, which takes six times as long. auto takes mixed for
    adapters that were taught on such objects."""

    channels: tuple[int, ...] = ()
    """Channels to use, counted from 0; empty takes grey or RGB as they come."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs."""

    threads: int | None = None
    """CPU threads of the network; None takes all cores but one (at least one), or one a
    worker where there are several. Results are the same to the last bit for the same number."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network; auto takes the model's own or else bf16 on CUDA and on CPUs with
    matrix units (AMX), where it is about twice as fast, and fp32 elsewhere. fp16 needs CUDA."""

    batch: int | None = None
    """Tiles that go through the network at once; None takes 8 on CUDA and 1 on the CPU.
    Where memory is short on CUDA it is halved by itself."""

    normalise: NormaliseConfig = NormaliseConfig()
    tiles: TileConfig = TileConfig()
    detect: DetectConfig = DetectConfig()

    def __post_init__(self) -> None:
        if self.diameter_px != "auto":
            require(
                math.isfinite(self.diameter_px) and self.diameter_px >= MIN_DIAMETER_PX,
                f"a diameter of at least {MIN_DIAMETER_PX:g} pixels",
                self.diameter_px,
                "Measure one object in pixels, or use 'auto'.",
            )
        require(
            self.batch is None or self.batch >= 1,
            "a batch of at least 1 tile",
            self.batch,
            "Leave it out, or use 1 where memory is short.",
        )
        require(
            all(c >= 0 for c in self.channels),
            "channels counted from 0",
            self.channels,
            "The first channel is 0.",
        )


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """How the tiles of an image are worked through; the result doesn't depend on it."""

    engine: Literal["serial", "processes", "dask"] = "serial"
    """One tile after another; in several processes of this machine; or by Dask, on this
    machine or on a cluster."""

    workers: int | None = None
    """Processes of the engines processes and dask; None takes one a core."""

    scheduler: str | None = None
    """Address of a running Dask scheduler, such as tcp://10.0.0.5:8786; None starts an own
    cluster on this machine."""

    def __post_init__(self) -> None:
        require(
            self.workers is None or self.workers >= 1,
            "at least 1 worker",
            self.workers,
            "Leave it out to take one a core.",
        )
        require(
            self.workers is None or self.engine != "serial",
            "no number of workers for the serial engine",
            self.workers,
            "Add --engine processes, or --engine dask.",
        )
        require(
            self.scheduler is None or self.engine == "dask",
            "a scheduler's address only for the engine dask",
            self.scheduler,
            "Add --engine dask.",
        )
        require(
            self.scheduler is None or self.workers is None,
            "either a scheduler's address or a number of workers",
            f"{self.scheduler} and {self.workers}",
            "A running cluster has its own workers; leave out --workers.",
        )
