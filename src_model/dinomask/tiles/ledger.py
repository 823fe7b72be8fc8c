"""What was found in each tile, kept on disk beside the output.

One atomic file a tile, so that a cancelled or killed run loses at most the
tiles in flight, and one key, so that records of different settings never mix.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinomask.errors import OutputError
from dinomask.tiles.outputs import output_error, replacing
from dinomask.tiles.record import pack_record, read_record

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.instances import Array, Instances

State = Literal["pending", "done", "blank", "failed"]
STATES: tuple[State, ...] = ("pending", "done", "blank", "failed")
"""What can be said of a tile; `Ledger.states` gives the numbers in this order."""

_FORMAT = "dinomask-ledger-2"
_PER_FOLDER = 1000


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

    def write(self, index: int, instances: Instances, blank: bool = False) -> None:
        """Record what was found in a tile; a failure noted before is forgotten.

        Parameters
        ----------
        index : the tile
        instances : what it owns
        blank : the tile was not shown to the network, because it is empty

        Raises
        ------
        OutputError
            If it can't be written; nothing half-written stays.
        """
        path = self._record(index)
        self._put(path, pack_record(instances, blank))
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
        found = read_record(self._record(index))
        if found is None:
            raise OutputError(
                expected=f"a whole record of tile {index} in {self.path}",
                got=self.state(index),
                remedy="Run the same command again; it does the tiles that are missing.",
            )
        return found[0]

    def state(self, index: int) -> State:
        """Return a tile's state; a damaged record counts as pending."""
        found = read_record(self._record(index))
        if found is not None:
            return "blank" if found[1] else "done"
        return "failed" if self._failure(index).exists() else "pending"

    def states(self) -> Array:
        """Return the state of every tile, shape (n_tiles,), uint8, numbered as in `STATES`.

        Only what is there is looked at, so a new ledger of millions of tiles
        answers at once.
        """
        states = np.zeros(self.n_tiles, np.uint8)
        states[list(self.failed())] = STATES.index("failed")
        for index, path in self._present():
            found = read_record(path)
            if found is not None:
                states[index] = STATES.index("blank" if found[1] else "done")
        return states

    def records(self) -> Iterator[tuple[int, Instances]]:
        """Yield index and instances of every tile that is done, in order."""
        for index, path in self._present():
            found = read_record(path)
            if found is not None:
                yield index, found[0]

    def pending(self) -> Iterator[int]:
        """Yield the tiles still to do, in order; failed ones get another try."""
        states = self.states()
        to_do = (states == STATES.index("pending")) | (states == STATES.index("failed"))
        return (i for i in range(self.n_tiles) if to_do[i])

    def failed(self) -> dict[int, str]:
        """Return the reason of every tile that failed."""
        found = {}
        for path in sorted(self.path.glob("tiles/*/*.failed.json")):
            try:
                reason = json.loads(path.read_text(encoding="utf-8"))["reason"]
            except (OSError, ValueError, KeyError, TypeError):
                reason = "the note of the reason is damaged"
            index = int(path.name.split(".")[0])
            # the note outlives the record if the work is killed between the two
            if read_record(self._record(index)) is None:
                found[index] = str(reason)
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

    def _present(self) -> Iterator[tuple[int, Path]]:
        """Yield index and file of every tile that has a record, in order."""
        for folder in sorted(self.path.glob("tiles/*")):
            for path in sorted(folder.glob("*.npz")):
                if path.stem.isdigit() and int(path.stem) < self.n_tiles:
                    yield int(path.stem), path

    def _record(self, index: int) -> Path:
        return self._folder(index) / f"{index:09d}.npz"

    def _failure(self, index: int) -> Path:
        return self._folder(index) / f"{index:09d}.failed.json"

    @staticmethod
    def _put(path: Path, content: bytes) -> None:
        with replacing(path) as temporary:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)


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
