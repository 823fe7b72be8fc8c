"""Settings in a TOML file, called like the fields of the settings classes.

```toml
data = ["../data/dsb2018"]      # relative to the file
split = "train"
minutes = 60

[model]                         # the architecture
backbone = "dinomask_tiny_patch14_reg4"

[augment]
invert_probability = 0.2

[fit]
mode = "lora"

[fit.lora]
rank = 8
```
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from typing import TYPE_CHECKING, Any

from dinomask.config.model import ModelConfig
from dinomask.config.options import option_name
from dinomask.config.train import TrainConfig
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

COMMAND_KEYS = ("data", "split", "weights", "init", "score_threshold")
"""What `dinomask train` takes beside the settings classes."""


def read_train_file(path: Path) -> dict[str, Any]:
    """Return the settings of a training, by the names of the command line's options.

    Raises
    ------
    SettingsError
        If the file can't be read, or has a key that doesn't exist.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            expected="a configuration file in TOML",
            got=f"{path}: {error}",
            remedy="See configs/tiny_1.toml for an example.",
        ) from error
    found = {key.replace("_", "-"): table.pop(key) for key in COMMAND_KEYS if key in table}
    if "data" in found:
        folders = found["data"] if isinstance(found["data"], list) else [found["data"]]
        found["data"] = [str(path.parent / str(folder)) for folder in folders]
    model = table.pop("model", {})
    found |= _options(model, ModelConfig(), f"{path}: model.")
    return found | _options(table, TrainConfig(), f"{path}: ", (*COMMAND_KEYS, "model"))


def _options(table: Any, defaults: Any, where: str, others: tuple[str, ...] = ()) -> dict[str, Any]:
    fields = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(defaults)}
    if not isinstance(table, dict):
        raise SettingsError(
            expected="a table of settings",
            got=f"{where.rstrip('.')} = {table!r}",
            remedy=f"Write its settings under [{where.rpartition(' ')[2].rstrip('.')}].",
        )
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            close = difflib.get_close_matches(key, [*fields, *others], n=3) or [*fields, *others]
            raise SettingsError(
                expected="the name of a setting",
                got=f"{where}{key}",
                remedy=f"Did you mean: {', '.join(close)}?",
            )
        if dataclasses.is_dataclass(fields[key]):
            found |= _options(value, fields[key], f"{where}{key}.")
        else:
            found[option_name(key, type(defaults))] = value
    return found
