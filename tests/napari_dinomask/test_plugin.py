"""What napari sees of the plugin before anyone presses a button."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from npe2 import PluginManifest

from dinomask.nets.catalogue import BUNDLED
from napari_dinomask import network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari import Viewer

NAME = "napari-dinomask"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution(NAME)


def test_everything_the_manifest_names_exists(manifest: PluginManifest) -> None:
    manifest.validate_imports()
    assert manifest.display_name == "DINOmask"


def test_the_panel_is_the_first_widget_and_in_the_layers_menu(manifest: PluginManifest) -> None:
    contributions = manifest.contributions
    assert contributions.widgets[0].display_name == "Segment"
    commands = {widget.command for widget in contributions.widgets}
    shown = [item.command for items in contributions.menus.values() for item in items]
    assert contributions.menus["napari/layers/segment"][0].command == shown[0]
    assert shown[0] == contributions.widgets[0].command
    # every panel has its entry in a menu, and only one
    assert sorted(shown) == sorted(commands)


def test_every_sample_has_an_entry(manifest: PluginManifest) -> None:
    from napari_dinomask import samples

    loaders = {f"napari_dinomask.samples:{n}" for n in dir(samples) if n.startswith("load_")}
    commands = {c.id: c.python_name for c in manifest.contributions.commands}
    assert {commands[s.command] for s in manifest.contributions.sample_data} == loaders


def test_starting_the_plugin_imports_no_torch() -> None:
    code = (
        "import sys, napari_dinomask.widgets.segment, napari_dinomask.samples\n"
        "heavy = {'torch', 'torchvision', 'timm', 'peft'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_session_works_without_qt_and_napari() -> None:
    code = (
        "import sys, napari_dinomask.session, napari_dinomask.wording\n"
        "gui = {'napari', 'qtpy', 'PyQt6', 'vispy', 'superqt'} & set(sys.modules)\n"
        "sys.exit(f'imported {gui}' if gui else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_sample_opens_beside_the_panel(make_napari_viewer: Callable[..., Viewer]) -> None:
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget(NAME)
    assert not panel.run_box.start.isEnabled()
    viewer.open_sample(NAME, "histology")
    assert panel.layer_combo.layer is viewer.layers["histology"]
    assert "RGB" in panel.layer_hint.text()
    assert panel.run_box.start.isEnabled()


@pytest.mark.parametrize(("loaded", "hidden"), [("libLLVM-15.so.1", True), ("libc.so.6", False)])
def test_triton_is_kept_out_only_beside_another_llvm(
    loaded: str, hidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = tmp_path / "maps"
    libraries.write_text(f"7f00-7f01 r-xp 00000000 08:01 1  /usr/lib/{loaded}\n")
    monkeypatch.setattr(network, "_LOADED_LIBRARIES", libraries)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "triton")
    network._keep_triton_from_mesa()
    assert ("triton" in sys.modules) == hidden


def test_the_default_model_is_offered(make_napari_viewer: Callable[..., Viewer]) -> None:
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget(NAME, "Segment")
    assert panel.model_combo.currentText() == "tiny"
    assert panel.model_hint.text()
    assert (BUNDLED / "tiny").is_dir()
