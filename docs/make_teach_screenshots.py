"""Make the pictures of docs/teach.md: correct by real clicks, teach, compare, segment again.

    .venv/bin/python docs/make_teach_screenshots.py [--image FILE --truth LABELS] [--minutes 2]
        [--out FOLDER]

Without an image it takes the sample of stained tissue. The truth only tells where to click:
missed cells, false ones, the region that is right. Everything is kept in a temporary folder,
so neither the shelf nor the reviews of whoever runs it are touched. Prints what each step did,
how long the window was blocked in each, and whether undoing everything gives the labels back.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from make_screenshots import IMAGES, wait
from tour import Tour, apart_from_the_user
from where_to_click import deepest_point, false_point, line_between, missed_points, unmatched

from dinomask.measure.matching import score_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from where_to_click import Point

SAMPLES = Path(__file__).parent.parent / "napari_dinomask" / "sample_data"
N_ADDED = 2


def main() -> None:
    """Go through the tutorial, a picture a step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, default=SAMPLES / "histology.tif")
    parser.add_argument("--truth", type=Path, default=SAMPLES / "histology_labels.tif")
    parser.add_argument("--name", help="what the image is called in the pictures")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=IMAGES)
    args = parser.parse_args()
    with apart_from_the_user() as folder:
        name = args.name or args.image.stem
        image = Path(shutil.copy(args.image, folder / f"{name}{args.image.suffix}"))
        Tutorial(image, args.truth, args.out, args.minutes).run()


class Tutorial(Tour):
    """A user who corrects and teaches.

    Parameters
    ----------
    image : file, in a folder of its own
    truth : label image that tells where to click
    out : folder of the pictures
    minutes : of teaching
    """

    def __init__(self, image: Path, truth: Path, out: Path, minutes: float) -> None:
        from skimage.io import imread

        super().__init__(out)
        self.truth = np.asarray(imread(truth))
        self.minutes = minutes
        self.viewer.open(str(image))

    def run(self) -> None:
        """Do everything, and say what came of it."""
        segment = self.dock("Segment")
        before = self._segment(segment)
        review = self.dock("Review & correct", tabify=True)
        labels = self.viewer.layers[-1]
        self._correct(review, labels)
        teach = self.dock("Teach", tabify=True)
        self._teach(teach)
        self._segment_again(segment)
        self._undo_all(review, labels, before)
        review.finish()
        self.close()

    def _segment(self, panel: Any) -> npt.NDArray[Any]:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        self.enter("segment")
        ids, areas = np.unique(self.truth[self.truth > 0], return_counts=True)
        panel.size_chooser.typed.click()
        panel.size_chooser.field.setValue(float(np.median(np.sqrt(4 / np.pi * areas))))
        print("objects in truth:", len(ids))
        QTest.mouseClick(panel.run_box.start, Qt.MouseButton.LeftButton)
        wait(lambda: panel.job is None)
        found = np.array(self.viewer.layers[-1].data)
        print(f"AP@0.5 against the truth: {score_image(self.truth, found).ap[0]:.3f}")
        return found

    def _correct(self, panel: Any, labels: Any) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        self.enter("begin correcting")
        panel.begin.click()
        wait(lambda: panel.reviewer is not None and panel.reviewer.review is not None)
        self.reviewer = panel.reviewer
        self._settle()
        self.enter("correct")
        for point in missed_points(self.truth, labels.data)[:N_ADDED]:
            self._click(point)
            print("add:", panel.note.text())
        false = false_point(self.truth, labels.data)
        self._click(false, Qt.KeyboardModifier.ShiftModifier)
        print("remove:", panel.note.text())
        canvas = self._canvas()
        QTest.keyClick(canvas, Qt.Key.Key_S)
        self._drag(line_between(self.truth, labels.data))
        print("split:", panel.note.text())
        self._make_right(labels)
        QTest.keyClick(canvas, Qt.Key.Key_R)
        y0, x0, y1, x1 = self._region()
        self._drag([(y0, x0), (y1, x1)])
        print("region:", panel.note.text())
        print("corrected:", panel.counts.text())
        self.picture("review_panel")

    def _region(self) -> tuple[float, float, float, float]:
        """Return the part of the image that is made right as a whole."""
        height, width = self.truth.shape
        return height * 0.05, width * 0.05, height * 0.95, width * 0.65

    def _make_right(self, labels: Any) -> None:
        """Delete what fits no cell in the region, and draw boxes about the cells that are missed.

        A region is vouched for as a whole, so nothing in it may stay wrong.
        """
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        y0, x0, y1, x1 = self._region()
        for label in unmatched(self._edited(labels), self.truth):
            y, x = deepest_point(self._edited(labels) == label)
            if y0 <= y < y1 and x0 <= x < x1:
                self._click((y, x), Qt.KeyboardModifier.ShiftModifier)
        QTest.keyClick(self._canvas(), Qt.Key.Key_A)
        for label in unmatched(self.truth, self._edited(labels)):
            rows, cols = np.nonzero(self.truth == label)
            if y0 <= rows.mean() < y1 and x0 <= cols.mean() < x1:
                # a drag that begins beyond the image moves the camera
                corners = [(rows.min(), cols.min()), (rows.max() + 1, cols.max() + 1)]
                self._drag([tuple(np.clip(c, 1, np.array(self.truth.shape) - 1)) for c in corners])

    def _edited(self, labels: Any) -> npt.NDArray[Any]:
        return np.array(labels.data)

    def _teach(self, panel: Any) -> None:
        self.enter("plan teaching")
        wait(panel.plan_note.isVisible)
        panel.form.minutes.setValue(self.minutes)
        self.enter("teach")
        panel.run_box.start.click()
        wait(lambda: len(panel.runner.curves.held_out) >= 2 or not panel.runner.is_busy)
        self.picture("teach_running")
        wait(lambda: not panel.runner.is_busy)
        self.enter("compare")
        print("verdict:", [label.text() for label in panel.run_box.messages])
        compare = [b for b in panel.run_box.actions if "Before" in b.text()]
        if compare:
            compare[0].click()
            wait(panel.changes_box.isVisible)
            print("changes:", panel.changes_box.note.text())
        self.picture("teach_panel")

    def _segment_again(self, panel: Any) -> None:
        panel.model_combo.refresh()
        print("model now:", panel.model_combo.currentText())
        found = self._segment(panel)
        print("objects with it:", len(np.unique(found)) - 1)

    def _undo_all(self, panel: Any, labels: Any, before: npt.NDArray[Any]) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        self.enter("undo")
        self.viewer.layers.selection.active = labels
        for _ in range(50):
            if not panel.reviewer.review.journal.can_undo:
                break
            QTest.keyClick(self._canvas(), Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
            self._settle()
        print("undone, labels as before:", bool(np.array_equal(labels.data, before)))

    def _canvas(self) -> Any:
        return self.viewer.window._qt_viewer.canvas.native

    def _place(self, point: Point) -> Any:
        from qtpy.QtCore import QPoint

        camera = self.viewer.scene.camera
        moved = (np.array(point) - 0.5 - np.array(camera.center)[-2:]) * camera.zoom
        y, x = moved + np.array(self.viewer.canvas.size) / 2
        return QPoint(round(x), round(y))

    def _click(self, point: Point, modifier: Any = None) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        modifier = modifier or Qt.KeyboardModifier.NoModifier
        QTest.mouseMove(self._canvas(), self._place(point))
        self._settle()
        QTest.mouseClick(self._canvas(), Qt.MouseButton.LeftButton, modifier, self._place(point))
        self._settle()

    def _drag(self, points: Sequence[Point]) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        canvas, button = self._canvas(), Qt.MouseButton.LeftButton
        none = Qt.KeyboardModifier.NoModifier
        QTest.mouseMove(canvas, self._place(points[0]))
        QTest.qWait(100)
        QTest.mousePress(canvas, button, none, self._place(points[0]))
        for start, end in itertools.pairwise(points):
            for share in np.linspace(0.1, 1, 10):
                between = np.array(start) + share * (np.array(end) - start)
                QTest.mouseMove(canvas, self._place((between[0], between[1])))
                QTest.qWait(20)
        QTest.mouseRelease(canvas, button, none, self._place(points[-1]))
        self._settle()

    def _settle(self) -> None:
        from qtpy.QtTest import QTest

        QTest.qWait(100)
        wait(lambda: not self.reviewer.background.is_busy)
        QTest.qWait(100)


if __name__ == "__main__":
    main()
