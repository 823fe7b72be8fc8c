"""Which checkpoints there are and what they say about themselves. No torch here.

A checkpoint is a folder with ``model.safetensors`` and ``manifest.json``; the artefact
of a backend (`dinomask.nets.artefact`) has other files beside the manifest. Listing
models and reading manifests needs only the latter, so that a form or a command
line can offer them at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Literal

import platformdirs

import dinomask
from dinomask.config import ModelConfig
from dinomask.errors import ModelError, SettingsError
from dinomask.nets.artefact import BackendInfo

BUNDLED = Path(dinomask.__file__).parent / "weights"
MANIFEST_FILE = "manifest.json"
FORMAT = 2

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a checkpoint is and where it comes from."""

    name: str
    """Name of the model."""

    architecture: ModelConfig
    """How to build it."""

    weights_sha256: str = ""
    """Hash of the weights file; the model's identity in ledgers and reports."""

    score_threshold: float = 0.5
    """Lowest score of an instance that this model should report."""

    trained_on: tuple[dict[str, str], ...] = ()
    """Data sets with their licences."""

    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings, steps, crops and time of the training."""

    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Figures, each with the command that gave it."""

    licence: str = ""
    """Licence of the weights."""

    backend: BackendInfo | None = None
    """What runs it, if it is the artefact of a backend; None for a PyTorch checkpoint."""

    precision: Precision = "auto"
    """Arithmetic in which the model should run where it is left to it; auto takes what is fast."""

    compression: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Of a compressed model: source, steps with their settings, sizes; see `dinomask.compress`."""

    dinomask_version: str = dinomask.__version__
    """Version that wrote the checkpoint."""

    format: int = FORMAT
    """Version of this layout."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files beside the manifest."""
        return ("model.safetensors",) if self.backend is None else tuple(self.backend.files)


def user_models_folder() -> Path:
    """Return where a user's own checkpoints live (`DINOMASK_MODELS` overrides it)."""
    override = os.environ.get("DINOMASK_MODELS")
    return Path(override) if override else platformdirs.user_data_path("dinomask") / "models"


def list_models() -> dict[str, Path]:
    """Return the checkpoints known by name, bundled ones first."""
    found: dict[str, Path] = {}
    for home in (BUNDLED, user_models_folder()):
        if home.is_dir():
            for folder in sorted(home.iterdir()):
                # hidden ones are being written or removed
                if not folder.name.startswith(".") and (folder / MANIFEST_FILE).is_file():
                    found.setdefault(folder.name, folder)
    return found


def find_model(name: str) -> Path:
    """Return the folder of a model given by name or path.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    models = list_models()
    if name in models:
        return models[name]
    folder = Path(name)
    if (folder / MANIFEST_FILE).is_file():
        return folder
    raise ModelError(
        expected="the name of a model or a checkpoint folder",
        got=f"{name!r}",
        remedy=f"Known models: {', '.join(models) or 'none'}. See: dinomask models list.",
    )


def read_manifest(folder: Path) -> Manifest:
    """Read a checkpoint's manifest.

    Raises
    ------
    ModelError
        If it is missing, damaged, or of a later version.
    """
    path = folder / MANIFEST_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        # asked first: a later version may have fields that this one doesn't know
        _require_known_format(int(raw["format"]), path)
        raw["architecture"] = ModelConfig(**raw["architecture"])
        if raw.get("backend") is not None:
            raw["backend"] = BackendInfo(**raw["backend"])
        raw["trained_on"] = tuple(raw.get("trained_on", ()))
        return Manifest(**raw)
    except (OSError, ValueError, KeyError, TypeError, SettingsError) as error:
        raise ModelError(
            expected="a manifest.json of DINOmask",
            got=f"{path}: {error}",
            remedy="Use a checkpoint folder of 'dinomask train', and this version or later.",
        ) from error


def _require_known_format(written_as: int, path: Path) -> None:
    if written_as > FORMAT:
        raise ModelError(
            expected=f"a checkpoint of format {FORMAT} or older",
            got=f"format {written_as} in {path}",
            remedy="Update DINOmask.",
        )
