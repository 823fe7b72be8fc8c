"""Project files, and replaying every journal in them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile

from dinomask.adapt import corrections
from dinomask.adapt.journal import Journal
from dinomask.cli import main
from dinomask.errors import InputError, OutputError, ProjectError, WrongImageError
from dinomask.project import (
    Project,
    ProjectImage,
    keep_first_labels,
    open_labels,
    read_project,
    rebuild_image,
    replay,
    write_project,
)
from dinomask.tiles.outputs import table_path
from tests.adapt.label_scenes import SHAPE_YX, plan, pyramid_of, scene

KINDS = ("add", "redraw", "split", "merge", "remove", "classify")


def _save(path, labels) -> None:
    # three planes are no colours
    tifffile.imwrite(path, labels, photometric="minisblack")


def _correct(image: ProjectImage, n=12) -> None:
    """Correct an image's labels as a session in the app does."""
    store = open_labels(image.labels, writable=True)
    journal = image.open_journal(author="ada")
    journal.catch_up(store)
    for number in range(n):
        wish = {"kind": KINDS[number % 6], "seed": number, "keep_others": False}
        correction = plan(store, wish)
        if correction is not None:
            journal.carry_out(correction, store)
        if number % 4 == 3:
            journal.undo(store)
    journal.record(corrections.Reviewed.of_box((0, 0, 5, 5), (0,) * len(store.leading)))
    if image.labels.suffix == ".tif":
        _save(image.labels, store.labels)


@pytest.fixture
def project(tmp_path):
    """Two images, corrected: labels of a movie in a TIFF, and a pyramid with a table of classes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "project"
    folder.mkdir()
    movie = rng.integers(0, 255, (3, *SHAPE_YX), np.uint8)
    tifffile.imwrite(folder / "movie.tif", movie, metadata={"axes": "TYX"}, imagej=True)
    _save(folder / "movie_labels.tif", scene(1, (3, *SHAPE_YX)))
    tifffile.imwrite(folder / "field.tif", movie[0])
    pyramid_of(scene(2), folder / "field_labels.zarr")
    table = pd.DataFrame({"id": [1, 4, 5], "class": [2, 0, 3]})
    table.to_parquet(table_path(folder / "field_labels.zarr"), index=False)
    images = []
    for name, ending in (("movie", ".tif"), ("field", ".zarr")):
        labels = folder / f"{name}_labels{ending}"
        first = keep_first_labels(labels)
        images.append(ProjectImage(name, folder / f"{name}.tif", labels, None, first))
        _correct(images[-1])
    made = Project(folder / "p.dinomask.json", tuple(images), "tiny", "mine", ("cell", "dead"))
    write_project(made)
    return made


def test_a_project_is_read_as_it_was_written_and_moves_as_a_whole(project, tmp_path):
    assert read_project(project.path) == project
    assert "/" not in json.loads(project.path.read_text())["images"][0]["image"]
    shutil.move(project.path.parent, tmp_path / "elsewhere")
    moved = read_project(tmp_path / "elsewhere" / "p.dinomask.json")
    assert [(r.name, r.same) for r in replay(moved)] == [("movie", True), ("field", True)]


def test_replaying_gives_the_labels_forwards_and_backwards(project):
    before = {p: p.read_bytes() for p in sorted(project.path.parent.rglob("*")) if p.is_file()}
    for result in replay(project):
        assert (result.same, result.way, result.conflict) == (True, "forwards", None)
        assert result.n_corrections > 3
        assert result.n_reviewed == 1
    for image in project.images:
        blind = ProjectImage(image.name, image.image, image.labels)
        (result,) = replay(project.with_image(blind))[-1:]
        assert result.same, result
    assert before == {
        p: p.read_bytes() for p in sorted(project.path.parent.rglob("*")) if p.is_file()
    }


@pytest.mark.parametrize("keeps_first", [True, False])
def test_labels_changed_elsewhere_are_found_out(project, keeps_first):
    (image, _) = project.images
    labels = tifffile.imread(image.labels)
    last = image.open_journal().corrections()[-1]
    piece = (*last.after, *last.before)[0]
    y, x = np.argwhere(piece.mask_yx)[0] + piece.corner_yx_px
    labels[(*last.plane, y, x)] = 999
    _save(image.labels, labels)
    first = image.first_labels if keeps_first else None
    changed = ProjectImage(image.name, image.image, image.labels, None, first)
    result, other = replay(project.with_image(changed))
    assert not result.same
    assert other.same
    if keeps_first:
        assert result.n_different_px == 1
    else:
        assert "999" in result.conflict


def test_labels_are_made_again_from_the_first(project, tmp_path):
    for image in project.images:
        out = rebuild_image(image, tmp_path)
        assert out.name == image.labels.name
        made, now = open_labels(out), open_labels(image.labels)
        for plane in np.ndindex(now.leading):
            window = (0, 0, *SHAPE_YX)
            np.testing.assert_array_equal(made.read(window, plane), now.read(window, plane))
        with pytest.raises(OutputError, match="not exist yet"):
            rebuild_image(image, tmp_path)
    with pytest.raises(ProjectError, match="first"):
        rebuild_image(ProjectImage("x", image.image, image.labels), tmp_path)


def test_first_labels_are_kept_once_and_only_before_corrections(project):
    (movie, field) = project.images
    assert keep_first_labels(movie.labels) == movie.first_labels
    assert table_path(field.first_labels).exists()
    np.testing.assert_array_equal(tifffile.imread(movie.first_labels), scene(1, (3, *SHAPE_YX)))
    movie.first_labels.unlink()
    with pytest.raises(ProjectError, match="never corrected"):
        keep_first_labels(movie.labels)
    assert not movie.first_labels.exists()


def test_an_image_that_was_changed_is_refused(project):
    (_, field) = project.images
    pixels = tifffile.imread(field.image)
    pixels[3, 3] ^= 1
    tifffile.imwrite(field.image, pixels)
    with pytest.raises(WrongImageError, match="other pixels"):
        replay(project)


def test_an_event_the_labels_do_not_show_yet_is_told(project):
    (_, field) = project.images
    store = open_labels(field.labels)
    removal = next(
        corrections.remove(store, int(n)) for n in np.unique(store.read((0, 0, *SHAPE_YX))) if n
    )
    field.open_journal().record(removal)
    blind = ProjectImage(field.name, field.image, field.labels)
    for asked in (project, project.with_image(blind)):
        result = replay(asked)[1]
        assert not result.same
        assert result.n_different_px == removal.before[0].area_px
        assert result.conflict is None


def test_what_is_no_project_is_refused(project, tmp_path):
    good = project.path.read_text()
    for text in ("", "[]", "{}", good.replace('project": 1', 'project": 2'), good[:-9]):
        path = tmp_path / "x.dinomask.json"
        path.write_text(text)
        with pytest.raises(ProjectError, match="project file"):
            read_project(path)
        if text != good:
            with pytest.raises(OutputError, match="earlier project"):
                write_project(Project(path))
            assert path.read_text() == text
    with pytest.raises(ProjectError, match="project file"):
        read_project(tmp_path / "missing.dinomask.json")
    with pytest.raises(ProjectError, match="ends in"):
        write_project(Project(tmp_path / "x.json"))
    doubled = Project(tmp_path / "y.dinomask.json", project.images[:1] * 2)
    with pytest.raises(ProjectError, match="different names"):
        write_project(doubled)


def test_only_labels_on_disk_or_in_a_tiff_are_opened(tmp_path):
    (tmp_path / "a.png").write_text("x")
    (tmp_path / "b.tif").write_text("x")
    for name in ("a.png", "b.tif", "missing.tif", "missing.zarr"):
        with pytest.raises(InputError):
            open_labels(tmp_path / name)


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return stop.value.code, printed.out + printed.err


def test_the_command_says_what_is_the_same_and_what_is_not(project, capsys, tmp_path):
    (tmp_path / "out").mkdir()
    options = ["--json", tmp_path / "r.json", "--output", tmp_path / "out"]
    code, text = _run(capsys, "replay", project.path, *options)
    assert code == 0, text
    assert text.count("the same") == 2
    report = json.loads((tmp_path / "r.json").read_text())
    assert [image["same"] for image in report["images"]] == [True, True]
    assert (tmp_path / "out" / "field_labels.zarr").is_dir()
    movie = project.images[0]
    labels = tifffile.imread(movie.labels)
    labels[0, 0, 0] += 1
    _save(movie.labels, labels)
    with movie.journal_file.open("ab") as handle:
        handle.write(b'{"body":{"n":')
    code, text = _run(capsys, "replay", project.path)
    assert code == 1
    assert "1 pixels differ" in text
    assert "cut short" in text
    code, text = _run(capsys, "replay", tmp_path / "no.dinomask.json")
    assert code == 2
    assert "project file" in text
    code, text = _run(capsys, "replay", project.path, "--output", tmp_path / "missing")
    assert code == 2


def test_correcting_needs_no_torch():
    script = (
        "import sys\nimport dinomask.project, dinomask.adapt.difference\n"
        "heavy = {'torch', 'timm', 'napari', 'qtpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_journal_for_each_image(project):
    for image in project.images:
        journal = image.open_journal()
        assert isinstance(journal, Journal)
        assert journal.path == image.labels.with_name(f"{image.name}_labels.journal.jsonl")
