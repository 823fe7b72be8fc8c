"""Make the pictures of the README and the docs: the real program, pressed by a real click.

    .venv/bin/python docs/make_screenshots.py

Without a screen it starts itself again on a virtual one (`xvfb-run`).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from napari import Viewer

    from napari_dinomask.widgets.segment import SegmentPanel

IMAGES = Path(__file__).parent / "images"
WINDOW_PX = (1360, 860)
MAX_BYTES = 600_000
TIMEOUT_S = 300.0


def main() -> None:
    """Make every picture."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        start_on_virtual_screen()
    with tempfile.TemporaryDirectory() as folder:
        # napari as it comes, whatever the user has set
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        make_segment_panel()


def start_on_virtual_screen() -> None:
    """Replace this process by one with a screen, where there is none."""
    xvfb = shutil.which("xvfb-run")
    if xvfb is None or sys.platform != "linux":
        return
    os.environ.pop("QT_QPA_PLATFORM", None)
    screen = ["-a", "-s", "-screen 0 1600x1000x24 +extension GLX"]
    os.execv(xvfb, [xvfb, *screen, sys.executable, *sys.argv])


def make_segment_panel() -> None:
    """Show the Segment panel after a run on the sample nuclei."""
    import napari
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW_PX)
    viewer.open_sample("napari-dinomask", "nuclei")
    panel: SegmentPanel
    _, panel = viewer.window.add_plugin_dock_widget("napari-dinomask", "Segment")
    image = viewer.layers[0]
    image.contrast_limits = (image.data.min(), 0.8 * image.data.max())
    wait(lambda: panel.isVisible())
    # the first run also loads the model, which is no part of the time on the picture
    for _ in range(2):
        viewer.layers[1:] = []
        QTest.mouseClick(panel.run_box.start, Qt.MouseButton.LeftButton)
        wait(lambda: panel.job is None)
    if len(viewer.layers) != 2:
        sys.exit("\n".join(label.text() for label in panel.run_box.messages))
    save(screenshot(viewer), IMAGES / "segment_panel.png")
    viewer.close()


def wait(condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
    """Let the window live until a condition holds."""
    from qtpy.QtTest import QTest

    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"gave up after {timeout_s:g} s")
        QTest.qWait(20)


def screenshot(viewer: Viewer) -> npt.NDArray:
    """Return the whole window as it looks once everything is drawn."""
    from qtpy.QtTest import QTest

    viewer.reset_view()
    QTest.qWait(1500)
    return viewer.screenshot(canvas_only=False, flash=False)


def save(picture_yxc: npt.NDArray, path: Path) -> None:
    """Write a PNG, small enough for a repository."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(picture_yxc[..., :3])
    picture.save(path, optimize=True)
    size = path.stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{path} has {size:,} bytes, more than {MAX_BYTES:,}")
    print(f"{path}: {picture.width} x {picture.height} px, {size:,} bytes")


if __name__ == "__main__":
    main()
