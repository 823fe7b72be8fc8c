"""The commands around training: options from the settings, files of settings, the search."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from dinomask.cli import app, main
from dinomask.config import FitConfig, LoraSettings, ModelConfig, TrainConfig
from dinomask.config.files import read_train_file
from dinomask.config.options import changed_options, option_name
from tests.train.scenes import write_folder

SMALL = ["--pyramid-width", "16", "--detail-width", "16", "--mask-width", "16", "--iou-width", "32"]
SHORT = ["--crop", "56", "--batch", "2", "--rois-per-image", "4", "--device", "cpu"]


def run(capsys, *arguments):
    """Run in this process; return the exit code and all that was printed, unwrapped."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return stop.value.code, " ".join((printed.out + printed.err).split())


def parsed(*arguments):
    """What the command's function would be called with."""
    words = [str(a) for a in arguments]
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    bound.apply_defaults()
    return bound.arguments


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "discs", 2)


def test_ways_to_fit_and_architecture_are_options():
    got = parsed(
        *["train", "data", "--out", "o", "--steps", "7", "--fit", "hybrid", "--late-blocks", "2"],
        *["--backbone-rate", "1e-5", "--layer-decay", "0.8", "--rank", "32", "--rank-last", "8"],
        *["--lora-targets", "q", "v", "fc1", "--lora-l1", "1e-6", "--lora-dropout", "0.1"],
        *["--patch-px", "8", "--feature-blocks", "1", "3", "--invert-probability", "0.5"],
    )
    lora = LoraSettings(rank=32, rank_last=8, targets=("q", "v", "fc1"), l1=1e-6, dropout=0.1)
    fit = FitConfig("hybrid", late_blocks=2, backbone_rate=1e-5, layer_decay=0.8, lora=lora)
    assert got["config"].fit == fit
    assert got["config"].steps == 7
    assert got["config"].augment.invert_probability == 0.5
    assert got["architecture"] == ModelConfig(patch_px=8, feature_blocks=(1, 3))
    # nothing said about the model: that of --init, or the default
    assert parsed("train", "data", "--out", "o")["architecture"] is None


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(steps=5, minutes=1.5, device="cuda", threads=3),
        TrainConfig(fit=FitConfig("frozen")),
        TrainConfig(
            fit=FitConfig(
                "lora",
                lora_rate=2e-4,
                lora=LoraSettings(
                    rank=3,
                    alpha=6.0,
                    dropout=0.25,
                    blocks=(1, 4),
                    targets=("q", "v"),
                    block_ranks=((1, 5), (4, 2)),
                    heads=False,
                    l1=1e-6,
                    l2=2e-6,
                ),
            )
        ),
    ],
)
def test_settings_become_a_line_and_come_back(config):
    line = changed_options(config)
    assert parsed("train", "data", "--out", "o", *line)["config"] == config
    assert bool(line) == (config != TrainConfig())


def test_no_two_settings_share_an_option():
    for command in ("train", "tune", "evaluate", "segment"):
        arguments = app[command].assemble_argument_collection()
        names = [name for a in arguments for name in a.names if name.startswith("-")]
        assert len(names) == len(set(names))


FILE = """
data = ["discs"]
split = "all"
steps = 2
crop_px = 56
batch = 2
rois_per_image = 4
device = "cpu"

[model]
pyramid_width = 16
detail_width = 16
mask_width = 16
iou_width = 32

[augment]
noise_probability = 0.0

[fit]
mode = "late"
late_blocks = 3

[fit.lora]
targets = ["q", "v"]
block_ranks = [[7, 2]]
heads = false
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_file_gives_the_settings(file):
    got = parsed("train", "--config", file, "--out", "o")
    assert got["split"] == "all"
    assert got["architecture"] == ModelConfig(
        pyramid_width=16, detail_width=16, mask_width=16, iou_width=32
    )
    config = got["config"]
    assert (config.steps, config.crop_px, config.device) == (2, 56, "cpu")
    assert config.augment.noise_probability == 0.0
    assert (config.fit.mode, config.fit.late_blocks) == ("late", 3)
    assert config.fit.lora == LoraSettings(targets=("q", "v"), block_ranks=((7, 2),), heads=False)
    # what the file doesn't say has its default
    assert config.weight_decay == TrainConfig().weight_decay


def test_the_line_goes_before_the_file(file):
    line = ["--batch", TrainConfig().batch, "--fit", "full", "--lora-targets", "fc1"]
    got = parsed("train", "--config", file, "--out", "o", *line, "--pyramid-width", "24")
    config = got["config"]
    # also where the line says what is the default anyway
    assert config.batch == TrainConfig().batch
    assert config.fit.mode == "full"
    assert config.fit.lora.targets == ("fc1",)
    assert config.fit.late_blocks == 3
    assert got["architecture"].pyramid_width == 24
    assert got["architecture"].detail_width == 16


def test_trains_from_a_file_with_data_beside_it(capsys, file):
    write_folder(file.parent / "discs")
    out = file.parent / "model"
    code, text = run(capsys, "train", "--config", file, "--out", out)
    assert code == 0, text
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["training"]["steps"] == 2
    assert manifest["training"]["settings"]["fit"]["mode"] == "late"
    assert manifest["architecture"]["pyramid_width"] == 16
    assert manifest["trained_on"][0]["images"] == "2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat = 1.0", "learning_rat. Did you mean: learning_rate"),
        ("[fit.lora]\nrnak = 3", "fit.lora.rnak. Did you mean: rank"),
        ("[model]\nbackbon = 'x'", "model.backbon. Did you mean: backbone"),
        ("[augmentation]\nblur = 1", "augmentation. Did you mean: augment"),
        ("fit = 'lora'", "mine.toml: fit = 'lora'. Write its settings under [fit]"),
        ("batch = 'many'", "many"),
        ("crop_px = 55", "multiple of 14"),
        ("batch == 3", "TOML"),
    ],
)
def test_files_that_say_something_else(capsys, tmp_path, discs, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    code, printed = run(capsys, "train", discs, "--config", path, "--out", tmp_path / "o")
    assert code == 2
    assert said in printed
    assert not (tmp_path / "o").exists()


@pytest.fixture
def classed(tmp_path):
    """Discs of two classes, by a table beside each label image."""
    folder = write_folder(tmp_path / "classed", 2)
    (folder / "classes").mkdir()
    for path in sorted((folder / "labels").iterdir()):
        ids = [i for i in np.unique(iio.imread(path)).tolist() if i]
        rows = [f"{i},{'dark' if i % 2 else 'light'}" for i in ids]
        table = "\n".join(["label,class", *rows])
        (folder / "classes" / f"{path.stem}.csv").write_text(table, encoding="utf-8")
    return folder


def test_all_annotated_classes_get_a_place_in_the_model(capsys, classed, tmp_path):
    out = tmp_path / "model"
    code, text = run(
        *[capsys, "train", classed, "--out", out, "--classes", "auto", "--steps", 1],
        *[*SMALL, *SHORT],
    )
    assert code == 0, text
    architecture = json.loads((out / "manifest.json").read_text())["architecture"]
    assert architecture["n_classes"] == 2
    assert architecture["class_names"] == ["dark", "light"]


def test_classes_and_generated_images_exclude_each_other(capsys, classed, tmp_path):
    code, text = run(
        *[capsys, "train", classed, "--out", tmp_path / "o", "--classes", "auto", "--steps", 1],
        *["--generated-share", "0.2"],
    )
    assert code == 2
    assert "--generated-share 0" in text
    assert not (tmp_path / "o").exists()


def test_a_file_that_is_missing(capsys, tmp_path):
    path = tmp_path / "none.toml"
    code, printed = run(capsys, "train", "x", "--config", path, "--out", tmp_path / "o")
    assert code == 2
    assert "none.toml" in printed


def test_the_committed_files_are_read(repository: Path):
    files = sorted((repository / "configs").glob("*.toml"))
    assert files
    for path in files:
        got = parsed("train", "data", "--config", path, "--out", "o")
        got["config"].require_budget()
        options = read_train_file(path)
        assert options[option_name("learning_rate")] == got["config"].learning_rate


def test_tune_searches_and_prints_a_line_that_trains(capsys, discs, tmp_path):
    out, report = tmp_path / "study", tmp_path / "t.json"
    arguments = ["tune", discs, "--split", "all", "--val-split", "all", "--out", out]
    few = ["--steps", "2", "--rungs", "1", "--fits", "late", "frozen", "--threads", "1"]
    more = ["--json", report, "--metric", "ap50"]
    code, text = run(capsys, *arguments, "--trials", "1", *few, *SMALL, *SHORT)
    assert code == 0, text
    code, text = run(capsys, *arguments, "--trials", "2", *few, *SMALL, *SHORT, *more[:2])
    assert code == 0, text
    assert "trial_0001 done:" in text
    assert "trial_0000 done:" not in text, "the first trial was kept"
    best = json.loads((out / "best.json").read_text())
    assert best["command"] in text
    figures = json.loads(report.read_text())
    assert [row["state"] for row in figures["trials"]] == ["done", "done"]
    got = parsed(*shlex.split(best["command"])[1:])
    assert got["config"].learning_rate == best["settings"]["learning_rate"]
    assert got["config"].fit.mode == best["settings"]["fit"]["mode"]
    assert got["config"].crop_px == 56
    assert got["architecture"].pyramid_width == 16
    assert got["data"] == (Path(discs),)
    # another metric is another search
    code, text = run(capsys, *arguments, "--trials", "2", *few, *SMALL, *SHORT, *more)
    assert code == 2
    assert "another metric" in text


def test_tune_needs_steps(capsys, discs, tmp_path):
    code, text = run(
        capsys, "tune", discs, "--split", "all", "--val-split", "all", "--out", tmp_path / "s"
    )
    assert code == 2
    assert "--steps 300" in text
