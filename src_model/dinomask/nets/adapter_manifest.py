"""Which adapters there are and what they say about themselves. No torch here.

An adapter is a folder with ``adapter.safetensors`` and ``adapter.json``; the ones
known by name live in ``adapters`` within the folder of the user's models.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import dinomask
from dinomask.config import FitConfig, LoraSettings, as_dict
from dinomask.errors import ModelError, SettingsError
from dinomask.nets.catalogue import user_models_folder

TENSORS_FILE = "adapter.safetensors"
MANIFEST_FILE = "adapter.json"
ADAPTERS = "adapters"
FORMAT = 2

_NAME = re.compile(r"[\w][\w .+@-]{0,99}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


@dataclasses.dataclass(frozen=True)
class AdapterManifest:
    """What an adapter is and where it comes from."""

    name: str
    """Name of the adapter."""

    base: str
    """Name of the checkpoint it was learned on."""

    base_sha256: str
    """Hash of that checkpoint's weights."""

    fit: FitConfig
    """What of the checkpoint it changes; LoRA's blocks are filled in."""

    tensors_sha256: str = ""
    """Hash of the adapter's file of tensors; its identity in ledgers and reports."""

    score_threshold: float | None = None
    """Lowest score of an instance to report; None leaves it to the checkpoint."""

    diameter_px: float | None = None
    """Median diameter of the objects it was taught on, in pixels of their images."""

    diameter_spread: float | None = None
    """Standard deviation, over the images it was taught on, of the log of that diameter."""

    diameter_ratio: float | None = None
    """How many times larger than the smallest tenth of the objects of one image the largest tenth
    is; None if too few were seen to tell."""

    class_names: tuple[str, ...] = ()
    """All object classes it tells apart, those of the checkpoint first; empty for the same."""

    int8: bool = False
    """Whether LoRA's matrices are stored in eight bits."""

    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Images, corrections, settings, curve and verdict of the training."""

    notes: str = ""
    """What the user wrote about it."""

    dinomask_version: str = dinomask.__version__
    """Version that wrote the adapter."""

    format: int = FORMAT
    """Version of this layout."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        threshold, diameter_px = self.score_threshold, self.diameter_px
        if (
            not all(isinstance(n, str) for n in (self.name, self.base, self.base_sha256))
            or not all(isinstance(n, str) for n in self.class_names)
            or len(set(self.class_names)) < len(self.class_names)
            or not (threshold is None or 0 <= threshold < 1)
            or not (diameter_px is None or (math.isfinite(diameter_px) and diameter_px > 0))
        ):
            raise SettingsError(
                expected="names, different classes, a threshold from 0 to 1, a diameter above 0",
                got=f"{self.class_names}, {threshold}, {diameter_px} for {self.name!r}",
                remedy="Correct the adapter's description.",
            )

    def as_json(self) -> bytes:
        """Return the content of its file."""
        return (json.dumps(as_dict(self), indent=2) + "\n").encode()


def adapters_folder() -> Path:
    """Return where the adapters known by name live (`DINOMASK_MODELS` moves it too)."""
    return user_models_folder() / ADAPTERS


def list_adapters() -> dict[str, Path]:
    """Return the adapters known by name."""
    home = adapters_folder()
    if not home.is_dir():
        return {}
    # hidden ones are being written or removed
    folders = [f for f in sorted(home.iterdir()) if not f.name.startswith(".")]
    return {f.name: f for f in folders if (f / MANIFEST_FILE).is_file()}


def find_adapter(name: str) -> Path:
    """Return the folder of an adapter given by name or path.

    Raises
    ------
    ModelError
        If there is no such adapter.
    """
    adapters = list_adapters()
    if name in adapters:
        return adapters[name]
    folder = Path(name)
    if name and (folder / MANIFEST_FILE).is_file():
        return folder
    raise ModelError(
        expected="the name of an adapter or its folder",
        got=f"{name!r}",
        remedy=f"Known adapters: {', '.join(adapters) or 'none'}. See: dinomask models list.",
    )


def require_name(name: str) -> str:
    """Return a name if it can be that of a folder on every system.

    Raises
    ------
    SettingsError
        If it can't.
    """
    odd = name != name.strip() or name.endswith(".") or _RESERVED.fullmatch(name)
    if odd or not _NAME.fullmatch(name) or name.casefold() == ADAPTERS:
        raise SettingsError(
            expected="a name of letters, digits, spaces and . _ - + @",
            got=f"{name!r}",
            remedy="Choose another name, such as nuclei-2.",
        )
    return name


def read_adapter_manifest(folder: Path) -> AdapterManifest:
    """Read an adapter's manifest.

    Raises
    ------
    ModelError
        If it is missing, damaged, or of a later version.
    """
    path = folder / MANIFEST_FILE
    try:
        return parse_adapter_manifest(path.read_bytes(), str(path))
    except OSError as error:
        raise _not_a_manifest(str(path), error) from error


def parse_adapter_manifest(content: bytes, where: str) -> AdapterManifest:
    """Return the manifest of a file's content; `where` is for messages.

    Raises
    ------
    ModelError
        If it is damaged, or of a later version.
    """
    try:
        raw = json.loads(content)
        # asked first: a later version may have fields that this one doesn't know
        _require_known_format(int(raw["format"]), where)
        if raw["format"] == 1:
            raw["fit"] = {"mode": "lora", "lora": raw.pop("settings")}
        raw["fit"] = _fit(raw["fit"])
        return AdapterManifest(**raw)
    except (ValueError, KeyError, TypeError, AttributeError, SettingsError) as error:
        raise _not_a_manifest(where, error) from error


def _fit(raw: dict[str, Any]) -> FitConfig:
    lora = dict(raw["lora"])
    for name in ("blocks", "targets"):
        lora[name] = None if lora[name] is None else tuple(lora[name])
    lora["block_ranks"] = tuple((int(b), int(r)) for b, r in lora["block_ranks"])
    return FitConfig(**{**raw, "lora": LoraSettings(**lora)})


def _not_a_manifest(where: str, error: Exception) -> ModelError:
    return ModelError(
        expected="an adapter.json of DINOmask",
        got=f"{where}: {error}",
        remedy="Choose the folder of an adapter, or get it again from where it came.",
    )


def _require_known_format(written_as: int, where: str) -> None:
    if written_as > FORMAT:
        raise ModelError(
            expected=f"an adapter of format {FORMAT} or older",
            got=f"format {written_as} in {where}",
            remedy="Update DINOmask.",
        )
