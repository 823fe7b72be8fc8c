"""The command line as a user meets it: exit codes, messages, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
import zarr

from dinomask.cli import main


def run(capsys, *arguments):
    """Run in this process; return the exit code and all that was printed, unwrapped."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return stop.value.code, " ".join((printed.out + printed.err).split())


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_help_comes_without_torch():
    script = (
        "import sys\nfrom dinomask.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'timm', 'napari', 'zarr', 'skimage', 'sklearn', 'umap', 'anndata'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    for command in ("segment", "evaluate", "train", "models", "doctor"):
        assert command in done.stdout


def test_options_come_from_the_settings(capsys):
    code, text = run(capsys, "segment", "--help")
    assert code == 0
    for option in ("--diameter", "--tile", "--halo", "--score-threshold", "--model", "--restart"):
        assert option in text


def test_segments_a_sample(capsys, sample_nuclei, tmp_path):
    out, report = tmp_path / "o.tif", tmp_path / "o.json"
    overlay = tmp_path / "o.png"
    code, text = run(
        capsys, "segment", sample_nuclei, "-o", out, "--json", report, "--overlay", overlay
    )
    assert code == 0, text
    figures = json.loads(report.read_text())
    labels = tifffile.imread(out)
    assert labels.shape == (512, 512)
    assert len(np.unique(labels)) - 1 == figures["n_instances"] > 50
    assert overlay.stat().st_size > 10_000
    for key in ("dinomask_version", "model", "settings", "machine", "timings_s", "px_per_s"):
        assert key in figures
    before = out.read_bytes()
    code, text = run(capsys, "segment", sample_nuclei, "-o", out)
    assert code == 2
    assert "--overwrite" in text
    assert out.read_bytes() == before


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    rng = np.random.default_rng(0)
    good = folder / "good.tif"
    tifffile.imwrite(good, rng.integers(0, 255, (64, 64), np.uint8))
    (folder / "empty.tif").write_bytes(b"")
    (folder / "truncated.tif").write_bytes(good.read_bytes()[:200])
    (folder / "words.png").write_text("this is no image")
    zarr.open_group(folder / "group.zarr", mode="w")
    np.save(folder / "complex.npy", np.ones((32, 32), np.complex64))
    np.save(folder / "ambiguous.npy", np.zeros((5, 32, 32), np.uint8))
    nan = np.ones((32, 32), np.float32)
    nan[3, 3] = np.nan
    np.save(folder / "nan.npy", nan)
    return folder


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.tif", "Check"),
        ("empty.tif", "empty"),
        ("truncated.tif", "truncated"),
        ("words.png", "image"),
        ("group.zarr", "array"),
        ("complex.npy", "complex"),
        ("ambiguous.npy", "--axes"),
        ("nan.npy", "NaN"),
    ],
)
def test_bad_images_get_one_line_and_exit_code_2(capsys, bad_files, tmp_path, name, said):
    code, text = run(capsys, "segment", bad_files / name, "-o", tmp_path / "o.tif")
    assert code == 2
    assert text.startswith("error: expected")
    assert said.lower() in text.lower(), text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--diameter", "0"], "diameter"),
        (["--diameter", "-3"], "diameter"),
        (["--diameter", "9999"], "diameter"),
        (["--diameter", "wide"], "diameter"),
        (["--model", "nothing"], "tiny"),
        (["--tile", "450"], "14"),
        (["--channels", "7"], "channel"),
        (["--plane", "q=1"], "--plane"),
        (["--score-threshold", "3"], "score"),
        (["--unknown"], "unknown"),
        (["--json", "/nowhere/at/all.json"], "folder"),
    ],
)
def test_bad_settings_get_exit_code_2(capsys, bad_files, tmp_path, arguments, said):
    out = tmp_path / "o.tif"
    code, text = run(capsys, "segment", bad_files / "good.tif", "-o", out, *arguments)
    assert code == 2
    assert said in text
    assert not out.exists()


@pytest.mark.parametrize("out", ["o.xyz", "missing_folder/o.tif"])
def test_bad_outputs_get_exit_code_2(capsys, bad_files, tmp_path, out):
    code, text = run(capsys, "segment", bad_files / "good.tif", "-o", tmp_path / out)
    assert code == 2
    assert "expected" in text


def test_a_foreign_checkpoint_is_refused(capsys, bad_files, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "other"}')
    out = tmp_path / "o.tif"
    code, text = run(capsys, "segment", bad_files / "good.tif", "-o", out, "--model", folder)
    assert code == 2
    assert "manifest.json" in text


def test_models_are_listed_and_told_about(capsys):
    code, text = run(capsys, "models", "list")
    assert code == 0
    assert "tiny" in text
    code, text = run(capsys, "models", "info", "tiny")
    assert code == 0
    assert json.loads(text)["architecture"]["n_classes"] == 1


def test_the_doctor_names_what_is_wrong(capsys, bad_files):
    code, text = run(capsys, "doctor", bad_files / "nan.npy")
    assert code == 2
    assert "NaN" in text
    code, text = run(capsys, "doctor", "--system")
    assert code == 0
    assert "torch" in text


def test_evaluate_reports_and_saves(capsys, sample_nuclei, sample_nuclei_labels, tmp_path):
    for kind, path in (("images", sample_nuclei), ("labels", sample_nuclei_labels)):
        (tmp_path / "data" / kind).mkdir(parents=True)
        pixels = tifffile.imread(path)[:256, :256]
        tifffile.imwrite(tmp_path / "data" / kind / "a.tif", pixels)
    report, save = tmp_path / "e.json", tmp_path / "predicted"
    arguments = ["evaluate", tmp_path / "data", "--save", save, "--json", report]
    code, text = run(capsys, *arguments, "--diameter", "26")
    assert code == 0, text
    figures = json.loads(report.read_text())
    assert figures["mean"]["ap50"] > 0.6
    assert tifffile.imread(save / "a.tif").max() > 5
    code, _ = run(capsys, *arguments)
    assert code == 2


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_stops_within_seconds_and_the_run_can_go_on(tmp_path, sample_nuclei):
    import signal

    big = tmp_path / "big.tif"
    tifffile.imwrite(big, np.tile(tifffile.imread(sample_nuclei), (3, 3)))
    out = tmp_path / "o.tif"
    command = ["-m", "dinomask", "segment", str(big), "-o", str(out), "--diameter", "20"]
    process = subprocess.Popen(
        [sys.executable, *command],
        stderr=subprocess.PIPE,
        # a suite that was started in the background ignores it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    records = tmp_path / "o.tif.ledger" / "tiles"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(records.glob("*/*.npz")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not out.exists()
    assert list(records.glob("*/*.npz"))


def test_brackets_in_names_are_printed_as_they_are(capsys, tmp_path):
    code, text = run(capsys, "segment", tmp_path / "well[red]_[1].tif", "-o", tmp_path / "o.tif")
    assert code == 2
    assert "well[red]_[1].tif" in text
