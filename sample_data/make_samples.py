"""Generate the sample images and their label images.

Usage: ``python sample_data/make_samples.py [FOLDER]``; the default is the folder of this
script. The same seeds give the same pictures, so the files can be made again at any time.
Every image is a picture of a known scene: shapes are placed first (the label image), then a
simple model of the microscope draws them.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from numpy.random import Generator

    Array = npt.NDArray[Any]
    Shape = tuple[int, int]
    Draw = Callable[[float, float], Array]


OPTICAL_DENSITY = np.array([(0.65, 0.70, 0.29), (0.13, 0.62, 0.30)])
"""Absorption of red, green and blue by haematoxylin and by eosin, per amount of stain."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image, the label image it was drawn from and its pixel size in µm."""

    image: Array
    labels_yx: Array
    pixel_size_um: float


def smooth_noise(rng: Generator, shape: Shape, sigma_px: float) -> Array:
    """Return Gaussian noise of mean 0 and standard deviation 1 with a given grain."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma_px, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def grid_around(shape: Shape, y: float, x: float, angle: float) -> tuple[Array, Array]:
    """Return coordinates along and across an axis through (y, x), in pixels."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    dy, dx = rows - y, cols - x
    return dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)


def draw_blob(
    rng: Generator, shape: Shape, y: float, x: float, radius_px: float, elongation: float
) -> Array:
    """Draw an ellipse with a gently irregular outline; shape (Y, X), bool."""
    along, across = grid_around(shape, y, x, rng.uniform(0, np.pi))
    along, across = along / np.sqrt(elongation), across * np.sqrt(elongation)
    theta = np.arctan2(across, along)
    outline = np.full(shape, radius_px)
    for order in (2, 3, 4):
        amplitude = radius_px * rng.normal(0, 0.07 / (order - 1))
        outline += amplitude * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
    return np.hypot(along, across) < outline


def draw_spindle(
    rng: Generator, shape: Shape, y: float, x: float, length_px: float, width_px: float
) -> Array:
    """Draw a bent, tapering cell with a belly; shape (Y, X), bool."""
    along, across = grid_around(shape, y, x, rng.normal(0.6, 0.45))
    position = along / (length_px / 2)
    across = across - rng.normal(0, 0.12) * length_px * (position**2 - 0.3)
    belly = np.exp(-(((position - rng.uniform(-0.3, 0.3)) / 0.38) ** 2))
    taper = np.clip(1 - position**2, 0, None) ** 0.7
    return np.abs(across) < width_px / 2 * taper * (0.35 + 0.65 * belly)


def place(
    rng: Generator,
    labels_yx: Array,
    draw: Draw,
    count: int,
    neighbour_px: float,
    sociability: float,
) -> None:
    """Add up to `count` shapes to a label image, in place, some of them touching.

    Parameters
    ----------
    labels_yx : shape (Y, X), integer; 0 is free
    draw : returns the shape at (y, x) as a mask
    neighbour_px : distance at which a shape is set beside another
    sociability : part of the shapes that are set beside another
    """
    height, width = labels_yx.shape
    centres: list[tuple[float, float]] = []
    for _ in range(20 * count):
        if len(centres) == count:
            return
        y, x = rng.uniform(-4, height + 4), rng.uniform(-4, width + 4)
        if centres and rng.random() < sociability:
            beside, angle = centres[rng.integers(len(centres))], rng.uniform(0, 2 * np.pi)
            y, x = (
                beside[0] + neighbour_px * np.sin(angle),
                beside[1] + neighbour_px * np.cos(angle),
            )
        mask = draw(y, x)
        taken = (labels_yx[mask] > 0).mean() if mask.sum() > 40 else 1.0
        if taken > 0.1:
            continue
        labels_yx[mask & (labels_yx == 0)] = labels_yx.max() + 1
        centres.append((y, x))


def keep_whole_parts(labels_yx: Array, smallest_px: int = 90) -> Array:
    """Keep the largest connected part of each object and number the objects 1..N.

    Returns
    -------
    shape (Y, X), uint16
    """
    kept = np.zeros(labels_yx.shape, np.uint16)
    for label in range(1, int(labels_yx.max()) + 1):
        parts, n_parts = ndimage.label(labels_yx == label)
        sizes = np.bincount(parts.ravel())[1:]
        if n_parts and sizes.max() >= smallest_px:
            kept[parts == 1 + sizes.argmax()] = kept.max() + 1
    return kept


def thickness(labels_yx: Array, roundness_px: float) -> Array:
    """Return how thick each object is, 0 outside to 1 deep inside; shape (Y, X), float."""
    depth = np.zeros(labels_yx.shape)
    for label, box in enumerate(ndimage.find_objects(labels_yx), start=1):
        padded = np.pad(labels_yx[box] == label, 1)
        depth[box] = np.maximum(depth[box], ndimage.distance_transform_edt(padded)[1:-1, 1:-1])
    return np.sqrt(1 - (1 - np.clip(depth / roundness_px, 0, 1)) ** 2)


def per_object(labels_yx: Array, values: Array) -> Array:
    """Paint one value an object; shape (Y, X), zero outside."""
    return np.concatenate([[0.0], values])[labels_yx]


def make_nuclei(seed: int = 11) -> Sample:
    """Fluorescent nuclei: dim to bright, touching, with haze, shot noise and read noise."""
    rng, shape = np.random.default_rng(seed), (512, 512)
    labels_yx = np.zeros(shape, np.uint16)

    def draw(y: float, x: float) -> Array:
        return draw_blob(rng, shape, y, x, rng.normal(13.5, 2.2), rng.uniform(1.0, 1.6))

    place(rng, labels_yx, draw, count=115, neighbour_px=27, sociability=0.6)
    labels_yx = keep_whole_parts(labels_yx)
    brightness = np.exp(np.clip(rng.normal(0, 0.55, labels_yx.max()), -1.3, 1.0))
    chromatin = 1 + 0.16 * smooth_noise(rng, shape, 2.2) + 0.08 * smooth_noise(rng, shape, 1.0)
    nucleoli = np.clip(smooth_noise(rng, shape, 2.6) - 1.5, 0, 1)
    dye = thickness(labels_yx, 7) * per_object(labels_yx, brightness)
    dye *= np.clip(chromatin - 0.55 * nucleoli, 0.15, None)
    in_focus = ndimage.gaussian_filter(dye, 1.3)
    haze = 0.10 * ndimage.gaussian_filter(dye, 12) + 0.12 * ndimage.gaussian_filter(dye, 45)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    lamp = np.exp(-((rows - 290) ** 2 + (cols - 220) ** 2) / (2 * 420.0**2))
    electrons = rng.poisson(lamp * (40 * (in_focus + haze) + 6))
    counts = 100 + 2.5 * electrons + rng.normal(0, 5, shape)
    return Sample(np.clip(np.round(counts), 0, 65535).astype(np.uint16), labels_yx, 0.5)


def make_phase_cells(seed: int = 5) -> Sample:
    """Phase contrast: spindly cells, a few rounded up, dark with bright halos."""
    rng, shape = np.random.default_rng(seed), (512, 512)
    labels_yx = np.zeros(shape, np.uint16)

    def round_cell(y: float, x: float) -> Array:
        return draw_blob(rng, shape, y, x, rng.normal(12, 1), 1.05)

    def spindle(y: float, x: float) -> Array:
        return draw_spindle(rng, shape, y, x, rng.normal(105, 22), rng.normal(25, 4))

    place(rng, labels_yx, round_cell, count=6, neighbour_px=26, sociability=0.3)
    n_round = int(labels_yx.max())
    place(rng, labels_yx, spindle, count=52, neighbour_px=30, sociability=0.55)
    rounded = np.isin(labels_yx, np.arange(1, n_round + 1))
    labels_yx = keep_whole_parts(labels_yx)
    granules = ndimage.gaussian_filter((rng.random(shape) < 0.035).astype(float), 1.0) * 6
    organelles = 0.12 * smooth_noise(rng, shape, 1.6) + 0.10 * smooth_noise(rng, shape, 4.0)
    dry_mass = thickness(labels_yx, 12) * (0.55 + organelles + 0.35 * granules)
    phase = ndimage.gaussian_filter(np.where(rounded, 2.0 * dry_mass + 0.4, dry_mass), 1.0)
    # zernike phase contrast passes the phase less its own surroundings: hence halo, shade-off
    halo = 1.0 * ndimage.gaussian_filter(phase, 5) + 0.5 * ndimage.gaussian_filter(phase, 14)
    # a thick rounded cell turns the phase by more than half a wave and flips to bright
    flip = ndimage.gaussian_filter(rounded.astype(float), 2)
    signal = (halo - phase) * (1 - flip) + flip * 0.7 * phase
    debris = ndimage.gaussian_filter((rng.random(shape) < 4e-4).astype(float), 1.2) * -1.5
    shading = 0.05 * smooth_noise(rng, shape, 110)
    grey = 116 + 120 * (signal + debris + shading) + 2.5 * smooth_noise(rng, shape, 0.7)
    return Sample(np.clip(np.round(grey), 0, 255).astype(np.uint8), labels_yx, 0.65)


def glands(rng: Generator, shape: Shape, count: int) -> tuple[Array, Array]:
    """Return open lumens and the epithelium that lines them, both 0 to 1; shape (Y, X)."""
    lumen, lining = np.zeros(shape), np.zeros(shape)
    for _ in range(count):
        y, x = rng.uniform(40, shape[0] - 40), rng.uniform(40, shape[1] - 40)
        hole = draw_blob(rng, shape, y, x, rng.uniform(22, 38), rng.uniform(1.0, 1.7))
        distance_px = ndimage.distance_transform_edt(~hole)
        lumen = np.maximum(lumen, hole)
        lining = np.maximum(lining, (distance_px < 44) & ~hole)
    lining = np.where(lumen > 0, 0, lining)
    return ndimage.gaussian_filter(lumen, 1.5), ndimage.gaussian_filter(lining, 2.0)


def make_histology(seed: int = 8) -> Sample:
    """Tissue in haematoxylin and eosin: glands, stroma and nuclei; RGB."""
    rng, shape = np.random.default_rng(seed), (400, 400)
    lumen, lining = glands(rng, shape, count=5)
    labels_yx = np.where(lumen > 0.2, 1, 0).astype(np.uint16)

    def draw(y: float, x: float) -> Array:
        inside = 0 <= y < shape[0] and 0 <= x < shape[1]
        crowd = lining[int(y), int(x)] if inside else 0.0
        if rng.random() > 0.25 + 0.75 * crowd:
            return np.zeros(shape, bool)
        size, stretch = (11.5, 1.3) if crowd > 0.5 else (8.5, 2.4)
        return draw_blob(rng, shape, y, x, rng.normal(size, 1.3), stretch * rng.uniform(0.9, 1.2))

    place(rng, labels_yx, draw, count=125, neighbour_px=25, sociability=0.5)
    labels_yx = keep_whole_parts(np.where(labels_yx > 1, labels_yx - 1, 0))
    strength = per_object(labels_yx, rng.uniform(0.6, 1.25, labels_yx.max()))
    body = np.minimum(thickness(labels_yx, 3), 1) * strength
    rim = (labels_yx > 0) * np.exp(-((thickness(labels_yx, 9) - 0.45) ** 2) / 0.05)
    chromatin = 1 + 0.30 * smooth_noise(rng, shape, 1.7) + 0.35 * rim
    blue = body * np.clip(chromatin, 0.2, None)
    warp = 14 * smooth_noise(rng, shape, 40)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    fibres = ndimage.map_coordinates(
        ndimage.gaussian_filter(rng.standard_normal(shape), (1.3, 14), mode="wrap"),
        [rows + warp, cols + 0.5 * warp],
        order=1,
        mode="grid-wrap",
    )
    stroma = np.clip(0.50 + 0.17 * fibres / fibres.std(), 0.05, None)
    pink = lining * (0.5 + 0.08 * smooth_noise(rng, shape, 3)) + (1 - lining) * stroma
    pink *= (1 - lumen) * (1 - 0.45 * np.clip(body, 0, 1))
    haematoxylin = 1.15 * blue + (0.20 * lining + 0.04) * (1 - lumen)
    return Sample(stain(rng, haematoxylin, pink), labels_yx, 0.25)


def stain(rng: Generator, haematoxylin: Array, eosin: Array) -> Array:
    """Turn amounts of the two stains into the colours a camera sees; uint8 RGB."""
    amounts = ndimage.gaussian_filter(np.stack([haematoxylin, eosin], axis=-1), (0.9, 0.9, 0))
    rgb = np.exp(-amounts @ OPTICAL_DENSITY) * (0.95, 0.94, 0.955)
    grain = rng.normal(0, 2.0, eosin.shape)[..., None] + rng.normal(0, 0.8, rgb.shape)
    return np.clip(np.round(255 * rgb + grain), 0, 255).astype(np.uint8)


SAMPLES = {"nuclei": make_nuclei, "phase_cells": make_phase_cells, "histology": make_histology}


def write_tiff(path: Path, image: Array, pixel_size_um: float) -> None:
    """Write a compressed OME-TIFF that carries the pixel size; the bytes are reproducible."""
    axes = "YXS" if image.ndim == 3 else "YX"
    size = {f"PhysicalSize{a}": pixel_size_um for a in "XY"}
    units = {f"PhysicalSize{a}Unit": "µm" for a in "XY"}
    tifffile.imwrite(
        path,
        image,
        ome=True,
        photometric="rgb" if axes == "YXS" else "minisblack",
        compression="deflate",
        predictor=True,
        resolution=(1e4 / pixel_size_um, 1e4 / pixel_size_um),
        resolutionunit="CENTIMETER",
        metadata={"axes": axes, **size, **units, "Name": path.stem, "UUID": path.stem},
    )


def main() -> None:
    """Write every sample and its label image into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in SAMPLES.items():
        sample = make()
        write_tiff(folder / f"{name}.tif", sample.image, sample.pixel_size_um)
        write_tiff(folder / f"{name}_labels.tif", sample.labels_yx, sample.pixel_size_um)
        print(f"{name}: {sample.image.shape}, {sample.labels_yx.max()} objects")


if __name__ == "__main__":
    main()
