"""The command that checks a project's journals: replay."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dinomask.cli_options import JsonPath, check_report, complain, say, write_report
from dinomask.errors import OutputError

EXIT_DIFFERENT = 1


def replay(project: Path, /, *, output: Path | None = None, json: JsonPath = None) -> int:
    """Make every label image of a project again from its journal, and compare.

    Exit status 1 tells that labels are not what their journal makes.

    Parameters
    ----------
    project
        Project file, ending .dinomask.json.
    output
        Also write the label images made again to this folder; needs the first labels.
    json
        Write what was found to this file.
    """
    from dinomask.project import read_project, rebuild_image
    from dinomask.project import replay as replay_all

    check_report(json)
    if output is not None and not output.is_dir():
        raise OutputError(
            expected="a folder that exists",
            got=str(output),
            remedy="Create the folder first, or choose another one.",
        )
    found = read_project(project)
    results = replay_all(found)
    for result in results:
        if result.torn:
            complain("warning", f"{result.name}: {result.torn}")
        if result.conflict:
            complain("error", f"{result.name}: {result.conflict}")
        outcome = "the same" if result.same else f"{result.n_different_px} pixels differ"
        say(
            f"{result.name}: {result.n_corrections} corrections, {result.n_reviewed} reviewed "
            f"regions, replayed {result.way}: {'conflict' if result.conflict else outcome}"
        )
    if output is not None:
        for image in found.images:
            say(f"{image.name} → {rebuild_image(image, output)}")
    write_report(json, {"images": [dataclasses.asdict(result) for result in results]})
    return 0 if all(result.same for result in results) else EXIT_DIFFERENT
