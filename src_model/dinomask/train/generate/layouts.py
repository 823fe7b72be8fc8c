"""Arrangements of objects in a scene: scattered, clustered, packed, in islands."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage import measure

from dinomask.train.generate.optics import smooth_noise

if TYPE_CHECKING:
    from collections.abc import Callable

    Rng = np.random.Generator

Array = npt.NDArray[Any]

SMALLEST_AREA_PX = 8
"""Objects of which less is visible are dropped."""

MOST_OBJECTS = 130
"""Objects placed in a scene, which bounds the time to draw it."""

N_PATTERNS = 32
"""Different groups in a scene; each is used in many sizes and directions."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How many objects, how large, and how they meet.

    Attributes
    ----------
    diameter_px : median of the equivalent diameters
    spread : standard deviation of the log of the diameters
    coverage : share of the scene that objects are to cover
    sociability : share of the objects that are set beside another
    overlap : share of an object that may lie on others
    """

    diameter_px: float
    spread: float
    coverage: float
    sociability: float
    overlap: float


def draw_layout(rng: Rng, diameter_px: float) -> Layout:
    """Draw an arrangement: sparse or crowded, even or mixed sizes, apart or touching."""
    crowded = rng.random() < 0.4
    return Layout(
        diameter_px=diameter_px,
        spread=float(rng.uniform(0.05, 0.4)),
        coverage=float(rng.uniform(0.3, 0.7) if crowded else rng.uniform(0.03, 0.35)),
        sociability=float(rng.choice([0.0, 0.3, 0.7, 0.95], p=[0.2, 0.3, 0.3, 0.2])),
        overlap=float(rng.choice([0.03, 0.15, 0.4], p=[0.5, 0.35, 0.15])),
    )


def _place(points_yx: Array, diameter_px: float, angle: float) -> Array:
    sin, cos = diameter_px * math.sin(angle), diameter_px * math.cos(angle)
    turned: Array = points_yx @ np.array([[cos, -sin], [sin, cos]])
    return turned


def scatter(
    rng: Rng,
    shape_yx: tuple[int, int],
    layout: Layout,
    draw: Callable[[], list[Array]],
    alignment: float = 0.0,
) -> Array:
    """Place groups of objects; where objects overlap, the topmost wins.

    Parameters
    ----------
    draw : returns the outlines of a group; called `N_PATTERNS` times
    alignment : 0 for any direction to 1 for all in parallel

    Returns
    -------
    shape (Y, X), int32, 0 background; ids may have gaps
    """
    labels = np.zeros(shape_yx, np.int32)
    object_px2 = math.pi / 4 * layout.diameter_px**2
    wanted = math.ceil(layout.coverage * labels.size / object_px2)
    wanted, n_placed = min(max(wanted, 1), MOST_OBJECTS), 0
    direction, over = rng.uniform(0, math.pi), rng.random() < 0.5
    centres: list[tuple[float, float, float]] = []
    patterns = [draw() for _ in range(min(N_PATTERNS, wanted))]
    for _ in range(2 * wanted):
        if n_placed >= wanted:
            break
        diameter = layout.diameter_px * math.exp(rng.normal(0, layout.spread))
        angle = direction + (1 - alignment) * rng.uniform(-math.pi, math.pi)
        pattern = patterns[rng.integers(len(patterns))]
        group = [_place(outline, max(diameter, 4.0), angle) for outline in pattern]
        y, x = rng.random(2) * shape_yx
        reach = max(min(np.ptp(group[0], 0).tolist()) / 2, 2.0)
        if centres and rng.random() < layout.sociability:
            y, x = _beside(rng, centres[rng.integers(len(centres))], reach)
        if _paint(labels, group, (y, x), n_placed, layout.overlap, over):
            n_placed += len(group)
            centres.append((y, x, reach))
    return labels


def _beside(rng: Rng, other: tuple[float, float, float], reach: float) -> tuple[float, float]:
    distance = (other[2] + reach) * rng.uniform(0.9, 1.15)
    angle = rng.uniform(0, 2 * math.pi)
    return other[0] + distance * math.sin(angle), other[1] + distance * math.cos(angle)


def _paint(
    labels: Array,
    group: list[Array],
    centre: tuple[float, float],
    n_placed: int,
    overlap: float,
    over: bool,
) -> bool:
    """Paint a group with the ids after `n_placed`, unless it lies on others too much."""
    masks = []
    for outline in group:
        box, mask = _fill(outline + centre, labels.shape)
        taken = np.count_nonzero(labels[box] * mask)
        if not mask.any() or taken > overlap * np.count_nonzero(mask):
            return False
        masks.append((box, mask))
    for i, (box, mask) in enumerate(masks, start=n_placed + 1):
        labels[box][mask if over else mask & (labels[box] == 0)] = i
    return True


def _fill(points_yx: Array, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], Array]:
    ends = zip(points_yx.min(0).tolist(), points_yx.max(0).tolist(), shape, strict=True)
    rows, cols = (
        slice(start := min(max(math.floor(low), 0), n), max(min(math.ceil(high) + 1, n), start))
        for low, high, n in ends
    )
    height, width = rows.stop - rows.start, cols.stop - cols.start
    if not height or not width:
        return (rows, cols), np.zeros((height, width), bool)
    canvas = Image.new("1", (width, height))
    corners = (points_yx - (rows.start, cols.start))[:, ::-1]
    ImageDraw.Draw(canvas).polygon(corners.ravel().tolist(), fill=1)
    return (rows, cols), np.asarray(canvas)


def pack(rng: Rng, shape_yx: tuple[int, int], diameter_px: float, roundness: float) -> Array:
    """Fill the scene with touching cells: a Voronoi diagram with bent borders.

    Parameters
    ----------
    roundness : 0 for cells that fill the plane; towards 1 each is cut to a disc
        around its seed, so that gaps open

    Returns
    -------
    shape (Y, X), int32, 0 background; ids may have gaps
    """
    # seeds on a jittered grid: the nearest is among the neighbouring grid cells
    pitch = diameter_px * 0.9
    rows, cols = (math.ceil(n / pitch) + 4 for n in shape_yx)
    seeds = np.mgrid[:rows, :cols].astype(np.float32) + 0.5
    seeds[1] += 0.5 * (np.arange(rows) % 2)[:, None]
    seeds += rng.uniform(-0.42, 0.42, seeds.shape).astype(np.float32)
    bonus = rng.uniform(0, 0.25, (rows, cols)).astype(np.float32)
    bend = rng.uniform(0, 0.12)
    y, x = (
        i / np.float32(pitch) + 2 + np.float32(bend) * smooth_noise(rng, shape_yx, diameter_px / 5)
        for i in np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape_yx), indexing="ij")
    )
    own_y, own_x = y.astype(np.int32), x.astype(np.int32)
    best, labels = np.full(shape_yx, np.inf, np.float32), np.zeros(shape_yx, np.int32)
    for dy in (-1, 0, 1):
        for dx in (-2, -1, 0, 1):
            row, col = np.clip(own_y + dy, 0, rows - 1), np.clip(own_x + dx, 0, cols - 1)
            at = row * cols + col
            far = (y - seeds[0].take(at)) ** 2 + (x - seeds[1].take(at)) ** 2 - bonus.take(at)
            nearer = far < best
            np.copyto(best, far, where=nearer)
            np.copyto(labels, at + 1, where=nearer)
    return np.where(best < 0.9 - 0.7 * roundness, labels, 0) if roundness > 0 else labels


def round_corners(labels_yx: Array, radius_px: float) -> Array:
    """Cut off the corners that a disc of a radius inside an object does not reach."""
    edge = np.zeros(labels_yx.shape, bool)
    for axis in range(2):
        differs = np.diff(labels_yx, axis=axis, append=np.take(labels_yx, [-1], axis)) != 0
        edge |= differs
    core = ndimage.distance_transform_edt(~edge) >= radius_px
    if not core.any():
        return labels_yx
    reached = ndimage.distance_transform_edt(~core) < radius_px
    return np.where(reached, labels_yx, 0)


def colonies(rng: Rng, labels_yx: Array, share: float) -> Array:
    """Remove whole objects outside random islands that cover about `share` of the scene."""
    noise = smooth_noise(rng, (labels_yx.shape[0], labels_yx.shape[1]), min(labels_yx.shape) / 7)
    areas = np.maximum(np.bincount(labels_yx.ravel()), 1)
    middle = np.bincount(labels_yx.ravel(), noise.ravel()) / areas
    return np.where((middle > np.quantile(noise, 1 - share))[labels_yx], labels_yx, 0)


def tidy(labels_yx: Array) -> Array:
    """Keep the largest 4-connected piece of each object; number those left 1..N.

    Objects of less than `SMALLEST_AREA_PX` are dropped.

    Returns
    -------
    shape (Y, X), int32
    """
    pieces = measure.label(labels_yx, background=0, connectivity=1)  # type: ignore[no-untyped-call]
    areas = np.bincount(pieces.ravel())
    owner = np.zeros(len(areas), np.int64)
    owner[pieces.ravel()] = labels_yx.ravel()
    areas[0] = 0
    order = np.argsort(areas, kind="stable")
    largest = np.zeros(int(labels_yx.max(initial=0)) + 1, np.int64)
    largest[owner[order]] = order
    keep = largest[1:][areas[largest[1:]] >= SMALLEST_AREA_PX]
    numbers = np.zeros(len(areas), np.int32)
    numbers[keep] = np.arange(1, len(keep) + 1)
    tidied: Array = numbers[pieces]
    return tidied
