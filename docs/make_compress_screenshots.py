"""Make the pictures of docs/compress.md: tick methods, compare, jump to a disagreement, switch.

    .venv/bin/python docs/make_compress_screenshots.py [--image FILE]
        [--methods NAME[,NAME…]] [--out FOLDER]

Every step is a real click in a real window. Models and jobs are kept in a temporary folder, so
that the shelf of whoever runs it is not touched. Prints what each step showed, and how long
the window was blocked while the comparison ran.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from make_screenshots import IMAGES, wait
from tour import Tour, apart_from_the_user

SAMPLES = Path(__file__).parent.parent / "napari_dinomask" / "sample_data"
PANEL_PX = 470
RUN_S = 3600.0


def main() -> None:
    """Go through the page, a picture a step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, default=SAMPLES / "histology.tif")
    parser.add_argument("--methods", default="int8-openvino,coarse,head-prune")
    parser.add_argument("--out", type=Path, default=IMAGES)
    args = parser.parse_args()
    with apart_from_the_user():
        CompressTour(args.image, args.methods.split(","), args.out).run()


class CompressTour(Tour):
    """A user with the Compress panel.

    Parameters
    ----------
    image : file
    methods : to tick
    out : folder of the pictures
    """

    def __init__(self, image: Path, methods: list[str], out: Path) -> None:
        super().__init__(out)
        self.methods = methods
        self.viewer.open(str(image))
        self.panel = self.dock("Compress")
        self.panel.setFixedWidth(PANEL_PX)

    def run(self) -> None:
        """Do everything, and say what was seen."""
        panel = self.panel
        wait(lambda: not panel.form.methods["merge"].box.isEnabled())
        for name in self.methods:
            self._tick_method(name)
        self.picture("compress_methods")
        self.enter("compress and compare")
        self._click(panel.run_box.start)
        wait(lambda: panel.results.isVisible() or not panel.runner.is_busy, RUN_S)
        print(panel.run_box.messages[0].text())
        self._scroll(panel.results)
        self.picture("compress_results")
        self._compare()
        self._click(panel.results.use_button)
        wait(lambda: bool(panel.run_box.messages))
        print(panel.run_box.messages[-1].text())
        panel.runner.leave()
        self.close()

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
        self.enter("compare on screen")
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
        self.picture("compress_disagreement")

    def _click(self, button: Any) -> None:
        self._scroll(button)
        self.press(button)

    def _scroll(self, widget: Any) -> None:
        from qtpy.QtWidgets import QApplication

        QApplication.processEvents()
        self.panel.ensureWidgetVisible(widget)
        QApplication.processEvents()


if __name__ == "__main__":
    main()
