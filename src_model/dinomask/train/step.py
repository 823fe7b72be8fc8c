"""One step of a training: losses of a batch, gradients, new weights."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from dinomask.errors import ModelError
from dinomask.nets.losses import Sampling
from dinomask.nets.processes import mean_over_processes
from dinomask.nets.tasks import ClassWeights
from dinomask.train.crops import crop_numbers
from dinomask.train.fit import scale_rates
from dinomask.train.schedule import rate_factor
from dinomask.train.speed import autocast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from dinomask.config import TrainConfig
    from dinomask.nets.detection import InstanceTargets
    from dinomask.train.crops import CropStream
    from dinomask.train.fit import Fitting
    from dinomask.train.processes import Processes
    from dinomask.train.state import TrainingState


class DivergedError(ModelError):
    """The loss or its gradient is no longer a number."""


@dataclasses.dataclass
class Stepper:
    """What every step of a training needs.

    Attributes
    ----------
    state : model, balancer, optimiser and counters; changed by each step
    fitting : what of the model learns
    data : where the crops come from
    processes : that share the batch
    """

    state: TrainingState
    fitting: Fitting
    data: CropStream
    config: TrainConfig
    device: torch.device
    processes: Processes

    def __post_init__(self) -> None:
        self.class_weights = ClassWeights.of(
            self.config.balance,
            self.state.model.config,
            self.data.object_counts(),
            self.data.image_counts(),
        ).to(self.device)

    def losses(
        self,
        batch: tuple[Tensor, list[InstanceTargets]],
        fraction: float,
        maps: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses of this process's part of the batch, and their total.

        Parameters
        ----------
        batch : tiles of shape (B, 3, H, W) and their truth
        fraction : how far the training is
        maps : what a backbone that doesn't learn makes of the tiles; None computes it

        Raises
        ------
        DivergedError
            If the total is not finite in any process.
        """
        config, state = self.config, self.state
        # chance depends on the step alone, so that a resumed training goes on unchanged
        torch.manual_seed((config.seed << 32) + state.step)
        tiles, targets = batch
        tiles = tiles.to(self.device, memory_format=torch.channels_last)
        with autocast(config, self.device):
            losses = state.model.losses(
                tiles,
                [target.to(self.device) for target in targets],
                Sampling(
                    config.rois_per_image,
                    config.proposals_per_image if fraction >= config.proposals_from else 0,
                    self.class_weights,
                    self.chance(),
                ),
                maps,
                self.stem_kept(),
            )
        total = state.balancer.total(losses) + self.fitting.penalty()
        return self.checked(losses | {"total": total})

    def checked(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return losses whose total is finite in every process.

        Raises
        ------
        DivergedError
            If it is not.
        """
        if not torch.isfinite(mean_over_processes(losses["total"])):
            parts = ", ".join(f"{k} {float(v.detach()):.3g}" for k, v in losses.items())
            raise self._diverged(expected="a finite loss", got=parts)
        return losses

    def update(self, total: Tensor, fraction: float) -> None:
        """Change the weights by one step down the total's gradient.

        Raises
        ------
        DivergedError
            If the gradient is not finite.
        """
        state, config = self.state, self.config
        state.optimiser.zero_grad(set_to_none=True)
        total.backward()
        learning = state.parameters()
        self.processes.average_gradients(learning)
        norm = torch.nn.utils.clip_grad_norm_(learning, config.clip_norm)
        if not torch.isfinite(norm):
            raise self._diverged(expected="a finite gradient", got=f"norm {norm}")
        scale_rates(state.optimiser, rate_factor(config, fraction))
        state.optimiser.step()
        state.update_average(config.ema_decay)
        state.step += 1

    def crop_numbers(self) -> range:
        """Return the numbers of the crops of the present step."""
        part = self.processes
        return crop_numbers(self.state.step, self.config.batch, part.rank, part.count)

    def chance(self) -> list[torch.Generator]:
        """Return what boxes of each crop of the present step are drawn from."""
        seed = self.config.seed << 40
        return [torch.Generator().manual_seed(seed + i) for i in self.crop_numbers()]

    def stem_kept(self) -> Tensor | None:
        """Draw for which crops of the present step the detail stem is kept.

        Returns
        -------
        shape (B,), 0 or 1; None if it is kept for all
        """
        chance = self.config.stem_drop_probability
        if not chance:
            return None
        # like the boxes it depends on the crop's number alone, in a stream of its own
        seed = (self.config.seed << 40) + (1 << 39)
        drawn = [
            float(torch.rand((), generator=torch.Generator().manual_seed(seed + i)))
            for i in self.crop_numbers()
        ]
        return (torch.tensor(drawn, device=self.device) >= chance).float()

    def _diverged(self, *, expected: str, got: str) -> DivergedError:
        names = sorted({self.data.source(i) for i in self.crop_numbers()})
        return DivergedError(
            expected=expected,
            got=f"{got} in step {self.state.step} on crops of {', '.join(names)}",
            remedy="Check these images or lower the rate, then --resume from the last save.",
        )
