"""What is asked of outputs before any work, and tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dinomask.errors import OutputError
from dinomask.tiles.outputs import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pandas as pd


TABLE_SUFFIXES = (".csv", ".parquet", ".json")


def check_new(
    path: Path, suffixes: Sequence[str], overwrite: bool, keep: Iterable[Path | None] = ()
) -> None:
    """Find out before any work whether an output can be written.

    Parameters
    ----------
    suffixes : endings that it may have
    overwrite : an earlier file of this name may be replaced
    keep : never replaced, such as the image itself

    Raises
    ------
    OutputError
        If the ending is another, the folder is missing, or it exists.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputError(
            expected=f"an output ending {', '.join(suffixes[:-1])} or {suffixes[-1]}",
            got=path.name,
            remedy=f"Name it {path.stem}{suffixes[0]}.",
        )
    if not path.parent.is_dir():
        raise OutputError(
            expected="a folder that exists",
            got=str(path.parent),
            remedy="Create the folder first, or choose another one.",
        )
    if any(k is not None and k.exists() and path.exists() and path.samefile(k) for k in keep):
        raise OutputError(
            expected="an output other than the image itself",
            got=str(path),
            remedy="Choose another name for the output.",
        )
    if path.exists() and not overwrite:
        raise OutputError(
            expected="an output that does not exist yet",
            got=str(path),
            remedy="Add --overwrite to replace it, or choose another name.",
        )
    if path.is_dir() and not (path / "zarr.json").is_file():
        raise OutputError(
            expected="an earlier output to replace",
            got=f"the folder {path}, which holds something else",
            remedy="Choose another name, or delete the folder yourself.",
        )


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, Parquet or JSON, whole or not at all.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    suffix = path.suffix.lower()
    with replacing(path) as temporary:
        if suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        elif suffix == ".csv":
            table.to_csv(temporary, index=False)
        else:
            records = json.loads(table.to_json(orient="records"))
            temporary.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
