"""One large image: DINOmask, StarDist in blocks and Cellpose as it is, side by side.

    python benchmarks/large_peers.py [--side 8192] [--cellpose-side 2048] [--methods NAME ...]
        [--iou 0.7] [--work FOLDER] [--json FILE]

The image is the sample of nuclei, repeated. StarDist and Cellpose are those that
`benchmarks/accuracy.py` trained last; how well they find nuclei is its business. Here it is
asked how long each takes for a large image, how much memory beyond its loaded model, and
whether all repeats of a nucleus fare alike: one that is found in most repeats and not in this
one, or the other way round, was lost or won by where blocks end. StarDist is told overlaps wider
than a nucleus; DINOmask and Cellpose are told its diameter; all three work with one thread.

Cellpose takes twenty times as long on a processor, so it gets a smaller image, and segments it in
one call: its distributed run joins blocks of volumes alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import zarr
from peers import methods
from peers.runner_files import TRAINED_FILE, read_json, write_json
from peers.stages import Plan, runner_environment
from platformdirs import user_cache_path
from repeated_sample import SAMPLE, SAMPLE_DIAMETER_PX, write_repeated
from rich.console import Console
from rich.table import Table

from dinomask.measure.overlaps import match
from dinomask.nets.zoo import write_atomically
from dinomask.run.report import machine
from dinomask.terminal import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from dinomask.measure.overlaps import Matching

    Labels = npt.NDArray[Any]

NAMES = ("bundled", "stardist", "cellpose")
BLOCK_PX = 1024
OVERLAP_PX = 128
MATCH_IOU = 0.7
"""From here on a nucleus is found; less is left of one that is cut by a block's end."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run each method and print a row for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=8192, help="of the image, in px")
    parser.add_argument("--cellpose-side", type=int, default=2048)
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--iou", type=float, default=MATCH_IOU, help="from which on it is found")
    parser.add_argument("--work", type=Path, help="folder of accuracy.py; default: a user cache")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    work = (options.work or user_cache_path("dinomask-benchmarks") / "accuracy").resolve()
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="dinomask-large-") as folder:
        for name in options.methods:
            side = options.cellpose_side if name == "cellpose" else options.side
            own = Path(folder) / name
            own.mkdir()
            rows[name] = measure(name, side, work, own, options.iou)
            print(json.dumps({name: rows[name]}), flush=True)
    show(rows)
    if options.json:
        found = {"machine": machine(), "block_px": BLOCK_PX, "methods": rows}
        write_atomically(options.json, json.dumps(found, indent=1).encode())


def measure(
    name: str, side_px: int, work: Path, folder: Path, iou: float = MATCH_IOU
) -> dict[str, Any]:
    """Let one method segment an image of its own, and judge what it found."""
    method = methods.MAKERS[name]()
    trained = newest_training(work, name)
    python = Path(sys.executable)
    if method.environment is not None:
        if trained is None:
            message = f"{name} is not trained: run benchmarks/accuracy.py --methods {name} first"
            raise SystemExit(message)
        python = method.environment.build(work / "environments")
    image = write_repeated(folder, side_px, 1)
    is_peer = method.environment is not None
    if is_peer:
        image = _as_npy(image)
    labels = folder / f"{name}.{'npy' if is_peer else 'zarr'}"
    report = folder / f"{name}.json"
    job = {
        "folder": str(trained),
        "model": method.trained_model,
        "recipe": method.recipe,
        "image": str(image),
        "labels": str(labels),
        "report": str(report),
        "temporary": str(folder),
        "diameter_px": SAMPLE_DIAMETER_PX,
        "block_px": BLOCK_PX,
        "overlap_px": OVERLAP_PX,
        "context_px": OVERLAP_PX,
        "stride": 16,
        "threads": 1,
    }
    write_json(folder / f"{name}.job.json", job)
    subprocess.run(
        [str(python), str(method.runner), "large", str(folder / f"{name}.job.json")],
        env=runner_environment(Plan(work, (), "", (), (), (), 0, 1, 0, "wall")),
        cwd=folder,
        check=True,
    )
    figures = read_json(report)
    return {
        "side_px": side_px,
        **figures,
        "mpx_per_s": round(side_px**2 / figures["wall_s"] / 1e6, 3),
        **fare_alike(_read(labels), iou),
        "steps": None if trained is None else read_json(trained / TRAINED_FILE).get("steps"),
    }


def _as_npy(path: Path) -> Path:
    """Write an array of zarr as a file that numpy maps into memory."""
    array = zarr.open_array(path, mode="r")
    out = path.with_suffix(".npy")
    whole = np.lib.format.open_memmap(out, "w+", array.dtype, array.shape)
    whole[...] = array[...]
    whole.flush()
    return out


def newest_training(work: Path, name: str) -> Path | None:
    """Return the folder of the training of a method that ended last; None without any."""
    found = list((work / "runs").glob(f"{name}-*/{TRAINED_FILE}"))
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def _read(path: Path) -> Labels:
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    opened = zarr.open(path, mode="r")
    array = opened if isinstance(opened, zarr.Array) else opened["0"]
    return np.asarray(array[...])


def fare_alike(labels_yx: Labels, iou: float = MATCH_IOU) -> dict[str, Any]:
    """Tell how many nuclei are found, and how many fare otherwise than most of their repeats.

    Nuclei at the border of the sample are left out: there, a repeat meets the next one.
    """
    truth = tifffile.imread(SAMPLE.with_name("nuclei_labels.tif")).astype(np.int64)
    period = len(truth)
    edge = np.unique(np.concatenate([truth[[0, -1]].ravel(), truth[:, [0, -1]].ravel()]))
    inner = np.setdiff1d(np.unique(truth), [0, *edge])
    n = len(labels_yx) // period
    hits = []
    for y in range(0, n * period, period):
        for x in range(0, n * period, period):
            matching = match(truth, labels_yx[y : y + period, x : x + period].astype(np.int64))
            hits.append(_hit(matching, inner, iou))
    hit = np.array(hits)
    usual = hit.mean(axis=0) >= 0.5
    return {
        "repeats": len(hit),
        "found_share": round(float(hit.mean()), 4),
        "otherwise_of_1000": round(1000 * float((hit != usual).mean()), 2),
    }


def _hit(matching: Matching, ids: Labels, iou: float) -> Labels:
    """Tell which of some true objects are found."""
    r, q, shared = matching.reference_index, matching.prediction_index, matching.overlap_px
    areas = matching.reference_areas_px[r] + matching.prediction_areas_px[q]
    found = shared / (areas - shared) >= iou
    return np.isin(ids, matching.reference_ids[r[found]])


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(
        "method",
        "side, px",
        "s",
        "Mpx/s",
        "MB beyond the model",
        "MB of a worker",
        "nuclei found",
        "fare otherwise, of 1,000",
    )
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row['side_px']:,}",
            f"{row['wall_s']:.0f}",
            f"{row['mpx_per_s']:.2f}",
            f"{row['peak_mb']:,}",
            f"{row['worker_mb']:,}" if name == "cellpose" else "",
            f"{row['found_share']:.1%}",
            f"{row['otherwise_of_1000']:.1f}",
        )
    print_table(Console(), table)


if __name__ == "__main__":
    main()
