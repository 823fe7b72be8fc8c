"""Quantisation-aware fine-tuning: train with the rounding that eight bits will bring.

Weights are rounded to 255 levels a row, inputs to 256 levels a tensor; gradients pass the
rounding as if it were not there (Jacob et al., arXiv 1712.05877; straight-through after
Bengio et al., arXiv 1308.3432). What is trained are ordinary weights; an int8 method then
loses less.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from dinomask.compress.distil import train_to_answer_alike
from dinomask.config import DistilSettings
from dinomask.nets.packing import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import QatSettings

LEVELS = 255
"""Steps between the least and the largest input."""


class Qat:
    """Train towards the uncompressed model's answers while all products are rounded."""

    def reason_against(self, subject: Subject, settings: QatSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return None

    def apply(self, subject: Subject, settings: QatSettings, work: Work) -> Subject:
        """Return the subject with weights that bear rounding."""
        training = DistilSettings(
            minutes=settings.minutes,
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            batch=settings.batch,
            crop_px=settings.crop_px,
        )
        with rounded_products(subject.model):
            model = train_to_answer_alike(subject.model, training, work)
        work.note("follow it by an int8 method; alone it changes neither size nor speed")
        return dataclasses.replace(subject, model=model)


@contextlib.contextmanager
def rounded_products(model: nn.Module) -> Iterator[None]:
    """Let linear layers and convolutions compute with rounded weights and inputs for a while."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in layers:
        # in the instance, before the class's own: names of weights stay what they are
        vars(layer)["forward"] = functools.partial(_rounded, layer)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def round_rows(weight: Tensor) -> Tensor:
    """Round weights to whole multiples of a scale a row, gradients passing through."""
    rows = weight.detach().flatten(1)
    scale = (rows.abs().amax(1) / LARGEST).clamp(min=1e-12)
    scale = scale.view(-1, *[1] * (weight.ndim - 1))
    rounded = (weight.detach() / scale).round() * scale
    return weight + (rounded - weight.detach())


def round_tensor(values: Tensor) -> Tensor:
    """Round to 256 levels between the least and the largest value, gradients passing through."""
    exact = values.detach().float()
    low, high = exact.amin().clamp(max=0), exact.amax().clamp(min=0)
    scale = ((high - low) / LEVELS).clamp(min=1e-12)
    rounded = (exact / scale).round() * scale
    return values + (rounded - exact).to(values.dtype)


def _rounded(layer: nn.Linear | nn.Conv2d, values: Tensor) -> Tensor:
    values, weight = round_tensor(values), round_rows(layer.weight)
    if isinstance(layer, nn.Linear):
        return F.linear(values, weight, layer.bias)
    out: Tensor = layer._conv_forward(values, weight, layer.bias)
    return out


QAT = Qat()
