"""Make the pictures of docs/compress.md: tick methods, compare, jump to a disagreement, switch.

    .venv/bin/python docs/make_compress_screenshots.py [--image FILE]
        [--methods NAME[,NAME…]] [--out FOLDER]

Every step is a real click in a real window. Models and jobs are kept in a temporary folder, so
that the shelf of whoever runs it is not touched. Prints what each step showed, and how long
the window was blocked while the comparison ran.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

from make_screenshots import IMAGES, save, start_on_virtual_screen

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = Path(__file__).parent.parent / "napari_dinomask" / "sample_data"
WINDOW_PX = (1500, 980)
PANEL_PX = 470
TIMEOUT_S = 3600.0


def main() -> None:
    """Go through the page, a picture a step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, default=SAMPLES / "histology.tif")
    parser.add_argument("--methods", default="int8-openvino,token-merge,head-prune")
    parser.add_argument("--out", type=Path, default=IMAGES)
    args = parser.parse_args()
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        start_on_virtual_screen()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("MODELS", "JOBS", "REVIEWS"):
            os.environ[f"DINOMASK_{name}"] = str(Path(folder) / name.lower())
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        Tour(args.image, args.methods.split(","), args.out).run()


def wait(condition: Callable[[], bool]) -> None:
    """Let the window live until a condition holds; a comparison takes minutes."""
    from qtpy.QtTest import QTest

    end = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"gave up after {TIMEOUT_S:g} s")
        QTest.qWait(20)


class Tour:
    """A user at the window.

    Parameters
    ----------
    image : file
    methods : to tick
    out : folder of the pictures
    """

    def __init__(self, image: Path, methods: list[str], out: Path) -> None:
        import napari
        from qtpy.QtCore import QTimer

        self.methods, self.out = methods, out
        self.viewer = napari.Viewer()
        self.viewer.window._qt_window.resize(*WINDOW_PX)
        self.viewer.open(str(image))
        _, self.panel = self.viewer.window.add_plugin_dock_widget("napari-dinomask", "Compress")
        self.panel.setFixedWidth(PANEL_PX)
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)

    def run(self) -> None:
        """Do everything, and say what was seen."""
        panel = self.panel
        wait(lambda: not panel.form.methods["merge"].box.isEnabled())
        for name in self.methods:
            self._tick_method(name)
        self._save("compress_methods")
        self._timer.start(5)
        self._last = time.perf_counter()
        self._click(panel.run_box.start)
        wait(lambda: panel.results.isVisible() or not panel.runner.is_busy)
        late = sum(gap > 0.1 for gap in self.gaps)
        print(f"longest gap {1000 * max(self.gaps):.0f} ms, {late} of {len(self.gaps)} > 100 ms")
        print(panel.run_box.messages[0].text())
        self._scroll(panel.results)
        self._save("compress_results")
        self._compare()
        self._click(panel.results.use_button)
        wait(lambda: bool(panel.run_box.messages))
        print(panel.run_box.messages[-1].text())
        panel.runner.leave()
        self.viewer.close()

    def _tick_method(self, name: str) -> None:
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        box = self.panel.form.methods[name].box
        self._scroll(box)
        QTest.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
        if not box.isChecked():
            sys.exit(f"{name} can't be ticked: {self.panel.form.methods[name].note.text()}")

    def _compare(self) -> None:
        """Lay the original and another variant over each other, and go to what differs most."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        results, changes = self.panel.results, self.panel.changes_box
        rows = [row for row in results._rows[1:]]
        most = min(rows, key=lambda row: row["quality"]["agreement"])
        results.second.setCurrentText(most["name"])
        self._click(results.compare_button)
        wait(changes.isVisible)
        tree = changes.tree
        groups = [tree.topLevelItem(i) for i in range(tree.topLevelItemCount())]
        item = next((group.child(0) for group in groups if group.childCount()), None)
        if item is None:
            print(f"original | {most['name']}: nothing differs here; try a stronger method")
            return
        item.parent().setExpanded(True)
        self._scroll(changes)
        tree.scrollToItem(item)
        QTest.mouseClick(
            tree.viewport(), Qt.MouseButton.LeftButton, pos=tree.visualItemRect(item).center()
        )
        print(f"original | {most['name']}: {changes.note.text()}")
        self._save("compress_disagreement")

    def _click(self, button: Any) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        self._scroll(button)
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def _scroll(self, widget: Any) -> None:
        from qtpy.QtWidgets import QApplication

        QApplication.processEvents()
        self.panel.ensureWidgetVisible(widget)
        QApplication.processEvents()

    def _save(self, name: str) -> None:
        from qtpy.QtTest import QTest

        QTest.qWait(1500)
        picture = self.viewer.screenshot(canvas_only=False, flash=False)
        save(picture, self.out / f"{name}.png")

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now


if __name__ == "__main__":
    main()
