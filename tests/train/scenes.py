"""Small annotated folders, drawn in a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import skimage.io

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def disc_labels(n: int = 6, side_px: int = 96, radius_px: float = 9, seed: int = 0) -> np.ndarray:
    """Discs that don't touch, (side, side) uint16."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side_px, side_px), np.uint16)
    y, x = np.mgrid[:side_px, :side_px] + 0.5
    label = 0
    while label < n:
        cy, cx = rng.uniform(radius_px, side_px - radius_px, 2)
        if not labels[(y - cy) ** 2 + (x - cx) ** 2 < (radius_px + 2) ** 2].any():
            label += 1
            labels[(y - cy) ** 2 + (x - cx) ** 2 < radius_px**2] = label
    return labels


def image_of(labels_yx: np.ndarray) -> np.ndarray:
    """Bright discs on a darker ground with a gradient, uint8."""
    ground = 40 + np.arange(labels_yx.shape[1])[None] % 20
    return np.where(labels_yx > 0, 180, ground).astype(np.uint8)


def write_folder(folder: Path, n_images: int = 2, index: Sequence[str] = ()) -> Path:
    """Write a data set of discs; `index` holds the lines of index.csv."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for i in range(n_images):
        labels = disc_labels(seed=i)
        save(folder / "images" / f"scene{i}.png", image_of(labels))
        save(folder / "labels" / f"scene{i}.png", labels)
    if index:
        (folder / "index.csv").write_text("\n".join(index) + "\n", encoding="utf-8")
    return folder


def save(path: Path, pixels: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        skimage.io.imsave(path, pixels, check_contrast=False)
