"""How stained tissue, electron microscopes and grains look.

As in `dinomask.train.generate.cells`, each function returns planes of shape
(C, Y, X), float32, about 0 to 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dinomask.train.generate.optics import (
    blur,
    filaments,
    illumination,
    smooth_noise,
    speckle,
    stripes,
    warp,
)

if TYPE_CHECKING:
    from dinomask.train.generate.scene import Scene

    Rng = np.random.Generator

Array = npt.NDArray[Any]

HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
DAB = (0.27, 0.57, 0.78)
"""Optical density in red, green and blue of an amount 1 (Ruifrok & Johnston 2001)."""


def histology(scene: Scene) -> Array:
    """Nuclei in stained tissue: haematoxylin with eosin, or with DAB; RGB."""
    rng, shape = scene.rng, scene.shape_yx
    immuno = rng.random() < 0.2
    counter = DAB if immuno else EOSIN
    vectors = np.array([HAEMATOXYLIN, counter]) * np.exp(rng.normal(0, 0.12, (2, 3)))
    fine, rim = (
        scene.noise(0.06),
        np.exp(-((scene.depth_px / max(1.0, 0.08 * scene.diameter_px)) ** 2)),
    )
    chromatin = 1 + rng.uniform(0.1, 0.4) * fine + rng.uniform(0, 0.6) * rim
    # vesicular nuclei are pale inside their rim, others dark throughout
    pale = 1 - rng.uniform(0, 0.5) * np.clip(scene.inner * 1.5 - 0.3, 0, 1)
    strength = scene.vary(rng.uniform(0.1, 0.35)) * scene.slab(rng.uniform(0.8, 2.0))
    blue = strength * np.clip(chromatin * pale, 0.15, None)
    pink, open_space = _stroma(scene)
    pink = pink * (1 - 0.5 * np.clip(blue, 0, 1))
    if immuno:
        positive = scene.paint(
            (rng.random(scene.n_objects) < rng.uniform(0, 0.7)).astype(np.float32)
        )
        brown = rng.uniform(0.6, 1.4) * strength * positive
        pink, blue = 0.15 * pink + brown, blue * (1 - 0.5 * positive) + 0.1 * pink
    blue = rng.uniform(0.6, 1.4) * blue + rng.uniform(0, 0.25) * (1 - open_space)
    amounts = np.stack([blue, rng.uniform(0.3, 1.0) * pink]).astype(np.float32)
    amounts = np.stack([blur(a, rng.uniform(0.4, 1.3)) for a in amounts])
    light = illumination(rng, shape, rng.uniform(0, 0.1))
    white = rng.uniform(0.86, 0.98) * np.exp(rng.normal(0, 0.02, 3))
    rgb = np.exp(-np.tensordot(vectors.T, amounts, 1)) * white[:, None, None] * light
    grain = rng.uniform(0.003, 0.02) * rng.standard_normal(rgb.shape, dtype=np.float32)
    stained: Array = (rgb + grain).astype(np.float32)
    return stained


def _stroma(scene: Scene) -> tuple[Array, Array]:
    """Return eosin of cytoplasm and fibres, and where nothing is (lumen, fat, glass)."""
    rng, shape, size = scene.rng, scene.shape_yx, scene.diameter_px
    thin, long = sorted(rng.uniform(0.8, 2.0, 2) * (1, rng.uniform(2, 8)))
    fibres = smooth_noise(rng, shape, (thin, long) if rng.random() < 0.5 else (long, thin))
    fibres = warp(rng, fibres, rng.uniform(0.5, 1.5) * size, 2 * size)
    wavy = 0.5 + 0.18 * fibres + 0.15 * smooth_noise(rng, shape, 2 * size)
    cells = 0.45 + 0.1 * scene.noise(0.15) + 0.3 * filaments(rng, shape, 0.8 * size, 0.12)
    mix = np.clip(0.5 + smooth_noise(rng, shape, 3 * size) + rng.uniform(-1, 1), 0, 1)
    pink = np.clip(mix * wavy + (1 - mix) * cells, 0, None)
    level = rng.choice([0.4, 1.0, 1.6, 3.0])
    hole = np.clip(4 * (smooth_noise(rng, shape, rng.uniform(0.7, 2) * size) - level), 0, 1)
    hole = hole * np.clip(scene.outside_px / 3, 0, 1)
    if rng.random() < 0.4:
        # red blood cells: rings of eosin without a nucleus
        red = np.clip(6 * (smooth_noise(rng, shape, 0.25 * size) - 1.7), 0, 1)
        pink = pink + 0.7 * red * (~scene.inside)
    return pink * (1 - hole), hole


def cytology(scene: Scene) -> Array:
    """Stained single cells on glass, each with a dark nucleus: smears and cultures; RGB."""
    rng, shape = scene.rng, scene.shape_yx
    nuclei = scene.nuclei(rng.uniform(0.45, 0.8))
    body = scene.slab(2) * np.clip(0.5 + 0.12 * scene.noise(0.06) + 0.2 * scene.inner, 0.05, None)
    rim = np.exp(-((scene.depth_px / 1.5) ** 2)) * scene.inside
    cytoplasm = scene.vary(0.25) * (body + rng.uniform(0, 0.3) * rim)
    nucleus = nuclei * np.clip(1 + 0.25 * scene.noise(0.05), 0.2, None) * scene.vary(0.2)
    colours = np.exp(rng.normal(0, 0.35, (2, 3))) * np.array([(0.5, 0.8, 0.25), (0.9, 0.9, 0.4)])
    amounts = np.stack([cytoplasm * rng.uniform(0.2, 0.7), nucleus * rng.uniform(0.5, 1.3)])
    amounts = np.stack([blur(a, rng.uniform(0.5, 1.3)) for a in amounts.astype(np.float32)])
    rgb = np.exp(-np.tensordot(colours.T, amounts, 1))
    dirt = speckle(rng, shape, 10 ** rng.uniform(-4.5, -3.5), rng.uniform(0.8, 2.5))
    white = rng.uniform(0.8, 0.96) * np.exp(rng.normal(0, 0.05, 3))
    rgb = rgb * white[:, None, None] * np.exp(-0.5 * dirt) * illumination(rng, shape, 0.2)
    grain = rng.uniform(0.003, 0.02) * rng.standard_normal(rgb.shape, dtype=np.float32)
    stained: Array = (rgb + grain).astype(np.float32)
    return stained


def electron(scene: Scene) -> Array:
    """Sections in the electron microscope: dark membranes around grey, grainy bodies."""
    rng, size, shape = scene.rng, scene.diameter_px, scene.shape_yx
    membrane_px = max(0.8, rng.uniform(0.015, 0.05) * size)
    membrane = np.exp(-((np.maximum(scene.depth_px - 0.5, 0) / membrane_px) ** 2)) * scene.inside
    ground = 0.6 + 0.04 * scene.noise(0.1) + 0.03 * smooth_noise(rng, shape, 1.0)
    ground -= rng.uniform(0, 0.15) * filaments(rng, shape, max(2.0, 0.15 * size), 0.12)
    shade = rng.uniform(-0.3, 0.1) + 0.08 * (scene.vary(0.5) - scene.inside)
    body = ground + shade + rng.uniform(0, 0.06) * scene.noise(0.07)
    if size > 14:
        angle_noise = smooth_noise(rng, shape, 0.5 * size)
        rows, cols = np.indices(shape, dtype=np.float32)
        turn = rng.uniform(0, np.pi)
        along = rows * math.sin(turn) + cols * math.cos(turn) + 0.2 * size * angle_noise
        folds = np.sin(2 * np.pi * along / max(3.0, rng.uniform(0.1, 0.25) * size))
        body = body + rng.choice([0.0, 0.1], p=[0.8, 0.2]) * folds * scene.slab(3)
    if size > 24 and rng.random() < 0.4:
        body = body - rng.uniform(-0.15, 0.2) * scene.nuclei(rng.uniform(0.4, 0.7))
    vesicles = speckle(rng, shape, rng.uniform(0, 0.004), max(0.8, 0.03 * size))
    image = np.where(scene.inside, body, ground) - rng.uniform(0.2, 0.5) * membrane
    image = blur(image - rng.uniform(0, 0.5) * vesicles, rng.uniform(0.4, 1.2))
    image = image * illumination(rng, shape, rng.uniform(0, 0.2))
    image += rng.uniform(0.01, 0.06) * smooth_noise(rng, shape, rng.choice([0.0, 0.5]))
    if rng.random() < 0.15:
        image += stripes(rng, shape, rng.uniform(0.005, 0.03))
    recorded: Array = image[None].astype(np.float32)
    return recorded


def particles(scene: Scene) -> Array:
    """Balls and grains under a scanning electron microscope or oblique light."""
    rng, shape, size = scene.rng, scene.shape_yx, scene.diameter_px
    dome = scene.dome
    # secondary electrons: slopes are brighter than faces
    slope = 1 - np.sqrt(np.clip(1 - (1 - scene.inner) ** 2, 0.05, 1))
    light = rng.uniform(0, 2 * np.pi)
    y, x = np.gradient(blur(dome * size / 2, 1.0))
    lit = -(y * math.sin(light) + x * math.cos(light)) / np.sqrt(1 + y**2 + x**2)
    face = rng.uniform(0.3, 0.55) * scene.vary(0.15)
    grains = face * (1 + _rough(scene)) * scene.inside
    grains = grains + scene.inside * (rng.uniform(0.1, 0.5) * slope + rng.uniform(0, 0.3) * lit)
    ground = rng.uniform(0.02, 0.3) * (
        1 + rng.uniform(0.05, 0.3) * smooth_noise(rng, shape, rng.uniform(0.8, 3))
    )
    # less light between grains that stand close
    shadow = 1 - rng.uniform(0.2, 0.7) * blur(scene.inside.astype(np.float32), 0.25 * size)
    image = np.where(scene.inside, grains, np.clip(ground * shadow, 0, None))
    image = blur(image, rng.uniform(0.5, 1.2)) * illumination(rng, shape, rng.uniform(0, 0.3))
    noisy = image + rng.uniform(0.01, 0.06) * rng.standard_normal(shape, dtype=np.float32)
    recorded: Array = noisy[None].astype(np.float32)
    return recorded


def _rough(scene: Scene) -> Array:
    """Return a surface's texture: faint patches, pits and grit, or nothing."""
    rng = scene.rng
    texture = rng.uniform(0, 0.06) * scene.noise(0.15) + rng.uniform(0, 0.08) * scene.noise(0.03)
    if rng.random() < 0.4:
        pits = speckle(rng, scene.shape_yx, 0.004, max(0.8, 0.03 * scene.diameter_px))
        texture = texture + rng.uniform(-0.5, 0.4) * pits
    rough: Array = texture
    return rough
