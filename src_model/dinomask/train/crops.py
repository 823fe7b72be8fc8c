"""The endless, repeatable stream of training crops."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dinomask.errors import DataError
from dinomask.nets.detection import InstanceTargets
from dinomask.train.annotated import AnnotatedImage
from dinomask.train.augment import Crop, draw_crop
from dinomask.train.generate import generate_image
from dinomask.train.labels import DataWarning
from dinomask.train.samples import repair_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dinomask.config import AugmentConfig, TrainConfig
    from dinomask.train.datasets import Sample


GENERATED_STREAM = 1
"""Third number of the seed of generated images, apart from the seeds of the crops."""


class CropStream(Dataset[Crop]):
    """Crop number i is drawn from a generator seeded with (seed, i).

    So the crops don't depend on the number of worker processes, nor on how
    often the training was interrupted. A share of them shows generated images,
    each a new one with a seed of its own; the others stay what they are without.

    Parameters
    ----------
    names : of the images
    images : what crops are drawn from
    weights : how often each is drawn, relative to the others
    config : how crops are drawn
    target_diameter_px : objects get about this diameter
    classes, image_classes : the lists that give classes their numbers
    generated_augment : how crops of generated images are changed; None as all others
    """

    def __init__(
        self,
        names: Sequence[str],
        images: Sequence[AnnotatedImage],
        weights: Sequence[float],
        config: TrainConfig,
        target_diameter_px: float,
        classes: Sequence[str] = (),
        image_classes: Sequence[str] = (),
        generated_augment: AugmentConfig | None = None,
    ) -> None:
        self.names = list(names)
        self.images = list(images)
        self.classes = tuple(classes)
        self.image_classes = tuple(image_classes)
        self.config = config
        self.generated_augment = generated_augment or config.augment
        self.target_diameter_px = target_diameter_px
        self.probabilities = np.asarray(weights, np.float64) / np.sum(weights)

    def __getitem__(self, index: int) -> Crop:
        """Draw crop number `index`."""
        row, rng = self._choose(index)
        config, scene_rng = self.config, self._scene_rng(index)
        image, augment = self.images[row], config.augment
        if scene_rng is not None:
            image, augment = AnnotatedImage(*generate_image(scene_rng)), self.generated_augment
        return draw_crop(image, config.crop_px, self.target_diameter_px, augment, rng)

    def source(self, index: int) -> str:
        """Return the name of the image that crop number `index` shows."""
        if self._scene_rng(index) is not None:
            return f"generated image {index}"
        return self.names[self._choose(index)[0]]

    def object_counts(self) -> list[int]:
        """Count the objects of each class; of one class where there is no list."""
        classes = np.concatenate([image.object_classes() for image in self.images])
        counts: list[int] = np.bincount(classes, minlength=max(1, len(self.classes))).tolist()
        return counts

    def image_counts(self) -> list[int]:
        """Count the images of each class; those of none are left out."""
        known = [image.image_class for image in self.images]
        return [known.count(k) for k in range(len(self.image_classes))]

    def _choose(self, index: int) -> tuple[int, np.random.Generator]:
        rng = np.random.default_rng((self.config.seed, index))
        return int(rng.choice(len(self.images), p=self.probabilities)), rng

    def _scene_rng(self, index: int) -> np.random.Generator | None:
        """Return where the generated image of a crop comes from, None if it shows a read one."""
        rng = np.random.default_rng((self.config.seed, index, GENERATED_STREAM))
        return rng if rng.random() < self.config.generated_share else None


class CropDataset(CropStream):
    """The crops of annotated images on disk.

    Parameters
    ----------
    samples : at least one of them with objects; warns of labels that were repaired
    config : how crops are drawn
    target_diameter_px : objects get about this diameter
    classes, image_classes : the lists that give classes their numbers, as in the
        settings of the model. Without a list all objects are of class 0, and images
        of none; objects of generated images are of class 0 in any case

    Raises
    ------
    DataError
        If no image has an object, or annotations don't fit, see `Sample.read_annotated`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        config: TrainConfig,
        target_diameter_px: float,
        classes: Sequence[str] = (),
        image_classes: Sequence[str] = (),
    ) -> None:
        images = [AnnotatedImage.read(s, classes, image_classes) for s in samples]
        pairs = zip(samples, images, strict=True)
        repaired = [(sample, image.repairs) for sample, image in pairs if image.repairs]
        if repaired:
            warnings.warn(repair_message(repaired, len(samples)), DataWarning, stacklevel=2)
        if all(image.diameter_px is None for image in images):
            raise DataError(
                expected="at least one annotated object",
                got=f"{len(samples)} images without any",
                remedy="Check that the labels were exported as integers above 0.",
            )
        kinds = [(s.dataset, s.modality) for s in samples]
        share = {k: kinds.count(k) ** config.modality_power for k in set(kinds)}
        extra = dict(config.modality_weights)
        weights = [share[k] / kinds.count(k) * extra.get(k[1], 1.0) for k in kinds]
        names = [sample.name for sample in samples]
        super().__init__(names, images, weights, config, target_diameter_px, classes, image_classes)


def collate(crops: list[Crop]) -> tuple[Tensor, list[InstanceTargets]]:
    """Stack crops to tiles of shape (B, 3, H, W) and their targets.

    The class of a whole image is that of each of its crops.
    """
    tiles = torch.from_numpy(np.stack([crop.image_cyx for crop in crops]))
    targets = [
        InstanceTargets(
            torch.from_numpy(crop.labels_yx),
            torch.from_numpy(crop.boxes_yxyx_px),
            torch.from_numpy(crop.classes),
            torch.from_numpy(crop.areas_px),
            None if crop.image_class is None else torch.tensor(crop.image_class),
        )
        for crop in crops
    ]
    return tiles, targets


def crop_numbers(step: int, batch: int, rank: int = 0, n_processes: int = 1) -> range:
    """Return the numbers of the crops of one step that one of several processes draws.

    The processes' parts follow one another, so that together they see what one
    process with their joint batch sees.
    """
    start = (step * n_processes + rank) * batch
    return range(start, start + batch)


def batches(
    data: CropStream,
    first_step: int,
    config: TrainConfig,
    rank: int = 0,
    n_processes: int = 1,
) -> Iterator[tuple[Tensor, list[InstanceTargets]]]:
    """Yield a process's batches of step `first_step` and all later ones, without end."""

    def indices() -> Iterator[list[int]]:
        for step in itertools.count(first_step):
            yield list(crop_numbers(step, config.batch, rank, n_processes))

    loader = DataLoader(
        data, batch_sampler=indices(), num_workers=config.workers, collate_fn=collate
    )
    yield from loader
