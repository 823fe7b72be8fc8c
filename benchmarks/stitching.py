"""Measure what is done around the network: planning, stitching, drawing.

    python benchmarks/stitching.py [--instances 1000000] [--ledger] [--render-px 4096 8192]
                                   [--workers 1 2] [--json FILE]

Each measurement runs in a process of its own, so that its peak of resident memory is its own; the
memory of Python and the libraries is in it and is also told apart. Objects of 24 to 40 px stand
32 px apart, in tiles of the default settings; each tile sees them a little differently, and those
by a seam are reported by two tiles or more. The number stitched must be the number planted. CPU
seconds are of all threads, beside the wall's, which other work on the machine lengthens.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.config import TileConfig
from dinomask.instances import Instances
from dinomask.tiles.ledger import Ledger
from dinomask.tiles.plan import TilePlan, owned, plan_tiles
from dinomask.tiles.stitch import stitch
from dinomask.tiles.write import write_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dinomask.instances import Array

PITCH_PX = 32.0
MASK_PX = 28
HUGE_PX = 1_000_000
_TABLE = 509


class Scene:
    """Objects on a jittered lattice without end; any part of it can be had by itself."""

    def __init__(self, side_px: int) -> None:
        rng = np.random.default_rng(0)
        self.n_side = int(side_px // PITCH_PX)
        self.offset_yx = rng.uniform(-3, 3, (_TABLE, _TABLE, 2))
        self.side_px = rng.uniform(24, 40, (_TABLE, _TABLE, 2))
        self.score = rng.uniform(0.5, 1, (_TABLE, _TABLE))
        self.masks = np.stack([_blob(rng) for _ in range(64)])

    def seen_by(self, plan: TilePlan, index: int) -> Instances:
        """Return what a tile reports."""
        tile = plan[index]
        y0, x0, y1, x1 = (v / PITCH_PX for v in plan.read_image_yxyx(tile))
        rows = np.arange(max(0, math.floor(y0)), min(self.n_side, math.ceil(y1)))
        columns = np.arange(max(0, math.floor(x0)), min(self.n_side, math.ceil(x1)))
        row, column = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
        at = row % _TABLE, column % _TABLE
        own = np.random.default_rng(index)
        centres = (np.stack([row, column], axis=1) + 0.5) * PITCH_PX + self.offset_yx[at]
        centres += own.uniform(-0.5, 0.5, centres.shape)
        half = self.side_px[at] / 2
        boxes = np.hstack([centres - half, centres + half]).astype(np.float32)
        scores = (self.score[at] - own.uniform(0, 0.02, len(row))).astype(np.float32)
        masks = self.masks[(row * 7 + column * 13) % len(self.masks)]
        return owned(plan, tile, Instances(boxes, scores, np.zeros(len(row), np.int32), masks))


def _blob(rng: np.random.Generator) -> Array:
    """Make a roundish mask with a soft edge, shape (28, 28), uint8."""
    axis = (np.arange(MASK_PX) + 0.5) / MASK_PX * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    phase, lobes = rng.uniform(0, 2 * np.pi), int(rng.integers(2, 6))
    edge = 0.85 + 0.1 * np.sin(lobes * np.arctan2(y, x) + phase)
    soft = np.clip(0.5 + 4 * (edge - np.hypot(y, x)), 0, 1)
    return np.round(255 * soft).astype(np.uint8)


def _plan_of(side_px: int) -> TilePlan:
    return plan_tiles((side_px, side_px), 1.0, TileConfig())


def peak_mb() -> float:
    """Return this process's peak of resident memory, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return float(line.split()[1]) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure_plan() -> dict[str, Any]:
    """Plan a huge image, and look up tiles of it by number and by place."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, HUGE_PX, (100_000, 2))
    numbers = rng.random(1000)
    tracemalloc.start()
    with Clock() as clock:
        plan = _plan_of(HUGE_PX)
        for number in numbers:
            plan[int(number * len(plan))]
        plan[len(plan) - 1]
        n_near = sum(1 for _ in plan.tiles_touching((500_000, 500_000, 502_000, 502_000)))
    allocated = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    with Clock() as lookup:
        plan.tiles_at(points)
    return clock.figures() | {
        "tiles": len(plan),
        "tiles_near": n_near,
        "allocated_mb": round(allocated, 3),
        "lookup_100k_s": round(lookup.wall_s, 3),
    }


def measure_stitch(n: int, folder: Path, ledger: bool) -> dict[str, Any]:
    """Stitch about n instances; making or reading the records is told apart."""
    side_px = round(math.sqrt(n)) * int(PITCH_PX)
    scene, plan = Scene(side_px), _plan_of(side_px)
    reading = Clock()

    def records() -> Iterator[tuple[int, Instances]]:
        source = (
            Ledger.open(folder / "run.ledger").records()
            if ledger
            else ((i, scene.seen_by(plan, i)) for i in range(len(plan)))
        )
        while True:
            with reading:
                item = next(source, None)
            if item is None:
                return
            yield item

    with Clock() as clock:
        stitched = stitch(plan, records(), folder)
    planted = scene.n_side**2
    if len(stitched) != planted:
        message = f"{planted} objects planted, {len(stitched)} stitched"
        raise SystemExit(message)
    return clock.figures() | {
        "instances": len(stitched),
        "doubles": stitched.n_seam_duplicates,
        "records_s": round(reading.wall_s, 2),
        "records_cpu_s": round(reading.cpu_s, 2),
    }


def write_ledger(n: int, folder: Path) -> dict[str, Any]:
    """Write the records of about n instances."""
    side_px = round(math.sqrt(n)) * int(PITCH_PX)
    scene, plan = Scene(side_px), _plan_of(side_px)
    with Clock() as clock:
        ledger = Ledger.create(folder / "run.ledger", {"benchmark": n}, len(plan))
        for i in range(len(plan)):
            ledger.write(i, scene.seen_by(plan, i))
    return clock.figures()


def measure_render(side_px: int, workers: int, folder: Path) -> dict[str, Any]:
    """Write an OME-Zarr pyramid of a crowded image."""
    scene, plan = Scene(side_px), _plan_of(side_px)
    stitched = stitch(plan, ((i, scene.seen_by(plan, i)) for i in range(len(plan))), folder)
    before_mb = peak_mb()
    with Clock() as clock:
        write_labels(stitched, plan.shape_yx, folder / "labels.zarr", workers=workers)
    return clock.figures() | {
        "instances": len(stitched),
        "px_per_s": round(side_px**2 / clock.wall_s),
        "px_per_cpu_s": round(side_px**2 / clock.cpu_s),
        "peak_before_mb": round(before_mb, 1),
    }


class Clock:
    """Wall and CPU seconds of one or more blocks; with processes that have ended."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def __enter__(self) -> Clock:
        self._from = time.perf_counter(), self._cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s += time.perf_counter() - self._from[0]
        self.cpu_s += self._cpu() - self._from[1]

    @staticmethod
    def _cpu() -> float:
        return sum(os.times()[:4])

    def figures(self) -> dict[str, Any]:
        """Return both, rounded."""
        return {"wall_s": round(self.wall_s, 3), "cpu_s": round(self.cpu_s, 3)}


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "plan": measure_plan,
    "stitch": measure_stitch,
    "ledger": write_ledger,
    "render": measure_render,
}


def child(name: str, arguments: dict[str, Any]) -> None:
    """Measure in this process and print a line of json."""
    libraries_mb = peak_mb()
    if "folder" in arguments:
        arguments["folder"] = Path(arguments["folder"])
    figures = MEASURES[name](**arguments)
    print(
        json.dumps(figures | {"peak_mb": round(peak_mb(), 1), "start_mb": round(libraries_mb, 1)})
    )


def in_child(title: str, name: str, **arguments: Any) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--child", name, json.dumps(arguments, default=str)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    extra = "  ".join(
        f"{k} {v:,}" for k, v in figures.items() if k not in ("wall_s", "cpu_s", "peak_mb")
    )
    print(
        f"{title:<34} {figures['wall_s']:>9.2f} s  {figures['cpu_s']:>9.2f} CPU s  "
        f"{figures['peak_mb']:>8,.0f} MB peak   {extra}",
        flush=True,
    )
    return {"title": title, **arguments, **figures}


def main() -> None:
    """Run all measurements, print them, and write them as json if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--ledger", action="store_true", help="also through a ledger on disk")
    parser.add_argument("--render-px", type=int, nargs="*", default=[4096, 8192])
    parser.add_argument("--workers", type=int, nargs="*", default=[1])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], json.loads(options.child[1]))
        return
    n, rows = options.instances, [in_child(f"plan {HUGE_PX:,} px squared", "plan")]
    with tempfile.TemporaryDirectory(prefix="dinomask-") as folder:
        rows.append(in_child(f"stitch {n:,}", "stitch", n=n, folder=folder, ledger=False))
        if options.ledger:
            rows.append(in_child(f"write a ledger of {n:,}", "ledger", n=n, folder=folder))
            rows.append(in_child(f"stitch {n:,} of it", "stitch", n=n, folder=folder, ledger=True))
    for side_px in options.render_px:
        for workers in options.workers:
            title = f"draw {side_px:,} px squared, {workers} at work"
            with tempfile.TemporaryDirectory(prefix="dinomask-") as folder:
                rows.append(
                    in_child(title, "render", side_px=side_px, workers=workers, folder=folder)
                )
    if options.json:
        for row in rows:
            row.pop("folder", None)
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
