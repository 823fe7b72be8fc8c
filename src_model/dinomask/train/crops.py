"""The endless, repeatable stream of training crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dinomask.errors import DataError
from dinomask.nets.detection import InstanceTargets
from dinomask.train.augment import AnnotatedImage, Crop, draw_crop
from dinomask.train.generate import generate_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dinomask.config import TrainConfig
    from dinomask.train.datasets import Sample


GENERATED_STREAM = 1
"""Third number of the seed of generated images, apart from the seeds of the crops."""


class CropDataset(Dataset[Crop]):
    """Crop number i is drawn from a generator seeded with (seed, i).

    So the crops don't depend on the number of worker processes, nor on how
    often the training was interrupted. A share of them shows generated images,
    each a new one with a seed of its own; the others stay what they are without.
    """

    def __init__(
        self, samples: Sequence[Sample], config: TrainConfig, target_diameter_px: float
    ) -> None:
        self.names = [sample.name for sample in samples]
        self.images = [AnnotatedImage.read(sample) for sample in samples]
        if all(image.diameter_px is None for image in self.images):
            raise DataError(
                expected="at least one annotated object",
                got=f"{len(samples)} images without any",
                remedy="Check that the labels were exported as integers above 0.",
            )
        self.config = config
        self.target_diameter_px = target_diameter_px
        kinds = [(s.dataset, s.modality) for s in samples]
        share = {k: kinds.count(k) ** config.modality_power for k in set(kinds)}
        weights = np.array([share[k] / kinds.count(k) for k in kinds])
        self.probabilities = weights / weights.sum()

    def __getitem__(self, index: int) -> Crop:
        """Draw crop number `index`."""
        row, rng = self._choose(index)
        config, scene_rng = self.config, self._scene_rng(index)
        if scene_rng is None:
            image = self.images[row]
        else:
            image = AnnotatedImage(*generate_image(scene_rng))
        return draw_crop(image, config.crop_px, self.target_diameter_px, config.augment, rng)

    def source(self, index: int) -> str:
        """Return the name of the image that crop number `index` shows."""
        if self._scene_rng(index) is not None:
            return f"generated image {index}"
        return self.names[self._choose(index)[0]]

    def _choose(self, index: int) -> tuple[int, np.random.Generator]:
        rng = np.random.default_rng((self.config.seed, index))
        return int(rng.choice(len(self.images), p=self.probabilities)), rng

    def _scene_rng(self, index: int) -> np.random.Generator | None:
        """Return where the generated image of a crop comes from, None if it shows a read one."""
        rng = np.random.default_rng((self.config.seed, index, GENERATED_STREAM))
        return rng if rng.random() < self.config.generated_share else None


def collate(crops: list[Crop]) -> tuple[Tensor, list[InstanceTargets]]:
    """Stack crops to tiles of shape (B, 3, H, W) and their targets."""
    tiles = torch.from_numpy(np.stack([crop.image_cyx for crop in crops]))
    targets = [
        InstanceTargets(
            torch.from_numpy(crop.labels_yx),
            torch.from_numpy(crop.boxes_yxyx_px),
            torch.from_numpy(crop.classes),
            torch.from_numpy(crop.areas_px),
        )
        for crop in crops
    ]
    return tiles, targets


def batches(
    data: CropDataset, first_step: int, config: TrainConfig
) -> Iterator[tuple[Tensor, list[InstanceTargets]]]:
    """Yield the batches of step `first_step` and all later ones, without end."""

    def indices() -> Iterator[list[int]]:
        start = first_step * config.batch
        while True:
            yield list(range(start, start + config.batch))
            start += config.batch

    loader = DataLoader(
        data, batch_sampler=indices(), num_workers=config.workers, collate_fn=collate
    )
    yield from loader
