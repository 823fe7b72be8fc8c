"""How quickly a lasso over many points answers, on the map and in the image.

A window with 50,176 cells, in the image as squares of 20 px and on the map as a cloud in eight
colours. Each lasso is a drawn path of some 200 corners around about a third of the points.
"find" is finding the points inside; "answer" is from the mouse's release until map and image
show the chosen cells, drawing included; "redraw" is one frame of the map while it is moved.
Without a screen it takes a virtual one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]

SIDE = 224
CELL_PX = 20
N_COLOURS = 8
CORNERS = 200
REPEATS = 15
SCREEN = ("xvfb-run", "-a", "-s", "-screen 0 1600x1000x24 +extension GLX")


def measure() -> list[dict[str, Any]]:
    """Measure it in a real window: medians and worst cases, a row each."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return _on_virtual_screen()
    with tempfile.TemporaryDirectory() as folder:
        # napari as it comes, whatever the user has set
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        return _measure()


def _on_virtual_screen() -> list[dict[str, Any]]:
    code = "import json, explaining.lasso as part; print('rows', json.dumps(part.measure()))"
    environment = {k: v for k, v in os.environ.items() if k != "QT_QPA_PLATFORM"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    command = [*SCREEN, sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("rows "))
    rows: list[dict[str, Any]] = json.loads(line.removeprefix("rows "))
    return rows


def _measure() -> list[dict[str, Any]]:
    import napari
    import pandas as pd
    from qtpy.QtWidgets import QApplication

    from napari_dinomask.colouring import colour_by
    from napari_dinomask.layers import CHOSEN_SUFFIX, PaintLayer
    from napari_dinomask.selection import Cloud, Selection
    from napari_dinomask.widgets.scatter import CHOSEN_COLOUR, ScatterPlot

    rng = np.random.default_rng(0)
    labels_yx = _labels()
    keys = np.unique(labels_yx)[1:].astype(np.int64)
    points_xy = rng.normal(size=(len(keys), 2))
    viewer = napari.Viewer()
    viewer.window.resize(1500, 950)
    labels = viewer.add_labels(labels_yx, name="cells")
    selection = Selection()
    plot = ScatterPlot(selection)
    viewer.window.add_dock_widget(plot)
    kinds = pd.Series(rng.integers(0, N_COLOURS, len(keys)), name="cluster")
    plot.show_points(Cloud(keys, points_xy), colour_by(kinds))
    paint = PaintLayer(viewer, labels, (0, 0), (0, 1), CHOSEN_SUFFIX, contour_px=2, opacity=1.0)
    selection.listen(lambda: paint.show_alike(selection.keys, CHOSEN_COLOUR))

    def settle() -> None:
        # what asked to be drawn is drawn here; the second time, what that asked for
        for _ in range(2):
            QApplication.processEvents()

    # the first one makes the layer and compiles what draws it
    selection.choose(plot.cloud.inside(_lasso(rng)))
    settle()
    times: dict[str, list[tuple[float, float]]] = {"find": [], "answer": [], "redraw": []}
    n_chosen = []
    for _ in range(REPEATS):
        lasso = _lasso(rng)
        times["find"].append(_ms(lambda lasso=lasso: plot.cloud.inside(lasso)))

        def answer(lasso: Array = lasso) -> None:
            plot.view.lassoed.emit(lasso, QApplication.keyboardModifiers())
            settle()

        times["answer"].append(_ms(answer))
        n_chosen.append(len(selection))

        def move() -> None:
            plot.view.translateBy(x=0.02, y=0.0)
            plot.viewport().repaint()

        times["redraw"].append(_ms(move))
    viewer.close()
    return [
        {
            "what": name,
            "points": len(keys),
            "chosen": round(float(np.median(n_chosen))),
            "median ms": round(float(np.median(ms, axis=0)[0])),
            "worst ms": round(max(ms)[0]),
            "CPU ms": round(float(np.median(ms, axis=0)[1])),
        }
        for name, ms in times.items()
    ]


def _labels() -> Array:
    """Return squares with background between them."""
    ids = np.arange(1, SIDE * SIDE + 1, dtype=np.int32).reshape(SIDE, SIDE)
    labels_yx = ids.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
    labels_yx[::CELL_PX] = 0
    labels_yx[:, ::CELL_PX] = 0
    return labels_yx


def _lasso(rng: np.random.Generator) -> Array:
    """Return a wobbly ring around about a third of the points."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    radii = 1 + 0.15 * np.sin(5 * angles + rng.uniform(0, 6)) + 0.02 * rng.normal(size=CORNERS)
    middle = rng.uniform(-0.5, 0.5, 2)
    return middle + radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])


def _ms(work: Callable[[], Any]) -> tuple[float, float]:
    """Return milliseconds by the clock, and of the processors."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - started), 1000 * (time.process_time() - used)
