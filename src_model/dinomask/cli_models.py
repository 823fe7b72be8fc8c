"""The commands of the shelf: which models and adapters there are, and what becomes of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from dinomask.cli_options import JsonPath, check_report, out_console, say, write_report

if TYPE_CHECKING:
    from dinomask.adapt.shelf import Entry

Kind = Literal["model", "adapter"]

models_app = App(name="models", help="The shelf: models, and adapters that were taught on them.")


@models_app.command(name="list")
def list_(*, json: JsonPath = None) -> int:
    """List the models and adapters that can be named.

    Parameters
    ----------
    json
        Also write the list to this file.
    """
    from dinomask.adapt.shelf import list_shelf
    from dinomask.terminal import print_table

    check_report(json)
    entries = list_shelf()
    for kind in ("model", "adapter"):
        rows = [entry for entry in entries if entry.kind == kind]
        if rows:
            print_table(out_console, _table(kind, rows))
    write_report(json, {"shelf": [_described(entry) for entry in entries]})
    return 0


@models_app.command
def info(name: str, /, *, kind: Kind | None = None) -> int:
    """Print all that a model or an adapter says about itself.

    Parameters
    ----------
    name
        Of a model or an adapter, or its folder.
    kind
        Which one, where both have that name.
    """
    import json

    from dinomask.adapt.shelf import FILES, find_entry

    entry = find_entry(name, kind)
    # as it stands in the file, even where it is damaged
    text = (entry.folder / FILES[entry.kind][0]).read_text(encoding="utf-8", errors="replace")
    try:
        raw = json.loads(text)
    except ValueError:
        say(text)
        return 2
    shelf = {k: v for k, v in _described(entry).items() if k not in raw}
    out_console.print_json(json.dumps({**raw, **shelf}))
    return 0


@models_app.command
def add(path: Path, /, *, name: str | None = None) -> int:
    """Add a model or an adapter, from a file of `export` or from its folder.

    Parameters
    ----------
    path
        The file or folder.
    name
        What to call it; its own name, if left out.
    """
    from dinomask.adapt.packing import add as put

    entry = put(path, name)
    say(f"{entry.kind} {entry.name}, {entry.size_mb:.1f} MB → {entry.folder}")
    return 0


@models_app.command
def remove(name: str, /, *, kind: Kind | None = None) -> int:
    """Delete a model or an adapter for good.

    Parameters
    ----------
    name
        One of your own; bundled models stay.
    kind
        Which one, where both have that name.
    """
    from dinomask.adapt.shelf import remove as delete

    entry = delete(name, kind)
    say(f"removed the {entry.kind} {entry.name}, {entry.size_mb:.1f} MB")
    return 0


@models_app.command
def export(
    name: str,
    /,
    *,
    output: Annotated[Path, Parameter(name=["-o", "--output"])],
    kind: Kind | None = None,
    overwrite: bool = False,
) -> int:
    """Write a model or an adapter to one file, to be added elsewhere.

    Parameters
    ----------
    name
        Of a model or an adapter, or its folder.
    output
        The file, .zip.
    kind
        Which one, where both have that name.
    overwrite
        Replace an existing file.
    """
    from dinomask.adapt.packing import export as pack

    entry = pack(name, output, kind=kind, overwrite=overwrite)
    say(f"{entry.kind} {entry.name}, {entry.size_mb:.1f} MB → {output}")
    return 0


@models_app.command
def merge(adapter: str, /, *, name: str) -> int:
    """Make a model of its own from an adapter and the model it was taught on.

    Parameters
    ----------
    adapter
        The adapter.
    name
        What to call the new model.
    """
    from dinomask.adapt.shelf import find_entry
    from dinomask.adapt.shelf import merge as join

    join(adapter, name)
    entry = find_entry(name, "model")
    say(f"model {entry.name}, {entry.size_mb:.1f} MB → {entry.folder}")
    return 0


@models_app.command
def note(adapter: str, text: str, /) -> int:
    """Write a note to an adapter, in place of the one it has.

    Parameters
    ----------
    adapter
        The adapter.
    text
        What to note.
    """
    from dinomask.adapt.shelf import write_notes

    say(f"{write_notes(adapter, text).name}: {text}")
    return 0


@models_app.command
def promote(adapter: str, /, *, reason: str = "by hand") -> int:
    """Make an adapter the one in use on its model.

    Parameters
    ----------
    adapter
        The adapter.
    reason
        Why, for the history.
    """
    from dinomask.adapt.promotion import promote as take

    decision = take(adapter, reason)
    say(f"{decision.adapter} is in use now")
    return 0


@models_app.command
def rollback(model: str = "tiny", /, *, reason: str = "by hand") -> int:
    """Go back to the adapter that was in use on a model before, or to the bare model.

    Parameters
    ----------
    model
        The model.
    reason
        Why, for the history.
    """
    from dinomask.adapt.promotion import rollback as go_back
    from dinomask.nets.catalogue import find_model, read_manifest

    now = go_back(read_manifest(find_model(model)).weights_sha256, reason)
    say(f"{now} is in use now" if now else f"the bare model {model} is in use now")
    return 0


def _table(kind: str, entries: list[Entry]) -> Table:
    about = ("backbone", "classes", "trained on") if kind == "model" else ("taught on", "notes")
    table = Table(kind, *about, box=None)
    table.add_column("MB", justify="right")
    for title in ("state", "folder"):
        table.add_column(title)
    for entry in entries:
        state = f"{entry.state}: {entry.reason}" if entry.reason else entry.state
        cells = [entry.name, *_about(entry, len(about)), f"{entry.size_mb:.1f}", state]
        table.add_row(*map(escape, cells), escape(str(entry.folder)))
    return table


def _about(entry: Entry, n_cells: int) -> list[str]:
    from dinomask.nets.catalogue import Manifest

    manifest = entry.manifest
    if manifest is None:
        return [""] * n_cells
    if isinstance(manifest, Manifest):
        architecture = manifest.architecture
        data = ", ".join(d.get("name", "") for d in manifest.trained_on)
        return [architecture.backbone, str(architecture.n_classes), data]
    return [manifest.base, manifest.notes]


def _described(entry: Entry) -> dict[str, Any]:
    """Return what a report tells of an entry, besides its manifest."""
    values = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)}
    values.pop("manifest")
    return {**values, "folder": str(entry.folder), "size_mb": round(entry.size_mb, 3)}
