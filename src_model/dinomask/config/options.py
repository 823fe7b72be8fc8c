"""How settings are called on the command line."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from dinomask.config.shape import NetworkShape

OWN_NAMES = {
    "BalanceConfig": {"method": "balance", "weights": "loss-weights", "rate": "balance-rate"},
    "FitConfig": {"mode": "fit"},
    "LoraSettings": {
        name: f"lora-{name}" for name in ("alpha", "dropout", "blocks", "targets", "l1", "l2")
    }
    | {"heads": "lora-heads", "block_ranks": "lora-block-ranks"},
    # --patch and --mask would be something else
    "ModelConfig": {"patch_px": "patch-px", "mask_px": "mask-px"},
}
"""Options that aren't called like their field, by class: without it the field says too little."""


def option_name(field: str, owner: type[Any] | None = None) -> str:
    """Name an option like its field, without the unit: diameter_px is --diameter.

    Parameters
    ----------
    field : name of a setting or of a command's parameter
    owner : the setting's class
    """
    own = OWN_NAMES.get(owner.__name__, {}) if owner else {}
    return own.get(field) or re.sub(r"_(px|s|um|pct)$", "", field).replace("_", "-")


def changed_options(config: Any) -> list[str]:
    """Return the command line's arguments that turn the defaults into these settings.

    Examples
    --------
    >>> from dinomask.config import TrainConfig
    >>> changed_options(TrainConfig(steps=100, batch=8))
    ['--steps', '100', '--batch', '8']
    """
    arguments: list[str] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, NetworkShape):
            # given by the checkpoint that was compressed, never by a person
            continue
        if dataclasses.is_dataclass(value):
            arguments += changed_options(value)
        elif value != field.default:
            option = f"--{option_name(field.name, type(config))}"
            arguments += [f"{option}=false"] if value is False else [option, *_words(value)]
    return arguments


def _words(value: Any) -> list[str]:
    if isinstance(value, (tuple, list)):
        return [word for item in value for word in _words(item)]
    return [] if value is True else [str(value)]
