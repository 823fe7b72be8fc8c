"""A trained model that is to tell more classes apart, or to look longer at the pixels."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch

from dinomask.errors import SettingsError
from dinomask.nets.centermask import CenterMask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from dinomask.config import ModelConfig

NEWCOMER_ODDS = 0.25
"""How likely an object is first taken for a new class, against the class it is like."""

_CLASS_ROWS = ("detector.classes.", "mask_iou.hidden.")
"""Layers with a row a class; of the second only the last layer has one."""


def require_first(known: Sequence[str], n_known: int, class_names: Sequence[str]) -> None:
    """Refuse a list of classes that doesn't begin with the checkpoint's.

    Raises
    ------
    SettingsError
        If old classes would change their place or be lost.
    """
    if len(class_names) < n_known or tuple(class_names[: len(known)]) != tuple(known):
        told = ", ".join(known) or ("one without a name" if n_known == 1 else str(n_known))
        raise SettingsError(
            expected=f"classes that begin with the checkpoint's ({told})",
            got=", ".join(class_names),
            remedy="Name its classes first, in their order, then the new ones.",
        )


@torch.no_grad()
def grow_classes(model: CenterMask, class_names: Sequence[str]) -> CenterMask:
    """Return the model with heads for more classes, which predicts as before at first.

    A new class starts as a copy of class 0, with its odds lowered by `NEWCOMER_ODDS`: wherever
    a new class is proposed, an old one is proposed with a higher score, so that nothing changes
    for the old ones until something is learned.

    Parameters
    ----------
    model : plain; used up: the result shares its weights, or is it
    class_names : all classes, the model's own first; empty changes nothing

    Raises
    ------
    SettingsError
        If the list doesn't begin with the model's classes.
    """
    own = model.config
    if not class_names:
        return model
    require_first(own.class_names, own.n_classes, class_names)
    config = dataclasses.replace(own, n_classes=len(class_names), class_names=tuple(class_names))
    if len(class_names) == own.n_classes:
        model.config = config
        return model
    grown = CenterMask(config, model.backbone).to(model.mean.device)
    grown.load_state_dict(_grown_state(model, grown))
    return grown.train(model.training)


def _grown_state(model: CenterMask, grown: CenterMask) -> dict[str, Tensor]:
    state, wanted = model.state_dict(), grown.state_dict()
    for name, value in wanted.items():
        if name in state and state[name].shape == value.shape:
            continue
        if name not in state or not name.startswith(_CLASS_ROWS):
            raise _not_grown(name, model.config)
        old = state[name]
        rows = old[:1].expand(len(value) - len(old), *old.shape[1:]).clone()
        if name == "detector.classes.bias":
            rows += math.log(NEWCOMER_ODDS)
        state[name] = torch.cat([old, rows])
    return state


def _not_grown(name: str, config: ModelConfig) -> SettingsError:
    return SettingsError(
        expected="a model whose class heads can be extended",
        got=f"{name} of {config.backbone} with {config.n_classes} classes",
        remedy="Train with all classes from the start: dinomask train --classes.",
    )


@torch.no_grad()
def grow_stem(model: CenterMask, stem_blocks: tuple[int, int, int]) -> CenterMask:
    """Return the model with more residual blocks in its detail stem, which predicts as before.

    Parameters
    ----------
    model : plain; used up: the result shares its backbone, or is it
    stem_blocks : at strides 3.5, 7 and 14

    Raises
    ------
    SettingsError
        If the model has more of them already.
    """
    own = model.config.stem_blocks
    if stem_blocks == own:
        return model
    if any(n < has for n, has in zip(stem_blocks, own, strict=True)):
        raise SettingsError(
            expected=f"at least {' '.join(map(str, own))} stem blocks, as many as the model has",
            got=" ".join(map(str, stem_blocks)),
            remedy="Leave the setting out to keep them, or train without --init.",
        )
    config = dataclasses.replace(model.config, stem_blocks=stem_blocks)
    grown = CenterMask(config, model.backbone).to(model.mean.device)
    grown.load_state_dict(model.state_dict(), strict=False)
    return grown.train(model.training)
