"""What was found in each tile, kept on disk beside the output.

One atomic file a tile, so that a cancelled or killed run loses at most the
tiles in flight, and one key, so that records of different settings never mix.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinomask.errors import OutputError
from dinomask.instances import Array, Instances
from dinomask.tiles.outputs import output_error, replacing

if TYPE_CHECKING:
    from pathlib import Path

State = Literal["pending", "done", "failed"]

_FORMAT = "dinomask-ledger-1"
_PER_FOLDER = 1000
_FIELDS = tuple(field.name for field in dataclasses.fields(Instances))
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""All that reading a damaged npz was seen to raise."""


def key_hash(key: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a key's canonical json, in hexadecimal."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Ledger:
    """The records of one run; made by `create` or `open`.

    Safe to use from several threads and processes: every file appears by one
    rename, and two workers on one tile write the same record.

    Attributes
    ----------
    path : the ledger's folder
    hash : of the run's key
    n_tiles : tiles are numbered from 0
    """

    path: Path
    hash: str
    n_tiles: int

    @staticmethod
    def create(path: Path, key: Mapping[str, Any], n_tiles: int, restart: bool = False) -> Ledger:
        """Begin a ledger, or go on with the one that is there.

        Parameters
        ----------
        path : the ledger's folder
        key : image identity, model hash, adapter, settings: all that the
            result depends on, as plain json values
        n_tiles : number of tiles of the plan
        restart : forget the records of an earlier run, whatever its key

        Raises
        ------
        OutputError
            If the ledger there has another key (it says which parts differ),
            the folder holds something else, or can't be written.
        """
        run = {"format": _FORMAT, "key": json.loads(json.dumps(dict(key))), "n_tiles": n_tiles}
        ledger = Ledger(path, key_hash(run["key"]), n_tiles)
        try:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                found = _read_run(path)
                if not restart:
                    _check_same(path, found, run)
                    return ledger
                ledger.remove()
        except OSError as error:
            raise output_error(path, error) from error
        with replacing(path) as temporary:
            temporary.mkdir()
            text = json.dumps(run, indent=1, sort_keys=True)
            (temporary / "run.json").write_text(text, encoding="utf-8")
        return ledger

    @staticmethod
    def open(path: Path) -> Ledger:
        """Open the ledger that is there, whatever its key; for workers and later looks.

        Raises
        ------
        OutputError
            If there is none.
        """
        run = _read_run(path)
        return Ledger(path, key_hash(run["key"]), run["n_tiles"])

    def write(self, index: int, instances: Instances) -> None:
        """Record what was found in a tile; a failure noted before is forgotten.

        Raises
        ------
        OutputError
            If it can't be written; nothing half-written stays.
        """
        path = self._record(index)
        buffer = io.BytesIO()
        # npz by hand: level 1 is several times faster than numpy's fixed level 6
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in _FIELDS:
                part = io.BytesIO()
                np.lib.format.write_array(part, getattr(instances, name), allow_pickle=False)
                archive.writestr(f"{name}.npy", part.getvalue())
        self._put(path, buffer.getvalue())
        try:
            self._failure(index).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(path, error) from error

    def fail(self, index: int, reason: str) -> None:
        """Note that a tile could not be predicted, and why."""
        self._put(self._failure(index), json.dumps({"reason": reason}).encode())

    def read(self, index: int) -> Instances:
        """Return what was found in a tile.

        Raises
        ------
        OutputError
            If the tile is not done.
        """
        found = _read_record(self._record(index))
        if found is None:
            raise OutputError(
                expected=f"a whole record of tile {index} in {self.path}",
                got=self.state(index),
                remedy="Run the same command again; it does the tiles that are missing.",
            )
        return found

    def state(self, index: int) -> State:
        """Return a tile's state; a damaged record counts as pending."""
        if _read_record(self._record(index)) is not None:
            return "done"
        return "failed" if self._failure(index).exists() else "pending"

    def records(self) -> Iterator[tuple[int, Instances]]:
        """Yield index and instances of every tile that is done, in order."""
        for index in range(self.n_tiles):
            found = _read_record(self._record(index))
            if found is not None:
                yield index, found

    def pending(self) -> Iterator[int]:
        """Yield the tiles still to do, in order; failed ones get another try."""
        return (i for i in range(self.n_tiles) if _read_record(self._record(i)) is None)

    def failed(self) -> dict[int, str]:
        """Return the reason of every tile that failed."""
        found = {}
        for path in sorted(self.path.glob("tiles/*/*.failed.json")):
            try:
                reason = json.loads(path.read_text(encoding="utf-8"))["reason"]
            except (OSError, ValueError, KeyError, TypeError):
                reason = "the note of the reason is damaged"
            found[int(path.name.split(".")[0])] = str(reason)
        return found

    def remove(self) -> None:
        """Delete the ledger; files in it that are not its own stay.

        Raises
        ------
        OutputError
            If it can't be deleted.
        """
        try:
            if (self.path / "tiles").exists():
                shutil.rmtree(self.path / "tiles")
            # last, so that a ledger whose removal was cut short is still known as one
            (self.path / "run.json").unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.path, error) from error
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _folder(self, index: int) -> Path:
        if not 0 <= index < self.n_tiles:
            msg = f"tile {index} of a ledger with {self.n_tiles} tiles"
            raise IndexError(msg)
        return self.path / "tiles" / f"{index // _PER_FOLDER:06d}"

    def _record(self, index: int) -> Path:
        return self._folder(index) / f"{index:09d}.npz"

    def _failure(self, index: int) -> Path:
        return self._folder(index) / f"{index:09d}.failed.json"

    @staticmethod
    def _put(path: Path, content: bytes) -> None:
        with replacing(path) as temporary:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)


def _read_record(path: Path) -> Instances | None:
    """Read one record; None where there is none or it is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            arrays = {name: _read_array(archive, name) for name in _FIELDS}
    except _DAMAGE:
        return None
    template = Instances.empty()
    n = len(arrays["scores"])
    for name, array in arrays.items():
        like = getattr(template, name)
        if array.dtype != like.dtype or array.ndim != like.ndim or len(array) != n:
            return None
    return Instances(**arrays)


def _read_array(archive: zipfile.ZipFile, name: str) -> Array:
    # np.load stops before the end of a member, where its checksum would be compared
    content = io.BytesIO(archive.read(f"{name}.npy"))
    array: Array = np.lib.format.read_array(content, allow_pickle=False)
    return array


def _read_run(path: Path) -> dict[str, Any]:
    try:
        run = json.loads((path / "run.json").read_text(encoding="utf-8"))
        if run["format"] == _FORMAT and isinstance(run["key"], dict) and run["n_tiles"] >= 0:
            return dict(run)
        got = f"format {run['format']!r}"
    except (OSError, ValueError, KeyError, TypeError):
        got = "a folder or file that is not one"
    raise OutputError(
        expected=f"a ledger of an earlier run at {path}",
        got=got,
        remedy="Move it away, or choose another name for the output.",
    )


def _check_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on with a run whose result would be another."""
    old, new = _flat(found), _flat(wanted)
    names = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
    if names:
        changes = [f"{k} {old.get(k, 'absent')} before, {new.get(k, 'absent')} now" for k in names]
        raise OutputError(
            expected=f"the same run as the unfinished one in {path}",
            got="; ".join(changes),
            remedy="Give the same settings to go on, or add --restart to begin anew.",
        )


def _flat(run: Mapping[str, Any]) -> dict[str, str]:
    """Leaves of the key as {'settings.diameter_px': '30.0'}, and the number of tiles."""
    leaves = {"n_tiles": json.dumps(run["n_tiles"])}
    stack: list[tuple[str, Any]] = [("", run["key"])]
    while stack:
        name, value = stack.pop()
        if isinstance(value, Mapping) and value:
            stack += [(f"{name}.{k}" if name else str(k), v) for k, v in value.items()]
        else:
            leaves[name] = json.dumps(value, sort_keys=True)
    return leaves
