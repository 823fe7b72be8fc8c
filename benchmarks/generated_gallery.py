"""Show generated training images with the outlines of their objects.

    python benchmarks/generated_gallery.py OUT.png [--kind NAME] [--columns N] [--seed N]

One row for each kind of microscopy, or several rows of one kind; prints the time an image takes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.segmentation import find_boundaries

from dinomask.train.augment import AnnotatedImage
from dinomask.train.generate import KINDS, GeneratedImage, generate_image

SIDE_PX = 256
OUTLINE_RGB = (255, 200, 0)


def show(generated: GeneratedImage, outlines: bool) -> np.ndarray:
    """Return the image as the model sees it, (256, 256, 3) uint8, with or without outlines."""
    normaliser = AnnotatedImage(*generated).normaliser(1.0, 99.8)
    picture = np.clip(normaliser.apply(generated.image_cyx) * 255, 0, 255).astype(np.uint8)
    picture = np.moveaxis(picture, 0, -1)
    if outlines:
        picture = picture.copy()
        picture[find_boundaries(generated.labels_yx, mode="inner")] = OUTLINE_RGB
    return np.pad(picture, ((1, 1), (1, 1), (0, 0)), constant_values=255)


def main() -> None:
    """Draw the gallery."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=list(KINDS))
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--rows", type=int, default=5, help="with --kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-outlines", action="store_true")
    arguments = parser.parse_args()
    kinds = [arguments.kind] * arguments.rows if arguments.kind else list(KINDS)
    rows = []
    for row, kind in enumerate(kinds):
        started, images = time.process_time(), []
        for column in range(arguments.columns):
            rng = np.random.default_rng((arguments.seed, row, column))
            images.append(generate_image(rng, kind, SIDE_PX))
        took_ms = (time.process_time() - started) / arguments.columns * 1e3
        print(f"{kind:24s} {took_ms:5.1f} ms an image of {SIDE_PX}²")
        rows.append(np.concatenate([show(i, not arguments.no_outlines) for i in images], axis=1))
    Image.fromarray(np.concatenate(rows)).save(arguments.out)


if __name__ == "__main__":
    main()
