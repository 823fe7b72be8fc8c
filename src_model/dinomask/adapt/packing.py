"""Checkpoints and adapters as one file, to be sent and added elsewhere.

The file is a zip of exactly the two files of a checkpoint or an adapter. What
comes from elsewhere is trusted in nothing: no name in it becomes a path, sizes
and hash are checked, and it appears on the shelf whole or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from dinomask.adapt.shelf import FILES, Entry, Kind, find_entry, holds, place_for
from dinomask.errors import ModelError, OutputError
from dinomask.nets.adapter_manifest import AdapterManifest, parse_adapter_manifest
from dinomask.nets.artefact import source_title
from dinomask.nets.catalogue import Manifest, read_manifest
from dinomask.tiles.outputs import output_error, replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIX = ".zip"
MAX_MANIFEST_BYTES = 64 * 2**20
MAX_TENSORS_BYTES = 64 * 2**30
"""No network that this library can build is larger."""

_BLOCK_BYTES = 2**20
_TIME = (1980, 1, 1, 0, 0, 0)
"""The same shelf gives the same file."""

_READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def export(name: str, path: Path, *, kind: Kind | None = None, overwrite: bool = False) -> Entry:
    """Write a checkpoint or an adapter to one file.

    Parameters
    ----------
    name : on the shelf, or a folder
    path : ends in .zip

    Raises
    ------
    ModelError
        If it is unknown or damaged.
    OutputError
        If the file exists and `overwrite` is off, or can't be written.
    """
    entry = find_entry(name, kind)
    if path.suffix.lower() != SUFFIX:
        raise OutputError(
            expected=f"a file name that ends in {SUFFIX}",
            got=str(path),
            remedy=f"Write to {path.with_suffix(SUFFIX).name}.",
        )
    if path.exists() and not overwrite:
        raise OutputError(
            expected="a file that doesn't exist yet",
            got=str(path),
            remedy="Choose another name, or add --overwrite.",
        )
    if entry.manifest is None or entry.state == "damaged":
        raise _not_whole(str(entry.folder), entry.reason)
    _require_portable(entry)
    about, tensors = (entry.folder / file for file in FILES[entry.kind])
    with tensors.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _sha256(entry.manifest):
        raise _not_whole(str(tensors), "tensors with another hash than the manifest says")
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        for source in (about, tensors):
            info = zipfile.ZipInfo(source.name, _TIME)
            info.external_attr = 0o644 << 16
            info.file_size = source.stat().st_size
            with source.open("rb") as reading, packed.open(info, "w") as writing:
                shutil.copyfileobj(reading, writing, _BLOCK_BYTES)
    return entry


def _require_portable(entry: Entry) -> None:
    info = entry.manifest.backend if isinstance(entry.manifest, Manifest) else None
    if info is not None:
        raise ModelError(
            expected="a PyTorch checkpoint or an adapter",
            got=f"{entry.name!r}, made for {info.title}",
            remedy=f"Export {source_title(info)} and make it anew where it shall run, or copy"
            f" the folder {entry.folder}.",
        )


def add(path: Path, name: str | None = None) -> Entry:
    """Put a checkpoint or an adapter on the shelf, from a file of `export` or from its folder.

    Parameters
    ----------
    path : file or folder
    name : None takes its own

    Raises
    ------
    ModelError
        If it is neither, or damaged.
    SettingsError
        If the name can't be that of a folder.
    OutputError
        If the name is taken, or there is no room.
    """
    with _opened(path) as (kind, about, tensors, n_bytes):
        content = about.read(MAX_MANIFEST_BYTES + 1)
        if len(content) > MAX_MANIFEST_BYTES:
            raise _not_whole(str(path), "a manifest of more than 64 MiB")
        folder, content, sha256 = _placed(kind, content, name, str(path))
        _require_room(folder, n_bytes + len(content))
        with _appearing(kind, folder) as temporary:
            about_name, tensors_name = FILES[kind]
            target = temporary / tensors_name
            if _copied(tensors, target, n_bytes, str(path)) != sha256:
                raise _not_whole(str(path), "tensors with another hash than the manifest says")
            _require_tensors(target, str(path))
            (temporary / about_name).write_bytes(content)
            if kind == "model":
                read_manifest(temporary)
    return find_entry(folder.name, kind)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Kind, IO[bytes], IO[bytes], int]]:
    """Yield what it is, its two files, and the bytes of the second."""
    if path.is_dir():
        kinds = [k for k in FILES if holds(k, path)]
        if len(kinds) != 1:
            raise _not_ours(path, "a folder without one")
        about, tensors = (path / file for file in FILES[kinds[0]])
        try:
            with about.open("rb") as one, tensors.open("rb") as two:
                yield kinds[0], one, two, tensors.stat().st_size
        except FileNotFoundError as error:
            raise _not_whole(str(path), f"no {tensors.name}") from error
        return
    try:
        with zipfile.ZipFile(path) as packed:
            kind, infos = _members(packed, path)
            with packed.open(infos[0]) as one, packed.open(infos[1]) as two:
                yield kind, one, two, infos[1].file_size
    except FileNotFoundError as error:
        raise _not_ours(path, "no such file") from error
    except OSError as error:
        raise _not_ours(path, error.strerror or str(error)) from error
    except _READ_ERRORS as error:
        raise _not_whole(str(path), str(error) or type(error).__name__) from error


def _members(packed: zipfile.ZipFile, path: Path) -> tuple[Kind, list[zipfile.ZipInfo]]:
    """Return what a zip holds, if it is nothing but the two files of one kind."""
    infos = {info.filename: info for info in packed.infolist()}
    for kind, files in FILES.items():
        if infos.keys() == set(files) and len(packed.infolist()) == len(files):
            found = [infos[file] for file in files]
            if found[1].file_size > MAX_TENSORS_BYTES:
                raise _not_whole(str(path), f"tensors of {found[1].file_size / 2**30:.0f} GiB")
            return kind, found
    raise _not_ours(path, f"a zip of {', '.join(repr(n) for n in [*infos][:4]) or 'nothing'}")


def _placed(kind: Kind, content: bytes, name: str | None, where: str) -> tuple[Path, bytes, str]:
    """Return the folder it gets, its manifest under that name, and the hash of its tensors."""
    if kind == "adapter":
        manifest = parse_adapter_manifest(content, where)
        folder = place_for(kind, name or manifest.name)
        if manifest.name != folder.name and manifest.format > 1:
            content = dataclasses.replace(manifest, name=folder.name).as_json()
        return folder, content, manifest.tensors_sha256
    try:
        raw: dict[str, Any] = json.loads(content)
        own, sha256 = str(raw["name"]), str(raw["weights_sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise _not_whole(where, f"a manifest that can't be read ({error})") from error
    folder = place_for(kind, name or own)
    if own != folder.name:
        content = (json.dumps(raw | {"name": folder.name}, indent=2) + "\n").encode()
    return folder, content, sha256


def _copied(source: IO[bytes], target: Path, n_bytes: int, where: str) -> str:
    """Copy as many bytes as were announced, and return their hash."""
    digest, left = hashlib.sha256(), n_bytes
    with target.open("wb") as file:
        while block := source.read(_BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                break
            digest.update(block)
            file.write(block)
    if left:
        raise _not_whole(where, "more or fewer bytes than it announces")
    return digest.hexdigest()


def _require_tensors(path: Path, where: str) -> None:
    try:
        with safe_open(path, framework="np") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise _not_whole(where, str(error)) from error


@contextlib.contextmanager
def _appearing(kind: Kind, folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes the new one at the end, if all went well."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    with replacing(folder) as temporary:
        temporary.mkdir()
        yield temporary
        # somebody else may have taken the name meanwhile
        place_for(kind, folder.name)


def _require_room(folder: Path, n_bytes: int) -> None:
    home = next(p for p in folder.parents if p.is_dir())
    free = shutil.disk_usage(home).free
    if free < n_bytes:
        raise OutputError(
            expected=f"{n_bytes / 1e6:.0f} MB free in {home}",
            got=f"{free / 1e6:.0f} MB",
            remedy="Free some space, or set DINOMASK_MODELS to a folder on another disk.",
        )


def _sha256(manifest: Manifest | AdapterManifest) -> str:
    if isinstance(manifest, Manifest):
        return manifest.weights_sha256
    return manifest.tensors_sha256


def _not_ours(path: Path, got: str) -> ModelError:
    return ModelError(
        expected="a file of 'dinomask models export', or the folder of a model or an adapter",
        got=f"{path}, {got}",
        remedy="Give the file as it was exported.",
    )


def _not_whole(where: str, got: str) -> ModelError:
    return ModelError(
        expected="an undamaged model or adapter",
        got=f"{where}: {got}",
        remedy="Get it again from where it came.",
    )
