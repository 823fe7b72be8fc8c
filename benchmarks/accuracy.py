"""Train StarDist, Cellpose and DINOmask on the same images for the same time, and compare.

    python benchmarks/accuracy.py --minutes 40 [--data FOLDER...] [--methods NAME...]
        [--threads 1] [--out FOLDER] [--json FILE]

Without --data it takes dsb2018 and usiigaci of the folder in DINOMASK_DATA. Every method
starts from random weights, sees the same train split for the same minutes on the same number
of processor threads (no GPU), and segments the val split without knowing how large the
objects are. All label images are scored in one place by `dinomask.measure`. `bundled` is the
checkpoint that comes with DINOmask: its training took longer, which is printed beside it.

What counts as training time: fitting the network, with its own validation. Reading images,
computing Cellpose's flows, fitting its size model and choosing StarDist's thresholds on
held-out train images come on top; they are in the json. With --clock cpu, budgets and seconds
are processor time a thread, which is fairer on a machine that does other work.

StarDist and Cellpose get environments of their own (with uv where it is found, else venv and
pip). Cellpose is version 3: version 4 is a fine-tuned SAM, whose weights can't be trained
from random here. Environments, trainings and label images are kept in --work, so a second
call with the same settings repeats nothing, and an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from peers import figures, material, methods, stages
from platformdirs import user_cache_path
from rich.console import Console

import dinomask
from dinomask.cli_options import check_report, write_report
from dinomask.errors import DataError, DinomaskError, OutputError
from dinomask.run.report import machine
from dinomask.terminal import print_table
from dinomask.train.datasets import Sample, describe_sources, find_samples

DATA_SETS = ("dsb2018", "usiigaci")
"""Below DINOMASK_DATA, where --data is left out."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=40, help="training time of each method")
    parser.add_argument("--data", type=Path, nargs="+", help="folders with a train and a val split")
    parser.add_argument("--methods", nargs="+", choices=list(methods.MAKERS))
    parser.add_argument("--threads", type=int, default=1, help="processor threads of each method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what time means")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--val-split", default="val")
    parser.add_argument("--limit", type=int, help="at most so many images of each split, to try it")
    parser.add_argument("--work", type=Path, help="folder of what is kept; default: a user cache")
    parser.add_argument("--repredict", nargs="+", default=[], choices=list(methods.MAKERS))
    parser.add_argument("--out", type=Path, help="copy label images here, a folder a method")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    found = parser.parse_args(arguments)
    found.methods = found.methods or list(methods.MAKERS)
    found.work = (found.work or user_cache_path("dinomask-benchmarks") / "accuracy").resolve()
    return found


def data_folders(given: list[Path] | None) -> tuple[Path, ...]:
    """Return the folders of --data, or the usual ones below DINOMASK_DATA."""
    if given:
        return tuple(given)
    folder = os.environ.get("DINOMASK_DATA")
    if not folder:
        raise DataError(
            expected="annotated images",
            got="neither --data nor the variable DINOMASK_DATA",
            remedy="Add --data FOLDER, with images/, labels/ and index.csv in it.",
        )
    return tuple(Path(folder) / name for name in DATA_SETS)


def make_plan(options: argparse.Namespace) -> tuple[stages.Plan, list[Sample]]:
    """Choose and convert the images; return the plan and the samples to score on."""
    folders = data_folders(options.data)
    train = material.choose(find_samples(folders, options.train_split), options.limit)
    val = material.choose(find_samples(folders, options.val_split), options.limit)
    held_out = material.hold_out(train, options.seed)
    converted = options.work / "images"
    plan = stages.Plan(
        work=options.work,
        folders=folders,
        train_split=options.train_split,
        train=material.convert(train, converted),
        held_out=material.convert(held_out, converted),
        val=material.convert(val, converted),
        minutes=options.minutes,
        threads=options.threads,
        seed=options.seed,
        clock=options.clock,
    )
    return plan, val


def compare_one(
    plan: stages.Plan, val: list[Sample], name: str, repredict: bool, out: Path | None
) -> dict[str, Any]:
    """Train, predict and score one method."""
    method = methods.MAKERS[name]()
    if repredict:
        stages.forget_predictions(plan, method)
    python = stages.own_python()
    if method.environment is not None:
        python = method.environment.build(plan.work / "environments")
    trained = stages.train(plan, method, python)
    predicted = stages.predict(plan, method, python)
    folder = plan.predictions_folder(method)
    results = figures.score(val, folder, predicted["images"])
    if out is not None:
        copy_labels(folder, out / name)
    return {
        "training": methods.describe_training(method, trained, plan.clock, plan.threads),
        "recipe": method.recipe,
        "versions": predicted["versions"],
        "model_folder": str(plan.training_folder(method)),
        **figures.report(results, plan.clock),
    }


def copy_labels(folder: Path, out: Path) -> None:
    """Copy label images to where the user wants them; other files there are not replaced."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.tif")):
        copy = out / path.name
        if copy.exists() and not filecmp.cmp(path, copy, shallow=False):
            raise OutputError(
                expected=f"no other {path.name} in {out}",
                got="a different file of that name",
                remedy="Choose another folder for --out, or delete the old label images.",
            )
        shutil.copyfile(path, copy)


def show(console: Console, plan: stages.Plan, reports: dict[str, dict[str, Any]]) -> None:
    """Print a table a figure, a modality a row, and the means with the budgets."""
    for figure in figures.FIGURES:
        print_table(console, figures.figure_table(reports, figure))
    print_table(console, figures.budget_table(reports))
    console.print(
        f"{plan.minutes:g} minutes each on {plan.threads} processor thread(s), {plan.clock} time,"
        f" {len(plan.train)} train images, seed {plan.seed}.",
        highlight=False,
        soft_wrap=True,
    )
    if "bundled" in reports:
        minutes = reports["bundled"]["training"]["minutes"]
        console.print(
            f"bundled: trained for {minutes:g} minutes, and its score threshold was chosen on the"
            " val images; the others chose nothing on them.",
            highlight=False,
            soft_wrap=True,
        )


def run(options: argparse.Namespace) -> None:
    """Compare, print, write."""
    check_report(options.json)
    torch.set_num_threads(options.threads)
    plan, val = make_plan(options)
    reports = {
        name: compare_one(plan, val, name, name in options.repredict, options.out)
        for name in methods.MAKERS
        if name in options.methods
    }
    show(Console(), plan, reports)
    settings = {
        "minutes": plan.minutes,
        "threads": plan.threads,
        "seed": plan.seed,
        "clock": plan.clock,
        "limit": options.limit,
        "train_images": material.identity(plan.train),
        "held_out_images": material.identity(plan.held_out),
    }
    write_report(
        options.json,
        {
            "dinomask_version": dinomask.__version__,
            "machine": machine(),
            "settings": settings,
            "data": describe_sources(plan.folders, options.train_split),
            "methods": reports,
            "markdown": figures.markdown(reports),
        },
    )


def main() -> int:
    """Run the comparison; 0 done, 2 an error with a remedy, 130 stopped."""
    options = parse()
    stages.stop_like_ctrl_c()
    try:
        run(options)
    except DinomaskError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
