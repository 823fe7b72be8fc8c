"""A random scene: its objects, its microscope and its file."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft

from dinomask.train.generate import cells, layouts, shapes, tissue
from dinomask.train.generate.optics import compress
from dinomask.train.generate.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable

    Rng = np.random.Generator

Array = npt.NDArray[Any]

MARGIN_PX = 12
"""Drawn around the image and cut off: objects reach over its edge, filters wrap outside."""

SIDES_PX = (192, 416)
"""Shortest and longest side; about nine typical objects fit along one in between."""

DIAMETERS_PX = (8.0, 90.0)

LIMITS_PX = {
    "epithelium": (14.0, 90.0),
    "cobbles": (10.0, 90.0),
    "rods": (8.0, 45.0),
    "spindles": (12.0, 90.0),
    "amoebae": (12.0, 90.0),
}
"""Sizes of arrangements that would be unreadable or unheard of at others."""

EMPTY_PROBABILITY = 0.02
"""Images without any object teach that texture and dirt are none."""


class GeneratedImage(NamedTuple):
    """An image and its truth, as `dinomask.train.datasets.Sample.read` returns them.

    Attributes
    ----------
    image_cyx : shape (1, Y, X) or (3, Y, X), uint8 or uint16
    labels_yx : shape (Y, X), int32; 0 background, 1..N
    is_rgb : whether the channels are colours
    """

    image_cyx: Array
    labels_yx: Array
    is_rgb: bool


@dataclasses.dataclass(frozen=True)
class Kind:
    """One type of microscopy.

    Attributes
    ----------
    draw : turns a scene into planes (C, Y, X), about 0 to 1
    shapes : arrangements that this microscopy shows, with their relative frequency
    weight : how often this kind is drawn, relative to the others
    diameters_px : smallest and largest typical diameter
    """

    draw: Callable[[Scene], Array]
    shapes: dict[str, float]
    weight: float
    diameters_px: tuple[float, float] = DIAMETERS_PX


NUCLEI = {"blobs": 5, "ellipses": 1.5, "cobbles": 1.5, "rods": 0.3}
CELLS = {"blobs": 1.5, "amoebae": 1.5, "cobbles": 1.5, "epithelium": 0.5, "spindles": 2}
STAINED = {"blobs": 1, "amoebae": 2, "cobbles": 2, "epithelium": 3, "spindles": 2}
MICROBES = {"rods": 1.2, "yeast": 1.2}

KINDS: dict[str, Kind] = {
    "fluorescent nuclei": Kind(cells.fluorescent_nuclei, NUCLEI, 2.0),
    "stained cells": Kind(cells.stained_cells, STAINED | MICROBES, 2.0),
    "phase contrast": Kind(cells.phase_contrast, CELLS | MICROBES, 2.0),
    "brightfield": Kind(cells.brightfield, CELLS | MICROBES, 1.5),
    "interference contrast": Kind(cells.interference_contrast, CELLS | MICROBES, 1.0),
    "histology": Kind(
        tissue.histology, {"blobs": 3, "ellipses": 2, "cobbles": 0.7}, 1.5, (8.0, 45.0)
    ),
    "cytology": Kind(
        tissue.cytology, {"blobs": 3, "cobbles": 1, "spindles": 1, "amoebae": 1}, 0.1, (16.0, 90.0)
    ),
    "electron": Kind(
        tissue.electron,
        {"epithelium": 2, "cobbles": 1, "blobs": 1, "ellipses": 1},
        0.8,
        (14.0, 90.0),
    ),
    "particles": Kind(
        tissue.particles, {"balls": 4, "blobs": 1, "epithelium": 0.3}, 0.7, (10.0, 90.0)
    ),
}

LAMP_LIT = ("phase contrast", "brightfield", "interference contrast")
"""Kinds whose grey a colour camera may have recorded with a cast."""


def generate_image(rng: Rng, kind: str | None = None, side_px: int | None = None) -> GeneratedImage:
    """Draw a random scene as one of many microscopes would show it.

    Parameters
    ----------
    rng : the only source of chance: the same state gives the same image
    kind : one of `KINDS`; None draws one
    side_px : height and width; None chooses it by the size of the objects

    Raises
    ------
    KeyError
        If there is no such kind.
    """
    if kind is None:
        kind = _draw_name(rng, {name: k.weight for name, k in KINDS.items()})
    chosen = KINDS[kind]
    arrangement = _draw_name(rng, chosen.shapes)
    low, high = LIMITS_PX.get(arrangement, DIAMETERS_PX)
    low, high = max(low, chosen.diameters_px[0]), min(high, chosen.diameters_px[1])
    diameter = math.exp(rng.uniform(math.log(low), math.log(high)))
    side_px = side_px or int(np.clip(9 * diameter, *SIDES_PX))
    size = fft.next_fast_len(side_px + 2 * MARGIN_PX, real=True)
    labels = _draw_labels(rng, (size, size), diameter, arrangement)
    planes = chosen.draw(Scene(rng, labels, diameter))
    inner = slice(MARGIN_PX, MARGIN_PX + side_px)
    image, is_rgb = _expose(rng, planes[:, inner, inner], kind in LAMP_LIT)
    return GeneratedImage(image, layouts.tidy(labels[inner, inner]), is_rgb)


def _draw_name(rng: Rng, weights: dict[str, float]) -> str:
    shares = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=shares / shares.sum()))


def _draw_labels(
    rng: Rng, shape_yx: tuple[int, int], diameter_px: float, arrangement: str
) -> Array:
    if rng.random() < EMPTY_PROBABILITY:
        return np.zeros(shape_yx, np.int32)
    if arrangement in ("epithelium", "cobbles"):
        return _draw_packed(rng, shape_yx, diameter_px, arrangement == "cobbles")
    layout = layouts.draw_layout(rng, diameter_px)
    if arrangement == "balls":
        crowd, mixed = float(rng.uniform(0.4, 0.9)), float(rng.uniform(0.1, 0.6))
        layout = dataclasses.replace(layout, coverage=crowd, spread=mixed, overlap=0.4)
    outlines = _outlines(rng, arrangement)
    parallel = arrangement in ("spindles", "rods", "ellipses") and rng.random() < 0.5
    alignment = float(rng.uniform(0.6, 1.0)) if parallel else 0.0
    return layouts.tidy(layouts.scatter(rng, shape_yx, layout, outlines, alignment))


def _draw_packed(rng: Rng, shape_yx: tuple[int, int], diameter_px: float, rounded: bool) -> Array:
    roundness = float(rng.uniform(0.3, 1.0)) if rounded or rng.random() < 0.3 else 0.0
    labels = layouts.tidy(layouts.pack(rng, shape_yx, diameter_px, roundness))
    if rounded:
        labels = layouts.round_corners(labels, diameter_px * rng.uniform(0.15, 0.28))
    if rng.random() < 0.5:
        labels = layouts.colonies(rng, labels, rng.uniform(0.3, 0.8))
    return layouts.tidy(labels)


def _outlines(rng: Rng, arrangement: str) -> Callable[[], list[Array]]:
    """Choose what the objects of a scene have in common; return their outlines."""
    stretch = rng.uniform(1.0, 2.0)
    irregular = float(rng.choice([0.02, 0.05, 0.1, 0.22], p=[0.3, 0.35, 0.25, 0.1]))
    longest, most = rng.uniform(2.5, 9), int(rng.choice([1, 2, 5]))
    table: dict[str, Callable[[], list[Array]]] = {
        "balls": lambda: [shapes.blob(rng, rng.uniform(1, 1.08), 0.01)],
        "blobs": lambda: [shapes.blob(rng, rng.uniform(1, stretch), irregular)],
        "ellipses": lambda: [shapes.blob(rng, rng.uniform(1.6, 2 + stretch), 0.05)],
        "amoebae": lambda: [shapes.blob(rng, rng.uniform(1, stretch), rng.uniform(0.1, 0.28))],
        "spindles": lambda: [shapes.spindle(rng, rng.uniform(2.2, longest + 1))],
        "rods": lambda: shapes.rod_chain(
            rng, rng.uniform(1.8, longest), int(rng.integers(1, most + 1))
        ),
        "yeast": lambda: shapes.budding(rng),
    }
    return table[arrangement]


def _expose(rng: Rng, planes_cyx: Array, may_have_cast: bool) -> tuple[Array, bool]:
    """Digitise planes of about 0 to 1; some grey ones become colour pictures."""
    is_rgb = len(planes_cyx) == 3
    planes = planes_cyx * rng.uniform(0.6, 1.1) if not is_rgb else planes_cyx
    brightest = float(np.quantile(planes[:, ::3, ::3], 0.998))
    if brightest > 1:
        # cameras are set so that little is over-exposed
        planes = planes * rng.uniform(0.85, 1.1) / brightest
    if not is_rgb and rng.random() < 0.3:
        top = np.iinfo(np.uint16).max * 10 ** rng.uniform(-2, -0.3)
        counts = np.clip(planes * top + rng.uniform(0, 500), 0, np.iinfo(np.uint16).max)
        return np.round(counts).astype(np.uint16), False
    if may_have_cast and rng.random() < 0.1:
        # a colour camera's white balance
        planes = planes * np.exp(rng.normal(0, 0.04, 3))[:, None, None]
        is_rgb = True
    pixels = np.clip(np.round(planes * 255), 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        pixels = compress(pixels, int(rng.integers(55, 95)))
    return pixels, is_rgb


def describe_generated(share: float) -> tuple[dict[str, str], ...]:
    """Name the generated images among the sources of a training, for a manifest.

    Parameters
    ----------
    share : of the crops; 0 gives an empty tuple
    """
    if share <= 0:
        return ()
    return (
        {
            "name": "generated images",
            "split": f"{share:.0%} of the crops",
            "images": "ever new",
            "licence": "none needed",
        },
    )
