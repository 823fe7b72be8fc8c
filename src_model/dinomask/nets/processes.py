"""What the processes of a distributed training tell each other; alone, a process gets its own.

Started by ``torchrun`` or ``accelerate launch``, see `dinomask.train.processes`.
"""

from __future__ import annotations

from torch import Tensor, distributed


def n_processes() -> int:
    """Return how many processes train together."""
    joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if joined else 1


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, a new tensor without a gradient.

    Losses divide by the mean of a count, and gradients are averaged: together
    that divides by the count of the whole batch, however it is spread.
    """
    values = values.detach().float()
    if n_processes() == 1:
        return values
    values = values.clone()
    distributed.all_reduce(values)
    return values / n_processes()
