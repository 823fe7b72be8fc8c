"""Compress the bundled model, and one as large as a ViT-S, in every way, and compare.

    python benchmarks/compression.py [--images 12] [--rounds 15] [--minutes 3] [--threads 1]
        [--methods NAME[,NAME…]] [--models tiny large] [--json FILE]

Images are the val split of dsb2018 and usiigaci in DINOMASK_DATA (or --data), spread evenly;
methods learn from the train split. Every variant lives in a process of its own, and all take
turns. The reference is the model in PyTorch in float32; `bf16` is what DINOmask takes by itself
on processors with matrix units, where 8-bit models compute the rest in it. The large model has
random weights: what is said of it is its speed and its size. Distillations take --minutes each,
a fraction of what they deserve.

What was made and measured is kept in --work: an interrupted benchmark goes on. The page
docs/compress.md takes its tables from the file of --json by benchmarks/compressing/document.py.
Where benchmarks/accuracy.py has trained a StarDist (--accuracy-work), it segments the same
images after the variants, with as many threads.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressing.adapter import RECIPES, teach, with_adapter
from compressing.models import describe, write_large
from compressing.peer import find_stardist, measure_stardist
from compressing.targets import compare_with_targets
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

import dinomask
from dinomask.cli_options import check_report, write_report
from dinomask.compress.bench.chart import draw_chart
from dinomask.compress.bench.report import bench
from dinomask.compress.bench.variant import ORIGINAL, Variant
from dinomask.compress.choose import Recipe, Study, choose_recipes
from dinomask.compress.study import find_material, make_variants
from dinomask.config import BenchConfig, CompressConfig, DistilSettings, SegmentConfig
from dinomask.errors import DataError, DinomaskError
from dinomask.run.report import machine
from dinomask.terminal import ProgressBar, compression_table, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.compress.material import Source

DATA_SETS = ("dsb2018", "usiigaci")

METHODS = (
    "bf16,openvino,int8-openvino,fuse,coarse,head-prune,mlp-prune,svd,token-merge,window,sparsify,"
    "coarse+distil,head-prune+distil,mlp-prune+distil,svd+int8-openvino,"
    "head-prune+mlp-prune+distil+int8-openvino,coarse+block-prune+distil+int8-openvino"
)
"""Measured where --methods names no others."""

STUDENT = "mobilenetv4_conv_small"

STUDENTS = (
    ("distil",),
    ("distil", "int8-openvino"),
    ("coarse", "distil", "int8-openvino"),
)

LARGE_METHODS = (
    "bf16,openvino,int8-openvino,head-prune,mlp-prune,head-prune+mlp-prune,"
    "head-prune+mlp-prune+bf16,svd"
)
"""Of the large model, which nothing can be won back of."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", help="folders with splits train and val")
    parser.add_argument("--other-data", type=Path, nargs="*", default=[], help="another domain")
    parser.add_argument("--models", nargs="+", choices=("tiny", "large"), default=["tiny", "large"])
    parser.add_argument("--methods", help="as dinomask compress --method, for the first model")
    parser.add_argument("--images", type=int, default=12, help="that every variant segments")
    parser.add_argument("--rounds", type=int, default=15, help="turns of one tile")
    parser.add_argument("--minutes", type=float, default=3.0, help="of each distillation")
    parser.add_argument("--student", default=STUDENT, help="backbone of the student; '' for none")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what time means")
    parser.add_argument("--work", type=Path, default=user_cache_path("dinomask-benchmarks"))
    parser.add_argument("--accuracy-work", type=Path, help="folder of benchmarks/accuracy.py")
    parser.add_argument("--chart", type=Path, help="draw the first model's chart into this .png")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


def data_folders(given: Sequence[Path] | None) -> tuple[Path, ...]:
    """Return the folders of --data, or the usual ones below DINOMASK_DATA."""
    folder = os.environ.get("DINOMASK_DATA")
    if not given and not folder:
        raise DataError(
            expected="annotated images",
            got="neither --data nor the variable DINOMASK_DATA",
            remedy="Add --data FOLDER, with images/, labels/ and index.csv in it.",
        )
    return tuple(given) if given else tuple(Path(folder or "") / name for name in DATA_SETS)


def study_of(model: str, recipes: tuple[Recipe, ...], options: argparse.Namespace) -> Study:
    """Return what is to be made of a model."""
    out = options.work / "compression" / "models" / Path(model).name
    return Study(
        model,
        recipes,
        data_folders(options.data),
        other=tuple(options.other_data),
        out=out,
        # what a former version of the benchmark made
        overwrite=True,
        config=CompressConfig(
            threads=options.threads, distil=DistilSettings(minutes=options.minutes)
        ),
        bench=BenchConfig(bench_images=options.images, rounds=options.rounds, clock=options.clock),
        segment=SegmentConfig(model=model, threads=options.threads),
    )


def make_all(
    study: Study, options: argparse.Namespace, bar: ProgressBar, student: str
) -> tuple[list[Variant], dict[str, str]]:
    """Make every variant, and a student where one is wanted."""
    to_learn, _ = find_material(study)
    made = make_variants(study, to_learn, bar)
    variants, left_out = made.variants, made.left_out
    if student:
        settings = dataclasses.replace(study.config.distil, student=student)
        with_student = dataclasses.replace(
            study,
            # several, so that each gets a folder of its own
            recipes=tuple(map(Recipe, STUDENTS)),
            out=options.work / "compression" / "students",
            config=dataclasses.replace(study.config, distil=settings),
        )
        made = make_variants(with_student, to_learn, bar)
        left_out |= made.left_out
        variants += [
            dataclasses.replace(
                v,
                name=v.name.replace("distil", "student"),
                methods=tuple("student" if m == "distil" else m for m in v.methods),
            )
            for v in made.variants
        ]
    return variants, left_out


def make_adapted(
    study: Study, options: argparse.Namespace, bar: ProgressBar
) -> tuple[list[Variant], dict[str, str]]:
    """Teach an adapter, and make it smaller or merge it."""
    work = options.work / "compression" / "adapters"
    folder = teach(
        study.model, study.places, work, study.config.distil.minutes or 1.0, options.threads
    )
    adapted = dataclasses.replace(study, adapter=str(folder), recipes=RECIPES, out=work)
    made = make_variants(adapted, find_material(study)[0], bar)
    return [with_adapter(study.model, folder), *made.variants], made.left_out


def compare(name: str, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Make and measure the variants of one model."""
    is_large = name == "large"
    model = name
    if is_large:
        # apart from its variants, whose files would count as its own
        model = str(write_large(options.work / "compression" / "originals" / "large", "tiny"))
    recipes = choose_recipes([LARGE_METHODS if is_large else options.methods or METHODS])
    study = study_of(model, recipes, options)
    with ProgressBar(console) as bar:
        adapted, left_out = [], {}
        if not is_large and not options.methods:
            adapted, left_out = make_adapted(study, options, bar)
        variants, also_left_out = make_all(study, options, bar, "" if is_large else options.student)
        variants, left_out = [*variants, *adapted], left_out | also_left_out
        _, to_judge = find_material(study)
        away = _other(study) if study.other and not is_large else []
        original = Variant(ORIGINAL, model)
        report = bench(
            [_in_fp32(variant) for variant in (original, *variants)],
            to_judge.sources,
            options.work / "compression" / f"measured-{name}",
            study.bench,
            study.segment,
            other=away,
            on_progress=bar,
        )
    about = describe(model)
    targets = compare_with_targets(report, bool(about["random"]))
    return {
        **report,
        "model": about,
        "left_out": {**left_out, **report["failed"]},
        "targets": targets,
    }


def _in_fp32(variant: Variant) -> Variant:
    """Let a variant compute in float32 unless it is another arithmetic.

    What stays in floating point beside 8 bits is computed as DINOmask does it by itself.
    """
    is_other = {"bf16", "fp16"} & set(variant.methods) or any("int8" in m for m in variant.methods)
    return variant if is_other else dataclasses.replace(variant, precision="fp32")


def _other(study: Study) -> list[Source]:
    return find_material(dataclasses.replace(study, places=study.other))[1].sources


def add_peer(report: dict[str, Any], options: argparse.Namespace) -> None:
    """Add StarDist's figures on the same images to the report of the first model."""
    work = (options.accuracy_work or options.work / "accuracy").resolve()
    trained = find_stardist(work)
    if trained is None:
        print(f"StarDist: none trained in {work}; run benchmarks/accuracy.py first")
        return
    study = study_of("tiny", (), options)
    samples = [s.sample for s in find_material(study)[1].sources if s.sample is not None]
    folder = options.work / "compression" / "stardist"
    folder.mkdir(parents=True, exist_ok=True)
    peer = measure_stardist(work, trained, samples, folder, options.threads)
    best = next(
        (row for row in report["variants"] if row["name"] == report["recommended"]),
        report["variants"][0],
    )
    report["stardist"] = peer | {"times_as_fast": best["px_per_s"] / peer["px_per_s"]}
    print(
        f"StarDist (grid 2): AP@0.5 {peer['ap50']:.3f}, {peer['px_per_s']:,.0f} px/s; "
        f"{best['name']}: {best['quality']['ap50']:.3f}, {best['px_per_s']:,.0f} px/s, "
        f"{report['stardist']['times_as_fast']:.2f} × StarDist (target: 1.5, AP no lower)"
    )


def show(report: dict[str, Any], console: Console) -> None:
    """Print the table of a model, what was left out, and the targets."""
    about = report["model"]
    random = ", random weights: speed and size only" if about["random"] else ""
    print(f"\n{about['name']} ({about['backbone']}{random})")
    print_table(console, compression_table(report))
    for name, reason in report["left_out"].items():
        print(f"left out: {name}: {reason}")
    table = Table("target", "variant", box=None)
    for title in ("wanted", "measured", ""):
        table.add_column(title, justify="right")
    for row in report["targets"]:
        measured = (f"{row['least']:g}", f"{row['measured']:.2f}")
        table.add_row(row["target"], row["variant"], *measured, "yes" if row["reached"] else "no")
    print_table(console, table)
    if not about["random"]:
        print(report["recommendation"])


def main() -> None:
    """Run it."""
    options = parse()
    check_report(options.json)
    console = Console(stderr=True)
    reports = {}
    for name in options.models:
        reports[name] = compare(name, options, console)
        show(reports[name], Console())
        if name == "tiny":
            add_peer(reports[name], options)
            if options.chart:
                draw_chart(reports[name], options.chart)
        # also if the next model is interrupted
        write_report(
            options.json,
            {
                "dinomask_version": dinomask.__version__,
                "machine": machine(),
                "options": vars(options),
                "models": reports,
            },
        )


if __name__ == "__main__":
    try:
        main()
    except DinomaskError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("cancelled; run the same command again to go on")
