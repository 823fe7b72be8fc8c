"""Which adapter of a checkpoint is in use, what was before, and what was kept aside.

Every decision is a line of ``history.jsonl`` among the adapters, appended and
flushed at once; what holds now follows from all lines. So nothing is ever
forgotten, and two programs can write without undoing each other.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from typing import TYPE_CHECKING, Literal

from dinomask.errors import ModelError, OutputError
from dinomask.nets.adapter_manifest import (
    adapters_folder,
    find_adapter,
    list_adapters,
    read_adapter_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dinomask.nets.adapter_manifest import AdapterManifest

HISTORY_FILE = "history.jsonl"

Kind = Literal["promoted", "kept aside", "rolled back"]


@dataclasses.dataclass(frozen=True)
class Decision:
    """One line of the history."""

    kind: Kind
    """What was decided."""

    adapter: str
    """Name of the adapter that it is about."""

    tensors_sha256: str
    """Its hash, since a name can be given again."""

    base_sha256: str
    """Hash of the checkpoint."""

    reason: str = ""
    """Why, in words."""

    time: str = ""
    """When, ISO 8601 with the offset from UTC."""


def promote(name: str, reason: str = "") -> Decision:
    """Make an adapter the one in use on its checkpoint.

    Raises
    ------
    ModelError
        If it is unknown.
    OutputError
        If the history can't be written.
    """
    return _append("promoted", _manifest(name), name, reason)


def keep_aside(name: str, reason: str) -> Decision:
    """Note why an adapter was not promoted. It stays, and can still be used by its name.

    Raises
    ------
    ModelError
        If it is unknown.
    OutputError
        If the history can't be written.
    """
    return _append("kept aside", _manifest(name), name, reason)


def rollback(base_sha256: str, reason: str = "") -> str | None:
    """Go back to the adapter that was in use before.

    Returns
    -------
    the name of the one that is in use now; None for the bare checkpoint

    Raises
    ------
    ModelError
        If no adapter is in use.
    OutputError
        If the history can't be written.
    """
    before = current(base_sha256)
    if before is None:
        raise ModelError(
            expected="an adapter in use, to go back from",
            got="the bare checkpoint",
            remedy="There is nothing before it.",
        )
    _append("rolled back", _manifest(before), before, reason)
    return current(base_sha256)


def current(base_sha256: str) -> str | None:
    """Return the name of the adapter in use on a checkpoint; None for the bare checkpoint."""
    promoted = _promoted(history(base_sha256))
    return promoted[-1].adapter if promoted else None


def standing() -> dict[str, tuple[str, str]]:
    """Return, by name, the adapters that are "in use" or "kept aside", each with the reason."""
    found: dict[str, tuple[str, str]] = {}
    every = history()
    for decision in every:
        if decision.kind == "kept aside" and _exists(decision):
            found[decision.adapter] = ("kept aside", decision.reason)
        else:
            found.pop(decision.adapter, None)
    for base in {d.base_sha256 for d in every}:
        promoted = _promoted([d for d in every if d.base_sha256 == base])
        if promoted:
            found[promoted[-1].adapter] = ("in use", promoted[-1].reason)
    return found


def history(base_sha256: str | None = None) -> list[Decision]:
    """Return what was decided about the adapters of a checkpoint, or of all; oldest first.

    A line that a crash tore is left out.
    """
    try:
        text = _path().read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ModelError(
            expected="a history of adapters that can be read",
            got=f"{_path()}: {error.strerror or error}",
            remedy="Check the file's rights.",
        ) from error
    decisions = [d for line in text.splitlines() if (d := _parse(line)) is not None]
    return [d for d in decisions if base_sha256 in (None, d.base_sha256)]


def _promoted(decisions: Sequence[Decision]) -> list[Decision]:
    """Return the promoted adapters of one checkpoint that are still there, the one in use last."""
    stack: list[Decision] = []
    for decision in decisions:
        if decision.kind == "promoted":
            # promoted again, it moves to the top
            stack = [d for d in stack if d.tensors_sha256 != decision.tensors_sha256]
            stack.append(decision)
        else:
            # also if it was in use: whoever overwrote it decided so
            stack = [d for d in stack if d.tensors_sha256 != decision.tensors_sha256]
    return [d for d in stack if _exists(d)]


def _exists(decision: Decision) -> bool:
    """Tell whether the adapter is there, and the same one."""
    folder = list_adapters().get(decision.adapter)
    try:
        found = folder and read_adapter_manifest(folder).tensors_sha256
    except ModelError:
        return False
    return found == decision.tensors_sha256


def _manifest(name: str) -> AdapterManifest:
    if name not in list_adapters():
        find_adapter("")  # says which are known
    return read_adapter_manifest(find_adapter(name))


def _append(kind: Kind, manifest: AdapterManifest, name: str, reason: str) -> Decision:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    decision = Decision(kind, name, manifest.tensors_sha256, manifest.base_sha256, reason, now)
    path = _path()
    line = json.dumps(dataclasses.asdict(decision), ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                # a torn line ends here, so that it doesn't spoil this one
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(
            expected=f"to write {path}",
            got=error.strerror or str(error),
            remedy="Free some space or choose a folder you may write to.",
        ) from error
    return decision


def _parse(line: str) -> Decision | None:
    try:
        return Decision(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _path() -> Path:
    return adapters_folder() / HISTORY_FILE
