"""What an artefact says about itself: a model made ready for one backend. No torch here.

An artefact is a folder with ``manifest.json``, as a checkpoint is, and the files that
its backend runs instead of PyTorch weights. It goes by name wherever a model does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
from typing import TYPE_CHECKING, Any, Literal

from dinomask.errors import BackendError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Kind = Literal["openvino", "onnx", "compiled", "torch-int8"]

EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx", "onnx": "onnx", "onnxscript": "onnx"}
"""The extra of this package that brings a library."""


@dataclasses.dataclass(frozen=True)
class BackendInfo:
    """How an artefact is run, and what that needs."""

    kind: Kind
    """What runs it."""

    precision: Literal["float", "int8"]
    """Arithmetic of its matrix products. Float follows the setting `precision` where the
    artefact is used."""

    files: dict[str, str]
    """Names of its files, with their SHA-256."""

    libraries: dict[str, str]
    """Libraries that run it, with the versions it was made with; older ones can't read it."""

    source: dict[str, str]
    """Name and hash of the PyTorch checkpoint that it was made of."""

    tolerance: float
    """Largest difference from the checkpoint in float32 that was found when it was made was
    below this: of scores and mask probabilities, and of boxes as a share of their side."""

    processor: tuple[str, ...] = ()
    """Abilities without which this machine's processor would give wrong results."""

    notes: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How it was made: calibration, layers left in float."""

    def __post_init__(self) -> None:
        # JSON has no tuples
        object.__setattr__(self, "processor", tuple(self.processor))

    @property
    def identity(self) -> str:
        """Hash over all files, which stands for the artefact in ledgers and reports."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()

    @property
    def title(self) -> str:
        """Backend and precision, for people."""
        return f"{self.kind} {self.precision}" if self.precision != "float" else self.kind


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files of a folder, by name."""
    return {name: _sha256(folder / name) for name in names}


def require_files(folder: Path, info: BackendInfo) -> None:
    """Make sure that an artefact's files are those that were written.

    Raises
    ------
    ModelError
        If one is missing, or another.
    """
    for name, sha256 in info.files.items():
        path = folder / name
        if path.name != name or not path.is_file() or _sha256(path) != sha256:
            state = "of another hash" if path.is_file() else "missing"
            raise ModelError(
                expected=f"{name} with the hash {sha256[:12]}… of the manifest",
                got=f"{path} {state}",
                remedy="Copy the whole folder again, or make it anew with dinomask compress.",
            )


def require_runnable(info: BackendInfo, processor: Mapping[str, bool]) -> None:
    """Make sure that this machine has what an artefact needs.

    Parameters
    ----------
    info : of the artefact
    processor : what this machine's processor can do

    Raises
    ------
    BackendError
        If a library is missing or older than that which made it, or if the processor
        lacks an ability.
    """
    for library, version in info.libraries.items():
        require_library(library)
        found = importlib.metadata.version(library)
        if _release(found) < _release(version):
            raise BackendError(
                expected=f"{library} {version} or newer, with which {info.kind} files were made",
                got=f"version {found}",
                remedy=f"Update it with: pip install -U {library}; or make the artefact anew from"
                f" {source_title(info)} with dinomask compress.",
            )
    missing = [ability for ability in info.processor if not processor.get(ability, False)]
    if missing:
        raise BackendError(
            expected=f"a processor with {' and '.join(info.processor)}, for which it was made",
            got=f"one without {' and '.join(missing)}",
            remedy=f"Use its source, {source_title(info)}, or make it anew on this machine with"
            " dinomask compress.",
        )


def require_library(name: str) -> None:
    """Make sure that an optional library is installed.

    Raises
    ------
    BackendError
        If it isn't; the remedy names the extra that brings it.
    """
    if not is_installed(name):
        extra = EXTRAS.get(name)
        what = f"napari-dinomask[{extra}]" if extra else name
        raise BackendError(
            expected=f"the library {name}, which runs this model",
            got="it is not installed",
            remedy=f'Install it with: pip install "{what}"',
        )


def is_installed(name: str) -> bool:
    """Tell whether a library can be imported."""
    return importlib.util.find_spec(name) is not None


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of libraries."""
    return {name: importlib.metadata.version(name) for name in names}


def source_title(info: BackendInfo) -> str:
    """Name the checkpoint that an artefact was made of."""
    return f"the model {info.source.get('name', '?')!r}"


def _release(version: str) -> tuple[int, ...]:
    """Return major and minor number; patches read each other's files."""
    numbers = []
    for part in version.split(".")[:2]:
        digits = "".join(c for c in part if c.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
