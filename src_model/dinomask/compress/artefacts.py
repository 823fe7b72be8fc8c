"""Artefacts of backends: what a method that exports gives, and writing it to a folder."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dinomask.nets.artefact import (
    EXTRAS,
    BackendInfo,
    Kind,
    hash_files,
    is_installed,
    library_versions,
)
from dinomask.nets.catalogue import MANIFEST_FILE, Manifest
from dinomask.nets.zoo import manifest_bytes, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Literal

    from dinomask.compress.work import Work

FLOAT_TOLERANCE = 1e-3
"""Of artefacts in float32: other orders of summing, and constants in half precision."""

INT8_TOLERANCE = 0.3
"""Of artefacts in 8 bits, at the location that differs most; what counts, agreement of the
objects, is measured at each making."""


@dataclasses.dataclass(frozen=True)
class Artefact:
    """Files that a backend runs instead of the model.

    Attributes
    ----------
    info : of the manifest; hashes of the files are filled in when it is written
    files : by the names they shall have
    """

    info: BackendInfo
    files: dict[str, Path]

    @staticmethod
    def of(
        work: Work,
        kind: Kind,
        files: Sequence[Path],
        libraries: Sequence[str],
        *,
        precision: Literal["float", "int8"] = "float",
        processor: tuple[str, ...] = (),
        notes: dict[str, Any] | None = None,
    ) -> Artefact:
        """Describe files that were made from the subject of a work."""
        source = work.original.manifest
        info = BackendInfo(
            kind=kind,
            precision=precision,
            files={},
            libraries=library_versions(libraries),
            source={"name": source.name, "weights_sha256": source.weights_sha256},
            tolerance=FLOAT_TOLERANCE if precision == "float" else INT8_TOLERANCE,
            processor=processor,
            notes=notes or {},
        )
        return Artefact(info, {file.name: file for file in files})


def write_artefact(folder: Path, manifest: Manifest, artefact: Artefact) -> Manifest:
    """Move an artefact's files into a folder and write its manifest last.

    Returns
    -------
    the manifest, with the hashes

    Raises
    ------
    OutputError
        If the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in artefact.files.items():
        path.replace(folder / name)
    info = dataclasses.replace(artefact.info, files=hash_files(folder, artefact.files))
    manifest = dataclasses.replace(manifest, backend=info, weights_sha256=info.identity)
    write_atomically(folder / MANIFEST_FILE, manifest_bytes(manifest))
    return manifest


SATURATES = ("vnni",)
"""On x86 without VNNI, sums of two products of 8 bits overflow 16 bits, and results are wrong."""


def reason_against_sums() -> str | None:
    """Say that this processor would overflow in sums of 8-bit products; None if it doesn't."""
    # needs PyTorch, which only methods import
    from dinomask.nets.precision import processor_abilities

    abilities = processor_abilities()
    if all(abilities[name] for name in SATURATES):
        return None
    return (
        "this processor has no VNNI, so sums of 8-bit products would overflow; int8-openvino"
        " works without"
    )


def reason_without(libraries: Sequence[str]) -> str | None:
    """Say which of the libraries is missing and how to get it; None if all are there."""
    missing = [name for name in libraries if not is_installed(name)]
    if not missing:
        return None
    extra = EXTRAS.get(missing[0])
    what = f"napari-dinomask[{extra}]" if extra else missing[0]
    return f'{missing[0]} is not installed; install it with: pip install "{what}"'
