"""How much tiles disagree on what they both see, before and after they are aligned.

The mean squared difference of their tokens there, as a share of the tokens' variance
over the image; the share that is left of it after `Alignment`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dinomask.config import SegmentConfig
from dinomask.explain.alignment import Alignment
from dinomask.explain.components import Moments
from dinomask.explain.tokens import TokenSource
from dinomask.image import open_image
from dinomask.run.predictor import Predictor

SAMPLES = {"nuclei": 26.0, "histology": 20.0, "phase_cells": 30.0}
"""Sample images, and the diameter of their objects in pixels."""

LAYERS = (5, 8, 11)
FOLDER = Path(__file__).resolve().parents[2] / "sample_data"


def measure() -> list[dict[str, Any]]:
    """Compare neighbouring tiles of each sample, on each layer."""
    rows = []
    predictor = Predictor.load(SegmentConfig(device="cpu", threads=1))
    for name, diameter_px in SAMPLES.items():
        config = SegmentConfig(diameter_px=diameter_px, device="cpu", threads=1)
        source = TokenSource.of(open_image(FOLDER / f"{name}.tif"), LAYERS, config, predictor)
        alignment = Recording(source.plan)
        moments = {layer: Moments(source.width(layer)) for layer in LAYERS}
        for _, tokens in source.look(range(len(source.plan)), "tiles", None, alignment):
            for layer, cells in tokens.items():
                moments[layer].add(cells.reshape(-1, cells.shape[2]))
        for layer in LAYERS:
            variance = np.trace(moments[layer].scatter) / moments[layer].count
            before, after = alignment.disagreement(layer)
            rows.append(
                {
                    "image": name,
                    "layer": layer,
                    "disagreement": round(before / variance, 4),
                    "aligned": round(after / variance, 4),
                    "left": round(after / before, 3),
                }
            )
    return rows


@dataclasses.dataclass
class Recording(Alignment):
    """An alignment that keeps all tokens, not only the means of what tiles share."""

    maps: dict[tuple[int, int], Any] = dataclasses.field(default_factory=dict)

    def add(self, tile: Any, layer: int, map_yxd: Any) -> None:
        """Keep a map, too."""
        super().add(tile, layer, map_yxd)
        self.maps[tile.index, layer] = map_yxd.astype(np.float64)

    def disagreement(self, layer: int) -> tuple[float, float]:
        """Return the mean squared difference of neighbours, before and after."""
        offsets = self.offsets(layer)
        totals, n = np.zeros(2), 0
        for i in range(len(self.plan)):
            for j in (j for j in self.plan.neighbours(i) if j > i):
                here, there = self._part(i, j, layer), self._part(j, i, layer)
                apart = here - there
                totals += [(apart**2).sum(), ((apart + offsets[i] - offsets[j]) ** 2).sum()]
                n += apart.shape[0] * apart.shape[1]
        return float(totals[0] / n), float(totals[1] / n)

    def _part(self, i: int, j: int, layer: int) -> Any:
        y0, x0, y1, x1 = self.shared_window(self.plan[i], self.plan[j], 1)
        return self.maps[i, layer][y0:y1, x0:x1]
