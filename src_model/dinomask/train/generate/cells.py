"""How microscopes show cells and nuclei in one channel: fluorescence, phase, relief.

Each function draws a scene and returns planes of shape (C, Y, X), float32, with
signals of about 0 to 1, noise included.
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
    out_of_focus,
    photon_noise,
    relief,
    smooth_noise,
    speckle,
    stripes,
)

if TYPE_CHECKING:
    from dinomask.train.generate.scene import Scene

Array = npt.NDArray[Any]


def fluorescent_nuclei(scene: Scene) -> Array:
    """Nuclei that glow on a dark ground: chromatin, nucleoli, haze, few photons."""
    rng, size = scene.rng, scene.diameter_px
    edge_px = size * rng.uniform(0.08, 0.35)
    texture = 1 + rng.uniform(0, 0.3) * scene.noise(0.09) + rng.uniform(0, 0.15) * scene.noise(0.03)
    kind = rng.choice(["plain", "nucleoli", "spots"], p=[0.4, 0.4, 0.2])
    if kind == "nucleoli":
        texture -= rng.uniform(0.3, 0.7) * np.clip(scene.noise(0.08) - 1.2, 0, 1)
    elif kind == "spots":
        texture = 0.6 * texture + rng.uniform(0.4, 1.2) * np.clip(scene.noise(0.05) - 1.3, 0, 1.5)
    body = scene.slab(edge_px) if rng.random() < 0.6 else scene.dome
    dye = body * np.clip(texture, 0.1, None) * scene.vary(rng.uniform(0.05, 0.8))
    return _glow(scene, dye, blur_px=rng.uniform(0.5, 0.9 + 0.05 * size))[None]


def stained_cells(scene: Scene) -> Array:
    """Whole cells by a membrane stain, a cytoplasm stain or both, at times with nuclei.

    Returns
    -------
    shape (1, Y, X), or (3, Y, X) where the nuclei have a colour of their own
    """
    rng, size = scene.rng, scene.diameter_px
    nuclei = scene.nuclei(rng.uniform(0.45, 0.75)) if rng.random() < 0.75 else 0 * scene.depth_px
    kind = rng.choice(["membrane", "cytoplasm", "fibres"], p=[0.4, 0.4, 0.2])
    rim_px = max(0.8, size * rng.uniform(0.02, 0.06))
    rim = np.exp(-((np.maximum(scene.depth_px - 0.5, 0) / rim_px) ** 2)) * scene.inside
    # either a bright cortex or a dark gap parts neighbours; in between they'd merge
    cortex = float(rng.choice([0.0, rng.uniform(0.7, 1.1)]))
    if kind == "membrane":
        patchy = np.clip(1 + rng.uniform(0.1, 0.4) * scene.noise(0.3), 0.15, None)
        cell = rim * patchy + rng.uniform(0.03, 0.25) * scene.inside * (1 + 0.3 * scene.noise(0.04))
    elif kind == "cytoplasm":
        granular = 1 + rng.uniform(0.1, 0.4) * scene.noise(0.04) + 0.15 * scene.noise(0.15)
        body = 0.6 * scene.inside if cortex else (0.35 + 0.65 * scene.dome) * scene.slab(2)
        cell = body * np.clip(granular, 0.05, None) + 0.7 * cortex * rim
    else:
        fibres = [filaments(rng, scene.shape_yx, max(1.2, g * size), 0.3) for g in (0.05, 0.1)]
        mesh = 0.25 + (0.6 * fibres[0] + 0.4 * fibres[1]) * (0.5 + 0.5 * scene.inner)
        cell = mesh * scene.slab(0 if cortex else 0.1 * size) + cortex * rim
    cell = cell * (1 - rng.uniform(0.3, 0.9) * nuclei) * scene.vary(rng.uniform(0.05, 0.5))
    blur_px = rng.uniform(0.5, 0.9 + 0.025 * size)
    if nuclei.any() and rng.random() < 0.4:
        dna = nuclei * np.clip(1 + 0.25 * scene.noise(0.04), 0.2, None) * scene.vary(0.3)
        return _two_colours(scene, cell, dna, blur_px)
    return _glow(scene, cell, blur_px)[None]


def _two_colours(scene: Scene, cell: Array, dna: Array, blur_px: float) -> Array:
    rng = scene.rng
    planes = np.zeros((3, *scene.shape_yx), np.float32)
    first, second = rng.permutation(3)[:2]
    planes[first] = _glow(scene, cell, blur_px)
    planes[second] = _glow(scene, dna, blur_px) * rng.uniform(0.5, 1.2)
    return planes


def _glow(scene: Scene, dye: Array, blur_px: float) -> Array:
    """Image a dye: point spread, haze of other planes, debris, light and photons."""
    rng, size, shape = scene.rng, scene.diameter_px, scene.shape_yx
    haze = rng.uniform(0, 0.25) * blur(dye, size * 0.6) + rng.uniform(0, 0.2) * blur(dye, size * 3)
    signal = blur(dye, blur_px) + haze
    if rng.random() < 0.35:
        signal += rng.uniform(0.15, 0.6) * out_of_focus(rng, shape, size)
    if rng.random() < 0.4:
        sigma = rng.uniform(0.5, 0.5 + 0.04 * size)
        signal += rng.uniform(0.2, 0.9) * speckle(rng, shape, 10 ** rng.uniform(-4.2, -3.2), sigma)
    if rng.random() < 0.3:
        signal += rng.uniform(0.02, 0.1) * np.clip(
            1 + scene.noise(0.4) + 0.4 * scene.noise(0.1), 0, 4
        )
    signal += rng.uniform(0.0, 0.15)
    signal *= illumination(rng, shape, rng.uniform(0, 0.6))
    photons = math.exp(rng.uniform(math.log(25), math.log(500)))
    signal = photon_noise(rng, np.clip(signal, 0, None), photons, rng.uniform(0, 0.03))
    if rng.random() < 0.1:
        signal += stripes(rng, shape, rng.uniform(0.005, 0.03))
    return signal


def phase_contrast(scene: Scene) -> Array:
    """Zernike phase contrast: phase less its own surroundings gives halo and shade-off."""
    rng, size = scene.rng, scene.diameter_px
    organelles = rng.uniform(0.02, 0.25) * scene.noise(0.05) + 0.1 * scene.noise(0.2)
    organelles = organelles + rng.uniform(-0.3, 0.8) * speckle(rng, scene.shape_yx, 0.015, 0.8)
    body = scene.slab(size * rng.uniform(0.05, 0.2)) if rng.random() < 0.5 else scene.dome
    mass = rng.uniform(0.35, 0.9) * body * np.clip(1 + organelles, 0.1, None)
    if size > 20 and rng.random() < 0.7:
        nuclei = scene.nuclei(rng.uniform(0.4, 0.6))
        nucleoli = np.clip(scene.noise(0.05) - 1.0, 0, 1)
        mass = mass + nuclei * (rng.uniform(-0.25, 0.2) + rng.uniform(0, 0.4) * nucleoli)
    rounded = scene.rng.random(scene.n_objects) < rng.choice([0.0, 0.1, 0.9], p=[0.5, 0.35, 0.15])
    bright = scene.paint(rounded.astype(np.float32))
    mass = np.where(bright > 0, 1.6 * scene.dome + 0.3 * scene.inside, mass)
    phase = blur(mass, rng.uniform(0.6, 0.8 + 0.015 * size))
    halo_px = rng.uniform(0.08, 0.22) * size + 1
    halo = rng.uniform(0.5, 1.0) * blur(phase, halo_px) + rng.uniform(0, 0.5) * blur(
        phase, 3 * halo_px
    )
    # a thick rounded cell turns the phase by more than half a wave and flips to bright
    flip = blur(bright, 0.05 * size + 0.5)
    signal = (halo - phase) * (1 - flip) + flip * rng.uniform(0.5, 0.9) * (phase - 0.3 * halo)
    return _transmit(scene, rng.uniform(0.3, 0.6) * signal)


def brightfield(scene: Scene) -> Array:
    """Unstained cells in transmitted light: rings along the outline, little inside."""
    rng, size = scene.rng, scene.diameter_px
    signed_px = np.where(scene.inside, scene.depth_px, -scene.outside_px)
    wave_px = max(2.5, size * rng.uniform(0.12, 0.4))
    ring = np.cos(2 * np.pi * signed_px / wave_px + rng.uniform(0, 2 * np.pi))
    fade_px = wave_px * rng.uniform(0.3, 0.8)
    ring = ring * np.exp(-np.abs(signed_px) / np.where(scene.inside, 1.6 * fade_px, fade_px))
    lens = rng.uniform(-0.5, 0.8) * (scene.dome**2 - 0.4 * scene.inside)
    inside = rng.uniform(0.05, 0.25) * scene.noise(0.05) + rng.uniform(-0.3, 0.1)
    granules = rng.uniform(-0.8, 0.8) * speckle(rng, scene.shape_yx, 0.01, max(0.7, 0.03 * size))
    signal = ring + lens + (inside + granules) * scene.slab(3)
    signal = blur(signal, rng.uniform(0.5, 0.9 + 0.01 * size))
    return _transmit(scene, rng.uniform(0.06, 0.3) * signal)


def interference_contrast(scene: Scene) -> Array:
    """Differential interference contrast: relief lit from one side."""
    rng, size = scene.rng, scene.diameter_px
    organelles = rng.uniform(0.02, 0.12) * scene.noise(0.06)
    organelles = organelles + rng.uniform(0, 0.3) * speckle(rng, scene.shape_yx, 0.01, 0.04 * size)
    height = scene.dome * (1 + organelles) * scene.vary(0.2)
    if size > 20 and rng.random() < 0.6:
        height = height + rng.uniform(0.1, 0.3) * scene.nuclei(rng.uniform(0.4, 0.7))
    floor = 0.015 * rng.random() * smooth_noise(rng, scene.shape_yx, 3)
    height = blur(height + floor, rng.uniform(0.7, 0.9 + 0.015 * size))
    signal = relief(height, rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 2.0))
    spread = float(signal.std()) + 1e-3
    return _transmit(scene, rng.uniform(0.06, 0.16) * signal / spread)


def _transmit(scene: Scene, contrast: Array) -> Array:
    """Add a contrast to the lamp's light, with dirt in the light path and noise."""
    rng, shape, size = scene.rng, scene.shape_yx, scene.diameter_px
    # what disturbs is measured by what is to be seen, so that no object drowns
    seen = contrast[scene.inside]
    typical = 1.2 * float(np.median(np.abs(seen))) if seen.size else 0.1
    if rng.random() < 0.4:
        dirt = speckle(rng, shape, 10 ** rng.uniform(-4.3, -3.3), rng.uniform(0.6, 1 + 0.05 * size))
        contrast = contrast + 3 * typical * rng.uniform(-1, 0.8) * dirt
    if rng.random() < 0.3:
        contrast = contrast + 1.5 * typical * rng.uniform(-1, 1) * out_of_focus(rng, shape, size)
    if rng.random() < 0.4:
        floor = smooth_noise(rng, shape, rng.uniform(1, 4))
        contrast = contrast + typical * rng.uniform(0, 0.2) * floor
    light = illumination(rng, shape, rng.uniform(0, min(0.45, 4 * typical)))
    light = rng.uniform(0.35, 0.65) * light
    signal = light * np.clip(1 + 2 * contrast, 0.02, 3)
    noise = smooth_noise(rng, shape, rng.choice([0.0, 0.6]))
    sigma = min(0.04, typical * rng.uniform(0.05, 0.5))
    recorded: Array = (signal + sigma * noise)[None].astype(np.float32)
    return recorded
