"""A real napari window with the Segment panel docked."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
import tifffile

# Loads Triton, where it is installed. Its LLVM crashes the process when it is loaded after that of
# Mesa's software renderer, and the first optimiser of a later test would load it then.
import torch._dynamo  # noqa: F401
from qtpy.QtCore import QThreadPool

from napari_dinomask.network import network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt
    from napari import Viewer
    from pytestqt.qtbot import QtBot

    from napari_dinomask.widgets.segment import SegmentPanel

    Array = npt.NDArray[Any]

CROP = (slice(0, 256), slice(0, 256))
"""A part of the nuclei that is one tile."""

NUCLEUS_PX = 26.0
"""Median diameter of the sample's nuclei."""

RUN_MS = 120_000
"""The first run imports torch and may share the machine."""


@pytest.fixture(scope="session", autouse=True)
def _modules_are_no_garbage() -> Iterator[None]:
    """Load what all these tests need, and keep it out of the search for garbage.

    Before and after each test napari looks for windows that were left behind. The objects
    of torch's and napari's modules, 600,000 of them, made each such look take 0.4 s.
    """
    import napari._vispy
    import napari.qt  # noqa: F401

    import dinomask.adapt.prompt
    import dinomask.run.segment  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def nuclei_yx(sample_nuclei: Path) -> Array:
    return tifffile.imread(sample_nuclei)[CROP]


@pytest.fixture
def true_labels_yx(sample_nuclei_labels: Path) -> Array:
    return tifffile.imread(sample_nuclei_labels)[CROP]


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Viewer]) -> Iterator[Viewer]:
    viewer = make_napari_viewer(show=True)
    yield viewer
    # a worker that outlives its window would meet the next test's
    QThreadPool.globalInstance().waitForDone(RUN_MS)


@pytest.fixture
def panel(viewer: Viewer) -> SegmentPanel:
    _, panel = viewer.window.add_plugin_dock_widget("napari-dinomask", "Segment")
    return panel


def wait_until_free(qtbot: QtBot) -> None:
    """Wait until no thread uses the network."""
    qtbot.waitUntil(lambda: not network.turn.locked(), timeout=RUN_MS)
