"""The user's images: what importance, ranges and errors are measured on, and students learn from.

Labels aren't needed. Where there are any they give the objects' size, and distillation
learns from them too; elsewhere the uncompressed model says how large the objects are.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dinomask.compress.work import CompressionWarning
from dinomask.config import AugmentConfig
from dinomask.errors import DataError, DinomaskError
from dinomask.image.normalise import fit_normaliser, read_samples
from dinomask.image.source import open_image
from dinomask.instances import UNSUPERVISED
from dinomask.run.places import busy_points
from dinomask.run.progress import Progress
from dinomask.run.size import estimate_diameter
from dinomask.train.annotated import AnnotatedImage
from dinomask.train.augment import draw_crop
from dinomask.train.coco_data import coco_files
from dinomask.train.crops import CropStream
from dinomask.train.datasets import find_data
from dinomask.train.folders import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dinomask.config import ModelConfig, TrainConfig
    from dinomask.image.image import Image
    from dinomask.run.predictor import Predictor
    from dinomask.train.datasets import Sample

PIECE_PX = 1024
"""Of an image without labels a piece of this side is kept, where most is to see."""

NORMALISER_SAMPLES = 200_000
"""Pixels by which such a piece's intensities are normalised, those of its whole image."""

TILE_PX = 224
"""Side of the tiles on which importance and ranges are measured, in model pixels."""

STEADY = AugmentConfig(
    scale_log_sigma=0.15,
    scale_log_max=0.3,
    wide_scale_probability=0.0,
    stretch_log_max=0.0,
    rotate_probability=0.0,
    invert_probability=0.0,
    grey_probability=0.0,
    tint_probability=0.0,
    gamma_log_max=0.0,
    contrast_max=0.0,
    stain_probability=0.0,
    drop_channel_probability=0.0,
    blur_probability=0.0,
    noise_probability=0.0,
    shading_probability=0.0,
)
"""Tiles as they are segmented, apart from errors in the objects' size."""


@dataclasses.dataclass(frozen=True)
class Source:
    """One image of the material.

    Attributes
    ----------
    name : in messages and manifests
    image : file, or an open image
    sample : its annotation, None without labels
    kind : data set and modality, which balance how often an image is drawn
    """

    name: str
    image: Path | Image
    sample: Sample | None = None
    kind: str = ""


class Material:
    """Images of the user, read once when they are first needed.

    Parameters
    ----------
    sources : at least one image
    describe : name, split, number of images and licence of each data set, for manifests

    Raises
    ------
    DataError
        If there is no image.
    """

    def __init__(self, sources: Sequence[Source], describe: Sequence[dict[str, str]] = ()) -> None:
        if not sources:
            raise DataError(
                expected="images to calibrate on",
                got="none",
                remedy="Give a folder of images like those to segment; labels aren't needed.",
            )
        self.sources = list(sources)
        self.described = tuple(describe)
        self._read: list[AnnotatedImage] = []

    @staticmethod
    def find(places: Sequence[Path], split: str | None = None, limit: int = 100) -> Material:
        """List images of data sets, plain folders of images, or single images.

        Parameters
        ----------
        places : data sets as `dinomask.train.datasets.find_data` knows them, or images
        split : only images of this split, where a data set has splits
        limit : images at most; evenly spread over all

        Raises
        ------
        DataError
            If a place has no image.
        """
        sources: list[Source] = []
        described: list[dict[str, str]] = []
        for place in map(Path, places):
            if (place / "labels").is_dir() or coco_files(place):
                data = find_data([place], split)
                described += data.sources
                sources += [
                    Source(s.name, s.image, s, f"{s.dataset}/{s.modality}") for s in data.samples
                ]
            else:
                found = _plain_images(place)
                sources += [Source(path.stem, path, kind=place.name) for path in found]
                described.append({"name": place.name, "images": str(len(found))})
        rows = np.unique(np.linspace(0, len(sources) - 1, min(limit, len(sources))).round())
        return Material([sources[int(row)] for row in rows], described)

    @staticmethod
    def of_images(images: Sequence[Image]) -> Material:
        """Take open images, such as those of a viewer."""
        return Material([Source(image.name, image) for image in images])

    @property
    def labelled(self) -> bool:
        """Whether any image has labels."""
        return any(source.sample is not None for source in self.sources)

    def read(
        self, predictor: Predictor, on_progress: Callable[[Progress], None] | None = None
    ) -> list[AnnotatedImage]:
        """Return the images, ready to be cropped; what isn't supervised has labels of -1.

        Parameters
        ----------
        predictor : the uncompressed model, which finds the objects' size
        on_progress : called after each image; may raise to stop

        Raises
        ------
        DataError
            If none can be used.
        """
        if self._read:
            return self._read
        read: list[AnnotatedImage] = []
        bad: list[str] = []
        for i, source in enumerate(self.sources):
            try:
                read.append(_read(source, predictor))
            except DinomaskError as error:
                bad.append(f"{source.name}: {error}")
            if on_progress:
                on_progress(Progress("read images", i + 1, len(self.sources), 0.0))
        if not read:
            raise DataError(
                expected="at least one image that can be read",
                got=bad[0],
                remedy="Check the files, or give other images.",
            )
        if bad:
            _warn(f"{len(bad)} of {len(self.sources)} images are left out: {bad[0]}")
        if all(image.diameter_px is None for image in read):
            _warn(
                f"the model finds no object in any of the {len(read)} images: they are far from"
                " what it knows, and what is measured on them may mislead. Give images like"
                " those to segment, or teach the model first."
            )
        self._read = read
        return read

    def tiles(
        self,
        predictor: Predictor,
        n: int,
        seed: int = 0,
        tile_px: int = TILE_PX,
        target_px: float | None = None,
    ) -> torch.Tensor:
        """Return tiles, the same for the same seed.

        Parameters
        ----------
        predictor : the uncompressed model, which finds the objects' size
        n : number of tiles
        seed : of their places
        tile_px : side of a tile
        target_px : diameter at which they show objects; None takes the predictor's

        Returns
        -------
        shape (n, 3, tile_px, tile_px)
        """
        images = self.read(predictor)
        tiles = []
        for i in range(n):
            rng = np.random.default_rng((seed, i))
            image = images[i % len(images)]
            diameter_px = target_px or predictor.target_diameter_px
            tiles.append(draw_crop(image, tile_px, diameter_px, STEADY, rng).image_cyx)
        return torch.from_numpy(np.stack(tiles))

    def stream(
        self, predictor: Predictor, config: TrainConfig, architecture: ModelConfig
    ) -> CropStream:
        """Return the endless stream of training crops."""
        images = self.read(predictor)
        names = [source.name for source in self.sources]
        kinds = [source.kind for source in self.sources]
        weights = [kinds.count(kind) ** (config.modality_power - 1) for kind in kinds]
        if len(images) < len(names):
            names, weights = [f"image {i}" for i in range(len(images))], [1.0] * len(images)
        return CropStream(
            names,
            images,
            weights,
            config,
            architecture.target_diameter_px,
            architecture.class_names,
            architecture.image_class_names,
        )

    def record(self) -> dict[str, object]:
        """Return what a manifest says of the images."""
        return {
            "images": len(self.sources),
            "labelled": sum(source.sample is not None for source in self.sources),
            "data": list(self.described),
        }


def _plain_images(place: Path) -> list[Path]:
    if place.is_file() or place.suffix == ".zarr":
        return [place]
    folder = place / "images" if (place / "images").is_dir() else place
    found = []
    if folder.is_dir():
        entries = sorted(folder.iterdir())
        found = [p for p in entries if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."]
    if not found:
        raise DataError(
            expected="a folder of images, or an image",
            got=f"{place}, without any",
            remedy=f"Give a folder with {', '.join(IMAGE_SUFFIXES)} files.",
        )
    return found


def _read(source: Source, predictor: Predictor) -> AnnotatedImage:
    config = predictor.model.config
    if source.sample is not None:
        return AnnotatedImage.read(source.sample, config.class_names, config.image_class_names)
    image = open_image(source.image)
    normaliser = fit_normaliser(image)
    diameter_px = estimate_diameter(image, normaliser, predictor).diameter_px
    points = busy_points(image, normaliser)
    window = _piece(image.shape_yx, points[0] if len(points) else None)
    samples_cn, _ = read_samples(image, NORMALISER_SAMPLES)
    pixels = image.read(window)
    nothing_known = np.full(pixels.shape[1:], UNSUPERVISED, np.int16)
    read = AnnotatedImage(pixels, nothing_known, image.is_rgb, samples_cn=samples_cn)
    read.diameter_px = diameter_px
    inside = [
        (y - window[0], x - window[1])
        for y, x in points[: max(1, len(points) // 2)]
        if window[0] <= y < window[2] and window[1] <= x < window[3]
    ]
    # the busier half of the places, as no objects are known
    read.centres_yx = np.array(inside).reshape(-1, 2)
    return read


def _piece(shape_yx: tuple[int, int], point_yx: np.ndarray | None) -> tuple[int, int, int, int]:
    start, size = [], []
    for axis, length in enumerate(shape_yx):
        side = min(length, PIECE_PX)
        centre = length / 2 if point_yx is None else float(point_yx[axis])
        start.append(min(max(round(centre - side / 2), 0), length - side))
        size.append(side)
    return start[0], start[1], start[0] + size[0], start[1] + size[1]


def _warn(text: str) -> None:
    warnings.warn(text, CompressionWarning, stacklevel=4)
