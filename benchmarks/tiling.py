"""Measure the tiled pipeline: memory, overhead over the bare network, engines, planning.

    python benchmarks/tiling.py [plan sides memory overhead engines] [--repeats 5] [--side 1536]
                                [--memory-sides 4096 32768] [--magnify 8] [--json FILE]

The image is the sample of fluorescent nuclei, repeated side by side in a chunked zarr on disk
whose chunks are links to those of one period, so that 32,768² pixels take no space.

memory    Peak of resident memory above that of the loaded, warmed-up model, in a process of its
          own for each side. At the scale of the sample 32,768² would be 16,000 tiles, half a day
          on one core. So the sample is magnified (--magnify 8) and its diameter given: each tile
          then reads a region 8² times as large, of which memory is measured, but the number of
          tiles (some hundreds) and of nuclei is 64 times less than in a slide as crowded as the
          sample. --magnify 1 measures that too, where there is the time. Memory follows the side
          of the tiles, and a small image is given no larger ones than it needs: so all images
          are measured with the tiles of the smallest, and the largest with --tile besides. Says
          also what share stitching and drawing take of the time.
overhead  Time from image to written labels, without loading the model and fitting percentiles,
          against the network alone on the same tiles, which are in memory, before and after it,
          so that what else the machine does hits both; medians, and the median of the turns'
          ratios. Says also how much longer the slowest of the bare networks took than the
          fastest, which no ratio is surer than.
engines   The detect stage with two workers against one, in turn; medians, and the median of the
          turns' ratios. Workers are started and have loaded the model before, as in a long run.
          Needs as many free cores as workers.
plan      Planning a million pixels squared, and looking up tiles of it.
sides     Time of the network on one tile of each of several sides, in turn: by pixel, and by pixel
          of the core.

Everything runs with one thread (a worker), but for the engines.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from repeated_sample import SAMPLE_DIAMETER_PX, write_repeated

from dinomask.config import EngineConfig, SegmentConfig, TileConfig
from dinomask.image import open_image
from dinomask.image.normalise import fit_normaliser
from dinomask.image.resample import read_scaled
from dinomask.run.engines import make_engine
from dinomask.run.predictor import Predictor
from dinomask.run.report import header
from dinomask.run.segment import segment
from dinomask.tiles.outputs import replacing
from dinomask.tiles.plan import plan_tiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.image.source import Image

HUGE_PX = 1_000_000
TILE_SIDES_PX = (224, 336, 448, 560, 672, 784, 1008)
PARTS = ("plan", "sides", "memory", "overhead", "engines")


def settings(
    magnify: int = 1, threads: int = 1, tile_px: int = TileConfig.tile_px
) -> SegmentConfig:
    """Return the default settings with the size of the sample's nuclei."""
    diameter_px = SAMPLE_DIAMETER_PX * magnify
    return SegmentConfig(
        diameter_px=diameter_px, threads=threads, tiles=TileConfig(tile_px=tile_px)
    )


def measure_plan() -> dict[str, Any]:
    """Plan a million pixels squared and look up a thousand tiles."""
    tracemalloc.start()
    started = time.perf_counter()
    plan = plan_tiles((HUGE_PX, HUGE_PX), 1.0, TileConfig())
    numbers = np.linspace(0, len(plan) - 1, 1000).astype(int)
    for index in numbers.tolist():
        plan[index]
    taken_s = time.perf_counter() - started
    peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return {"tiles": len(plan), "seconds": round(taken_s, 4), "allocated_mb": round(peak_mb, 3)}


def measure_sides(image: Image, repeats: int) -> dict[str, Any]:
    """Time one tile of each side, in turn."""
    config = settings()
    predictor = Predictor.load(config)
    normaliser = fit_normaliser(image)
    scale = predictor.target_diameter_px / SAMPLE_DIAMETER_PX
    tiles = {
        side: read_scaled(image, normaliser, scale, (0, 0, side, side)) for side in TILE_SIDES_PX
    }
    taken_s: dict[int, list[float]] = {side: [] for side in tiles}
    for turn in range(repeats + 1):
        for side, tile in tiles.items():
            started = time.perf_counter()
            predictor.detect(tile, config.detect)
            if turn:
                taken_s[side].append(time.perf_counter() - started)
    found: dict[str, Any] = {}
    for side, times in taken_s.items():
        seconds = statistics.median(times)
        found[f"{side} px, ns a pixel"] = round(seconds / side**2 * 1e9)
        found[f"{side} px, of its core"] = round(
            seconds / (side - 2 * config.tiles.halo_px) ** 2 * 1e9
        )
    return found


def measure_memory(path: Path, magnify: int, tile_px: int) -> dict[str, Any]:
    """Segment one image in this process, and tell its peak above the model's."""
    config = settings(magnify, tile_px=tile_px)
    predictor = Predictor.load(config)
    tile = np.random.default_rng(0).random((3, config.tiles.tile_px, config.tiles.tile_px))
    predictor.detect(tile.astype(np.float32), config.detect)
    base_mb = psutil.Process().memory_info().rss / 1e6
    # from here on the kernel's note of the peak counts anew
    Path("/proc/self/clear_refs").write_text("5")
    out = path.with_name(f"{path.stem}_labels.zarr")
    report = segment(open_image(path), out, config, predictor=predictor).report
    lines = Path("/proc/self/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    timings = report["timings_s"]
    after_s = timings["stitch"] + timings["render"]
    return {
        "side_px": report["image"]["shape_yx"][0],
        "tiles": report["n_tiles"],
        "tile_px": tile_px,
        "instances": report["n_instances"],
        "model_mb": round(base_mb),
        "peak_above_mb": round(peak_kib * 1024 / 1e6 - base_mb),
        "seconds": round(sum(timings.values()), 1),
        "stitch_render_share": round(after_s / (after_s + timings["detect"]), 4),
    }


def measure_memories(
    folder: Path, sides: list[int], magnify: int, tile_px: int
) -> dict[str, dict[str, Any]]:
    """Measure images of several sides with equal tiles, and the largest with those of a run."""
    scale = Predictor.load(settings()).target_diameter_px / (SAMPLE_DIAMETER_PX * magnify)
    smallest, largest = min(sides), max(sides)
    shared_px = max(plan_tiles((smallest, smallest), scale, TileConfig(tile_px)).tile_yx_px)
    found = {}
    for side, tile in [*((side, shared_px) for side in sides), (largest, tile_px)]:
        key = f"memory {side}, tiles of {tile} px"
        if key not in found:
            own = folder / f"{side}_{tile}"
            own.mkdir()
            path = write_repeated(own, side, magnify)
            found[key] = in_own_process(
                "--own", str(path), "--magnify", str(magnify), "--tile", str(tile)
            )
            show(key, found[key])
    return found


def in_own_process(*arguments: str) -> dict[str, Any]:
    """Run one measurement of this script in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure_overhead(image: Image, repeats: int, tile_px: int) -> dict[str, Any]:
    """Time pipeline and bare network in turn."""
    config = settings(tile_px=tile_px)
    predictor = Predictor.load(config)
    normaliser = fit_normaliser(image)
    scale = predictor.target_diameter_px / SAMPLE_DIAMETER_PX
    plan = plan_tiles(image.shape_yx, scale, config.tiles)
    tiles = [
        torch.from_numpy(read_scaled(image, normaliser, scale, plan[i].read_yxyx_px)[None])
        for i in range(len(plan))
    ]
    threshold = predictor.score_threshold(config.detect)

    def bare() -> None:
        # in the precision of the pipeline
        with predictor.autocast():
            for tile in tiles:
                channels_last = tile.to(memory_format=torch.channels_last)
                predictor.model.detect(channels_last, config.detect, threshold)

    stages: list[dict[str, float]] = []

    def pipeline() -> None:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "labels.zarr"
            report = segment(image, out, config, predictor=predictor).report
        stages.append(report["timings_s"])

    bare()
    network, cpu_s = [timed(bare)], []
    for _ in range(repeats):
        cpu_s.append(timed(pipeline)[1])
        network.append(timed(bare))
    # each pipeline against the bare networks before and after it
    network_s, network_cpu_s = (
        [(before + after) / 2 for before, after in itertools.pairwise(column)]
        for column in zip(*network, strict=True)
    )
    parts = {k: statistics.median(s[k] for s in stages) for k in ("detect", "stitch", "render")}
    wholes_s = [s["detect"] + s["stitch"] + s["render"] for s in stages]
    return {
        "tiles": len(tiles),
        "network_s": round(statistics.median(network_s), 3),
        "network_slowest": round(max(network)[0] / min(network)[0], 3),
        **{f"{k}_s": round(v, 3) for k, v in parts.items()},
        "wall_ratio": round(of_turns(wholes_s, network_s), 3),
        # with finding the percentiles and examining the image
        "cpu_ratio": round(of_turns(cpu_s, network_cpu_s), 3),
        "stitch_render_share": round(
            (parts["stitch"] + parts["render"]) / statistics.median(wholes_s), 4
        ),
    }


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of the wall and of the processor that something takes."""
    started, cpu_started = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - started, time.process_time() - cpu_started


def of_turns(above_s: list[float], below_s: list[float]) -> float:
    """Return the median of the turns' ratios: a machine's own speed drifts from turn to turn."""
    return statistics.median(a / b for a, b in zip(above_s, below_s, strict=True))


def measure_engines(image: Image, repeats: int, workers: int, tile_px: int) -> dict[str, Any]:
    """Time the detect stage of each engine in turn."""
    config = settings(tile_px=tile_px)
    predictor = Predictor.load(config)
    names = ("serial", "processes", "dask")
    taken: dict[str, list[float]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        engines = {
            name: stack.enter_context(
                make_engine(EngineConfig(name, None if name == "serial" else workers))
            )
            for name in names
        }
        tables = []
        for turn, name in itertools.product(range(repeats + 1), names):
            result = segment(image, config=config, predictor=predictor, engine=engines[name])
            tables.append(result.table)
            # the first turn starts the workers
            if turn > 0:
                taken[name].append(result.report["timings_s"]["detect"])
    if not all(table.equals(tables[0]) for table in tables):
        message = "engines disagree"
        raise SystemExit(message)
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    return {
        "workers": workers,
        "cores": len(psutil.Process().cpu_affinity() or []),
        **{f"{name}_s": round(value, 3) for name, value in seconds.items()},
        **{
            f"{name}_speedup": round(of_turns(taken["serial"], taken[name]), 3)
            for name in names[1:]
        },
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the parts that were asked for."""
    found: dict[str, Any] = {}
    tile = arguments.tile
    with tempfile.TemporaryDirectory(prefix="dinomask-tiling-") as name:
        folder = Path(name)
        if "plan" in arguments.parts:
            found["plan"] = measure_plan()
            show("plan", found["plan"])
        image = open_image(write_repeated(folder, arguments.side, 1))
        if "sides" in arguments.parts:
            found["sides"] = measure_sides(image, arguments.repeats)
            show("sides", found["sides"])
        if "memory" in arguments.parts:
            found |= measure_memories(folder, arguments.memory_sides, arguments.magnify, tile)
        if "overhead" in arguments.parts:
            found["overhead"] = measure_overhead(image, arguments.repeats, tile)
            show("overhead", found["overhead"])
        if "engines" in arguments.parts:
            found["engines"] = measure_engines(image, arguments.repeats, arguments.workers, tile)
            show("engines", found["engines"])
    return found


def show(part: str, figures: dict[str, Any]) -> None:
    """Print the figures of one part."""
    print(part)
    for name, value in figures.items():
        print(f"  {name:22} {value:>14,}", flush=True)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=PARTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", type=int, default=1536, help="of overhead and engines, in px")
    parser.add_argument(
        "--tile", type=int, default=TileConfig.tile_px, help="longest side of tiles, in px"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-sides", type=int, nargs="+", default=[4096, 32768])
    parser.add_argument("--magnify", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--own", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if wrong := set(arguments.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(wrong))}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    if arguments.own:
        print(json.dumps(measure_memory(arguments.own, arguments.magnify, arguments.tile)))
        return
    found = measure(arguments)
    if arguments.json:
        report = header(Predictor.load(settings())) | {"figures": found}
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
