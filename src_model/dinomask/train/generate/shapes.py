"""Random outlines of objects.

An outline is a polygon of shape (N, 2) around the origin (y, x), scaled to the area of a
disc of diameter 1. Objects come in groups of outlines (a budding pair, a chain of rods)
that are placed together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    Rng = np.random.Generator

Array = npt.NDArray[Any]

N_CORNERS = 40


def blob(rng: Rng, elongation: float, irregularity: float) -> Array:
    """Outline an ellipse whose radius varies by low Fourier modes.

    Parameters
    ----------
    elongation : length divided by width, before the modes
    irregularity : standard deviation of the second mode, relative to the radius;
        mode k has 2 / k of it
    """
    theta = np.linspace(0, 2 * np.pi, N_CORNERS, endpoint=False)
    order = np.arange(2, 7)
    amplitude = irregularity * rng.standard_normal(5) * 2 / order
    waves = np.cos(order[:, None] * theta + rng.uniform(0, 2 * np.pi, (5, 1)))
    radius = np.clip(1 + amplitude @ waves, 0.25, None)
    stretch = math.sqrt(elongation)
    points = np.stack([radius * np.sin(theta) / stretch, radius * np.cos(theta) * stretch], 1)
    return _normalise(points)


def spindle(rng: Rng, elongation: float) -> Array:
    """Outline a bent, tapering cell with a belly somewhere along it."""
    along = np.linspace(-1, 1, N_CORNERS // 2)
    belly = np.exp(-(((along - rng.uniform(-0.35, 0.35)) / rng.uniform(0.4, 0.9)) ** 2))
    taper = np.clip(1 - along**2, 0, None) ** rng.uniform(0.5, 0.9)
    width = taper * (rng.uniform(0.15, 0.5) + belly)
    bend, wave = rng.normal(0, 0.8, 2)
    centre = elongation * 0.3 * (bend * along**2 + wave * (along**3 - along))
    upper, lower = centre + width, centre - width
    points = np.concatenate(
        [np.stack([upper, along * elongation], 1), np.stack([lower, along * elongation], 1)[::-1]]
    )
    return _normalise(points)


def rod_chain(rng: Rng, elongation: float, n_rods: int) -> list[Array]:
    """Outline round-capped rods of one width, end to end along a bent line."""
    width = math.sqrt(math.pi / 4 / elongation)
    curvature = rng.normal(0, 0.25) / (width * elongation)
    rods, start, angle = [], np.zeros(2), 0.0
    for _ in range(n_rods):
        length = width * max(0.3, elongation * math.exp(rng.normal(0, 0.2)) - 1)
        s = np.linspace(0, length, N_CORNERS // 4)
        heading = angle + curvature * s
        step = np.stack([np.sin(heading), np.cos(heading)], 1) * (s[1] - s[0])
        line = start + np.cumsum(step, 0)
        normal = np.stack([np.cos(heading), -np.sin(heading)], 1) * width / 2
        rods.append(
            np.concatenate(
                [
                    line + normal,
                    _cap(line[-1], heading[-1], width),
                    (line - normal)[::-1],
                    _cap(line[0], heading[0] + math.pi, width),
                ]
            )
        )
        angle = float(heading[-1]) + rng.normal(0, 0.25)
        start = line[-1] + width * 1.02 * np.array([math.sin(angle), math.cos(angle)])
    middle = np.concatenate(rods).mean(0)
    return [rod - middle for rod in rods]


def _cap(centre: Array, heading: float, width: float) -> Array:
    turned = heading + np.linspace(np.pi / 2, -np.pi / 2, 9)[1:-1]
    points: Array = centre + width / 2 * np.stack([np.sin(turned), np.cos(turned)], 1)
    return points


def budding(rng: Rng) -> list[Array]:
    """Outline a yeast cell, in half of the cases with a bud."""
    mother = blob(rng, rng.uniform(1.0, 1.35), 0.02)
    if rng.random() < 0.5:
        return [mother]
    size = rng.uniform(0.35, 0.85)
    bud = size * blob(rng, rng.uniform(1.0, 1.2), 0.02)
    tip = mother[rng.integers(len(mother))]
    return [mother, bud + tip * (1 + 0.46 * size / np.hypot(*tip))]


def _normalise(points_yx: Array) -> Array:
    """Scale an outline to the area of a disc of diameter 1."""
    y, x = points_yx[:, 0], points_yx[:, 1]
    area = abs(float(np.dot(y, np.roll(x, 1)) - np.dot(x, np.roll(y, 1)))) / 2
    scaled: Array = points_yx * math.sqrt(math.pi / 4 / max(area, 1e-9))
    return scaled
