"""The records of a run, by which it goes on where it stopped."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinomask.config import as_dict
from dinomask.tiles.ledger import Ledger
from dinomask.tiles.outputs import ledger_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.config import SegmentConfig
    from dinomask.image.source import Image
    from dinomask.run.predictor import Predictor
    from dinomask.tiles.plan import TilePlan


def run_key(
    image: Image, predictor: Predictor, config: SegmentConfig, plan: TilePlan
) -> dict[str, Any]:
    """Return all that the result depends on, for the ledger."""
    settings = as_dict(config)
    # where, with how many threads and in what batches it runs is free to change when resuming
    for name in ("model", "adapter", "device", "threads", "batch", "diameter_px"):
        settings.pop(name)
    # what came of it stands among the scales; runs of versions that didn't know it can go on
    settings.pop("sizes")
    settings["precision"] = predictor.precision
    # without an adapter the key is that of versions that knew none, whose runs can go on
    adapter = {"adapter": predictor.adapter_sha256} if predictor.adapter else {}
    return {
        **adapter,
        "image": image.identity,
        "model": predictor.manifest.weights_sha256,
        "score_threshold": predictor.score_threshold(config.detect),
        "settings": settings,
        "scale": plan.scale,
        "tile_yx_px": list(plan.tile_yx_px),
    }


@contextlib.contextmanager
def run_ledger(
    out: Path | None, key: dict[str, Any], n_tiles: int, restart: bool
) -> Iterator[Ledger]:
    """Open the ledger; it outlives a TIFF's run only if there is something left to do."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="dinomask-") as folder:
            yield Ledger.create(Path(folder) / "run.ledger", key, n_tiles)
        return
    ledger = Ledger.create(ledger_path(out), key, n_tiles, restart)
    yield ledger
    if out.suffix.lower() != ".zarr" and not ledger.failed():
        ledger.remove()
