"""Make the pictures of docs/explain.md: the real program, driven by real clicks.

    .venv/bin/python docs/make_explain_screenshots.py [--only objects] [--minutes 2] [--out FOLDER]

Everything is kept in a temporary folder, so neither the shelf nor the reviews of whoever runs it
are touched. Prints what each step did, how long the window was blocked in each, and whether
undoing gives the labels back.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from attention_tour import look_inside
from make_screenshots import IMAGES, wait
from tour import Tour, apart_from_the_user

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Point = tuple[float, float]

SAMPLES = Path(__file__).parent.parent / "napari_dinomask" / "sample_data"
ADAPTER = "tissue"


def main() -> None:
    """Make the pictures of each tab."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=tuple(TOURS), nargs="+", default=tuple(TOURS))
    parser.add_argument("--minutes", type=float, default=2.0, help="of teaching")
    parser.add_argument("--adapter", type=Path, help="taught already; without it, one is taught")
    parser.add_argument("--out", type=Path, default=IMAGES)
    args = parser.parse_args()
    with apart_from_the_user():
        for name in args.only:
            TOURS[name](args)


class Window(Tour):
    """A user at a window with the Explain panel.

    Parameters
    ----------
    sample : napari's name of a sample of the plugin
    out : folder of the pictures
    """

    def __init__(self, sample: str, out: Path) -> None:
        super().__init__(out)
        self.viewer.open_sample("napari-dinomask", sample)
        image = self.viewer.layers[0]
        if not image.rgb:
            image.contrast_limits = (image.data.min(), 0.8 * image.data.max())
        self.panel = self.dock("Explain")

    def segment(self) -> Any:
        """Segment the image by the Segment panel; return the labels."""
        panel = self.dock("Segment", tabify=True)
        self.enter("segment")
        self.press(panel.run_box.start)
        wait(lambda: panel.job is None)
        self.viewer.window.remove_dock_widget(panel)
        return self.viewer.layers[-1]

    def show_tab(self, title: str) -> Any:
        """Bring a tab of the panel to the front."""
        tab = next(page for page in self.panel.pages if page.title == title)
        self.panel.tabs.setCurrentIndex(self.panel.pages.index(tab))
        return tab

    def wait_for(self, tab: Any) -> None:
        """Wait until a tab has shown what was asked for, and print what it says."""
        wait(lambda: not tab.is_busy)
        print(f"{self.step}: {tab.note.text()}")

    def drag_on(self, plot: Any, corners_xy: Sequence[Point]) -> None:
        """Draw a lasso on a plot, through corners in its own coordinates."""
        from qtpy.QtCore import QEvent, QPointF, Qt
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtTest import QTest
        from qtpy.QtWidgets import QApplication

        viewport, left = plot.viewport(), Qt.MouseButton.LeftButton
        none = Qt.KeyboardModifier.NoModifier
        places = [plot.mapFromScene(plot.view.mapViewToScene(QPointF(*c))) for c in corners_xy]
        QTest.mousePress(viewport, left, none, places[0])
        for start, end in itertools.pairwise(places):
            for share in (0.5, 1.0):
                at = QPointF(start + (end - start) * share)
                there = QPointF(viewport.mapToGlobal(at.toPoint()))
                kind, nothing = QEvent.Type.MouseMove, Qt.MouseButton.NoButton
                event = QMouseEvent(kind, at, there, nothing, left, none)
                QApplication.sendEvent(viewport, event)
                QTest.qWait(15)
        QTest.mouseRelease(viewport, left, none, places[-1])
        QTest.qWait(100)


def tour_attention(args: argparse.Namespace) -> None:
    """Look from a cell through layers and heads, and at one that was missed."""
    window = Window("nuclei", args.out)
    look_inside(window)
    window.close()


def tour_objects(args: argparse.Namespace) -> None:
    """Map nuclei, lasso a group of them, delete it, take that back."""
    window = Window("nuclei", args.out)
    labels = window.segment()
    before = np.array(labels.data)
    tab = window.show_tab("Objects")
    window.enter("features")
    window.press(tab.form.start)
    wait(lambda: tab.objects is not None)
    window.enter("UMAP")
    window.wait_for(tab)
    window.enter("groups")
    tab.groups.n_clusters.setValue(4)
    window.press(tab.groups.start)
    window.wait_for(tab)
    window.enter("lasso")
    window.drag_on(tab.points.plot, _around(_smallest_group(tab)))
    n_chosen = len(tab.selection)
    print(f"lasso: {tab.points.chosen.text()}")
    window.picture("explain_lasso")
    window.enter("delete and undo")
    window.press(tab.chosen.remove_button)
    window.wait_for(tab)
    n_left = len(np.unique(labels.data)) - 1
    window.press(tab.chosen.undo_button)
    window.wait_for(tab)
    same = bool(np.array_equal(labels.data, before))
    print(f"{n_chosen} deleted, {n_left} left; undone, labels as before: {same}")
    window.enter("cells like one")
    tab.selection.choose(tab.points.plot.cloud.keys[40:41])
    window.press(tab.chosen.alike_button)
    tab.points.in_image.setChecked(True)
    _scroll(tab, tab.ranking)
    window.picture("explain_alike")
    window.close()


def tour_features(args: argparse.Namespace) -> None:
    """Teach tissue for some minutes, and colour by features before and after."""
    name = ADAPTER if args.adapter is None else args.adapter.name
    if args.adapter is None:
        _teach(args.minutes)
    else:
        shutil.copytree(args.adapter, Path(os.environ["DINOMASK_MODELS"]) / "adapters" / name)
    window = Window("histology", args.out)
    window.panel.model_combo.refresh()
    window.panel.model_combo.setCurrentText(f"tiny + {name}")
    tab = window.show_tab("Features")
    # teaching changes late layers, so the last shows it best
    tab.layer.setValue(-1)
    window.enter("colours")
    window.press(tab.start)
    window.wait_for(tab)
    window.press(tab.see_before)
    window.picture("explain_features_before")
    window.press(tab.see_after)
    window.picture("explain_features_after")
    window.close()


def _teach(minutes: float) -> None:
    """Make an adapter that moves the features, on the sample that is shown."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, name in (("images", "histology.tif"), ("labels", "histology_labels.tif")):
            home = Path(folder) / kind
            home.mkdir()
            (home / "histology.tif").write_bytes((SAMPLES / name).read_bytes())
        command = [sys.executable, "-m", "dinomask", "finetune", folder, "--adapter", ADAPTER]
        command += ["--mode", "lora", "--minutes", str(minutes)]
        subprocess.run(command, check=False)


def _smallest_group(tab: Any) -> npt.NDArray[Any]:
    """Return the points of the smallest group that a lasso can go around."""
    cloud, colouring = tab.points.plot.cloud, tab.points.colouring
    groups = [colouring.rows_of(category.code) for category in colouring.categories]
    points: npt.NDArray[Any] = cloud.points_xy[min((g for g in groups if len(g) > 5), key=len)]
    return points


def _around(points_xy: npt.NDArray[Any]) -> list[Point]:
    """Return corners of a lasso a little outside of most of some points."""
    from scipy.spatial import ConvexHull

    middle = np.median(points_xy, axis=0)
    distance = np.hypot(*(points_xy - middle).T)
    near = points_xy[distance <= np.percentile(distance, 90)]
    hull = near[ConvexHull(near).vertices]
    return [tuple(p) for p in middle + 1.12 * (hull - middle)]


def _scroll(tab: Any, widget: Any) -> None:
    """Scroll a tab so that a part of it can be seen."""
    area = tab.parent().parent()
    area.ensureWidgetVisible(widget)


TOURS: dict[str, Callable[[argparse.Namespace], None]] = {
    "attention": tour_attention,
    "objects": tour_objects,
    "features": tour_features,
}


if __name__ == "__main__":
    main()
