"""Make the pictures of docs/large_images.md: an image of 30,000 × 30,000 px in the real program.

    .venv/bin/python docs/make_large_screenshots.py [--side 30000] [--out FOLDER]

Real clicks segment it to disk, look on, cancel, resume, paint a cell and take that back. Prints
what the panel said, the memory of the program at each step, and how long the window was blocked.
The image is the sample of nuclei, magnified eight times and repeated; chunks that are equal are
links to one file, so it takes little space.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import tifffile
import zarr
from make_screenshots import IMAGES, wait
from tour import Tour, apart_from_the_user

from dinomask.tiles.edit import LabelPyramid

if TYPE_CHECKING:
    import numpy.typing as npt

SAMPLE = Path(__file__).parent.parent / "sample_data" / "nuclei.tif"
MAGNIFY = 8
DIAMETER_PX = 26.0 * MAGNIFY
CHUNK_PX = 512
COARSEST_PX = 2048
RUN_S = 3600.0


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=30_000)
    parser.add_argument("--out", type=Path, default=IMAGES)
    args = parser.parse_args()
    with apart_from_the_user() as folder:
        slide = write_pyramid(folder / "slide.ome.zarr", args.side)
        LargeTour(slide, args.out).run()


def write_pyramid(path: Path, side_px: int) -> Path:
    """Write the sample, magnified and repeated, as an OME-Zarr with levels down to 2,048 px."""
    period = np.kron(tifffile.imread(SAMPLE), np.ones((MAGNIFY, MAGNIFY), np.uint16))
    group = zarr.create_group(path)
    datasets = []
    for k in itertools.count():
        step = 2**k
        side = -(-side_px // step)
        write_repeated(group, str(k), period[::step, ::step], side)
        scale = {"type": "scale", "scale": [float(step)] * 2}
        datasets.append({"path": str(k), "coordinateTransformations": [scale]})
        if side <= COARSEST_PX:
            break
    axes = [{"name": name, "type": "space"} for name in "yx"]
    multiscale = {"name": "slide", "axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return path


def write_repeated(group: zarr.Group, name: str, period: npt.NDArray[Any], side_px: int) -> None:
    """Write a level; chunks whose like is on disk already are links to it."""
    chunk = min(CHUNK_PX, len(period))
    array = group.create_array(
        name,
        shape=(side_px, side_px),
        chunks=(chunk, chunk),
        dtype=period.dtype,
        dimension_names=("y", "x"),
    )
    array[: len(period), : len(period)] = period[:side_px, :side_px]
    n_period, chunks = len(period) // chunk, Path(str(group.store.root)) / name / "c"
    for row, column in itertools.product(range(-(-side_px // chunk)), repeat=2):
        path = chunks / str(row) / str(column)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(chunks / str(row % n_period) / str(column % n_period), path)


class LargeTour(Tour):
    """A user with a slide.

    Parameters
    ----------
    slide : OME-Zarr
    out : folder of the pictures
    """

    def __init__(self, slide: Path, out: Path) -> None:
        super().__init__(out)
        self.labels_path = slide.with_name("cells.zarr")
        (self.image,) = self.viewer.open(str(slide), plugin="napari-ome-zarr")
        coarsest = np.asarray(self.image.data[-1])
        self.image.contrast_limits = (coarsest.min(), 0.8 * coarsest.max())
        self.tell("opened")

    def tell(self, what: str) -> None:
        """Print what was done, and the memory in use."""
        print(f"{what}: {psutil.Process().memory_info().rss / 1e6:,.0f} MB")

    def run(self) -> None:
        """Do everything."""
        from qtpy.QtTest import QTest

        panel = self.dock("Segment")
        panel.size_chooser.typed.click()
        panel.size_chooser.field.setValue(DIAMETER_PX)
        panel.output.field.setText(str(self.labels_path))
        side = max(self.image.data[0].shape)
        self.viewer.scene.camera.center = (0.4 * side, 0.4 * side)
        self.viewer.scene.camera.zoom = 0.25
        QTest.qWait(1000)
        self.enter("run")
        self.press(panel.run_box.start)
        wait(lambda: panel.runner.live is not None and panel.runner.live.shown is not None)
        wait(lambda: n_done(panel) >= 6)
        self.tell(panel.run_box.stage.text())
        self.picture("large_running")
        pressed_s = time.monotonic()
        self.press(panel.run_box.cancel)
        wait(lambda: panel.job is None)
        print(f"cancelled in {time.monotonic() - pressed_s:.2f} s:", said(panel))
        self.enter("resumed run")
        self.press(panel.run_box.start)
        wait(lambda: bool(panel.run_box.messages))
        print(said(panel))
        wait(lambda: panel.job is None, RUN_S)
        self.tell(said(panel))
        self._edit(panel)
        self.tell("end")
        print(f"peak: {peak_mb():,.0f} MB")
        self.close()

    def _edit(self, panel: Any) -> None:
        """Paint a cell in the middle of the view, undo it, redo it."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        self.enter("edit")
        panel.ensureWidgetVisible(panel.edit_box)
        self.press(panel.edit_box.edit)
        region = panel.edit_box.region
        before = self._on_disk(region.window_yxyx_px)
        new_id = region.labels.selected_label
        region.labels.brush_size = 120
        canvas = self.viewer.window._qt_viewer.canvas.native
        middle = canvas.rect().center()
        QTest.mouseMove(canvas, middle)
        QTest.qWait(100)
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle)
        wait(lambda: bool((self._on_disk(region.window_yxyx_px) == new_id).any()))
        print(f"painted {new_id}, on disk")
        self.picture("large_edit")
        QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        wait(lambda: np.array_equal(self._on_disk(region.window_yxyx_px), before))
        print("undone, on disk")
        self.press(panel.edit_box.done)

    def _on_disk(self, window_yxyx_px: tuple[int, int, int, int]) -> npt.NDArray[Any]:
        return LabelPyramid.open(self.labels_path).read(window_yxyx_px)


def n_done(panel: Any) -> int:
    """Return how many tiles the run has found objects in."""
    progress = panel.job.progress if panel.job is not None else None
    return progress.done if progress is not None and progress.stage == "detect" else 0


def said(panel: Any) -> str:
    """Return what stands below the buttons."""
    return " | ".join(label.text() for label in panel.run_box.messages)


def peak_mb() -> float:
    """Return the largest memory that the program had."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


if __name__ == "__main__":
    main()
