"""The wheel is complete: every module and every data file of the checkout is in it."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = {"dinomask": "src_model/dinomask", "napari_dinomask": "napari_dinomask"}
BUILD_INPUTS = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> set[str]:
    """Build a wheel from a copy, so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILD_INPUTS:
        shutil.copy(repository / name, source / name)
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src_model", "napari_dinomask", "sample_data"):
        shutil.copytree(repository / name, source / name, ignore=skip, symlinks=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", source]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("pattern", ["*.py", "*.yaml", "*.typed", "*.safetensors", "*.json"])
def test_wheel_holds_every_file_of(
    package: str, pattern: str, wheel_names: set[str], repository: Path
) -> None:
    root = repository / PACKAGES[package]
    files = {f"{package}/{path.relative_to(root).as_posix()}" for path in root.rglob(pattern)}
    assert files <= wheel_names


def test_wheel_holds_the_samples_and_not_their_recipe(
    wheel_names: set[str], repository: Path
) -> None:
    shipped = {n for n in wheel_names if n.startswith("napari_dinomask/sample_data/")}
    expected = {p.name for p in (repository / "sample_data").iterdir() if p.suffix != ".py"}
    assert shipped == {f"napari_dinomask/sample_data/{name}" for name in expected}


def test_base_dependencies_have_neither_napari_nor_a_qt_binding(repository: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(repository / "setup.cfg")
    required = setup["options"]["install_requires"].lower()
    for name in ("napari", "pyqt", "pyside"):
        assert name not in required
