"""A window with somebody at it, for the scripts that make pictures of the program."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from make_screenshots import save, start_on_virtual_screen, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW_PX = (1500, 980)
LATE_S = 0.1
"""A window that doesn't answer for longer feels frozen."""


@contextlib.contextmanager
def apart_from_the_user() -> Iterator[Path]:
    """Keep napari's settings and the program's files in a temporary folder, and yield it."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        start_on_virtual_screen()
    # a thread of a window that has just closed may still write there
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name in ("MODELS", "JOBS", "REVIEWS"):
            os.environ[f"DINOMASK_{name}"] = str(Path(folder) / name.lower())
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        yield Path(folder)


class Tour:
    """A user at a window, step by step; notes how long the window doesn't answer in each.

    Parameters
    ----------
    out : folder of the pictures
    """

    def __init__(self, out: Path) -> None:
        import napari
        from qtpy.QtCore import QTimer

        self.out = out
        self.viewer = napari.Viewer()
        self.viewer.window._qt_window.resize(*WINDOW_PX)
        self.gaps_s: dict[str, list[float]] = {}
        self.step = "begin"
        self._last_s = time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(5)

    def dock(self, name: str, **how: bool) -> Any:
        """Open a panel of the plugin."""
        _, panel = self.viewer.window.add_plugin_dock_widget("napari-dinomask", name, **how)
        wait(panel.isVisible)
        return panel

    def press(self, button: Any) -> None:
        """Click a button."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        button.window().activateWindow()
        if not button.isEnabled():
            sys.exit(f"{button.text()} can't be pressed")
        QTest.mouseClick(button, Qt.MouseButton.LeftButton, pos=button.rect().center())
        QTest.qWait(50)

    def enter(self, step: str) -> None:
        """Begin another step, whose gaps are counted for themselves."""
        self.step = step
        self._last_s = time.perf_counter()

    def picture(self, name: str) -> None:
        """Save what the window shows."""
        from qtpy.QtTest import QTest

        step, self.step = self.step, "pictures"
        QTest.qWait(800)
        save(self.viewer.screenshot(canvas_only=False, flash=False), self.out / f"{name}.png")
        self.enter(step)

    def close(self) -> None:
        """Say how long the window was blocked, and close it."""
        for step, gaps in self.gaps_s.items():
            late = sum(gap > LATE_S for gap in gaps)
            longest_ms = 1000 * max(gaps)
            print(f"{step}: longest gap {longest_ms:.0f} ms, {late} of {len(gaps)} > 100 ms")
        self._timer.stop()
        self.viewer.close()

    def _tick(self) -> None:
        now_s = time.perf_counter()
        self.gaps_s.setdefault(self.step, []).append(now_s - self._last_s)
        self._last_s = now_s
