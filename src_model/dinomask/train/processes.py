"""Several processes that train one model, each on its part of every batch.

``torchrun`` and ``accelerate launch`` start them and say in the environment who
is who; gradients are averaged by `torch.distributed`, on one machine or many.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed

from dinomask.nets.processes import mean_over_processes, n_processes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclasses.dataclass(frozen=True)
class Processes:
    """One process among those that train together.

    Attributes
    ----------
    rank : number of this process; 0 writes the checkpoint
    count : number of processes
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over the processes.

        A parameter without a gradient here may have one elsewhere, so it takes part
        with zeros.
        """
        if self.count == 1:
            return
        learning = [p for p in parameters if p.requires_grad]
        flat = torch.cat(
            [
                torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
                for p in learning
            ]
        )
        flat = mean_over_processes(flat)
        parts = flat.split([p.numel() for p in learning])
        for parameter, part in zip(learning, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def from_first(self, value: float) -> float:
        """Return the first process's value in all of them."""
        if self.count == 1:
            return value
        shared = torch.tensor([value if self.is_first else 0.0], dtype=torch.float64)
        if distributed.get_backend() == "nccl":
            shared = shared.cuda()
        distributed.broadcast(shared, src=0)
        return float(shared)

    def wait(self) -> None:
        """Wait until all processes have come this far."""
        if self.count > 1:
            distributed.barrier()


@contextlib.contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that were started together; a single process stays alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or n_processes() > 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def is_first_process() -> bool:
    """Whether this process was started alone, or as the first of several."""
    return os.environ.get("RANK", "0") == "0"
