"""What runs in a variant's process: it loads the model, and then does what it is asked."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from dinomask.errors import DinomaskError, EngineError
from dinomask.run.engines.worker import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from dinomask.compress.material import Source
    from dinomask.config import SegmentConfig
    from dinomask.instances import Array

READY = "ready"

MANY_TILES = 10_000
"""As a large image has: networks that can be prepared for a shape are."""
"""What it says when the model is loaded."""


def serve(connection: Connection, config: SegmentConfig) -> None:
    """Load a variant, and do what comes as (method of `Loaded`, arguments) until the end."""
    # Ctrl-C reaches every process of a terminal; the one that leads decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            loaded = Loaded(config)
        except Exception as error:  # noqa: BLE001 - told by the one that leads
            connection.send(_as_problem(error))
            return
        connection.send(READY)
        while True:
            what, arguments = connection.recv()
            try:
                answer = getattr(loaded, what)(**arguments)
            except Exception as error:  # noqa: BLE001 - told by the one that leads
                answer = _as_problem(error)
            connection.send(answer)


def _as_problem(error: Exception) -> DinomaskError:
    if isinstance(error, DinomaskError):
        return error
    traceback.print_exception(error)
    return EngineError(
        expected="the variant to do what it is asked",
        got=f"{type(error).__name__}: {error}",
        remedy="Leave it out, and please report it with what was printed above.",
    )


class Stopwatch:
    """Seconds on the wall, and of the processor a thread."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    @contextlib.contextmanager
    def measure(self) -> Iterator[dict[str, float]]:
        """Fill in ``wall`` and ``cpu`` when the block ends."""
        found: dict[str, float] = {}
        started, worked = time.perf_counter(), time.process_time()
        yield found
        found["wall"] = time.perf_counter() - started
        found["cpu"] = (time.process_time() - worked) / self._threads


class Loaded:
    """A variant in memory.

    Parameters
    ----------
    config : how to load it, and to segment
    """

    def __init__(self, config: SegmentConfig) -> None:
        import torch

        from dinomask.compress.bench import memory
        from dinomask.run.predictor import Predictor
        from dinomask.run.segment import segment

        self._segment = segment
        self._config = config
        self.libraries_mb = memory.held_mb()
        memory.forget_peak()
        started = time.perf_counter()
        self.predictor = Predictor.load(config)
        self.load_s = time.perf_counter() - started
        self.watch = Stopwatch(torch.get_num_threads())
        self._warm_for: tuple[int, ...] | None = None

    def describe(self, tile: Array) -> dict[str, Any]:
        """Tell what doesn't change: warm-up, parameters, multiplications, the report's header.

        Parameters
        ----------
        tile : shape (3, H, W), float32; the first one this process sees
        """
        from dinomask.compress.analysis import count_macs, count_parameters
        from dinomask.run.report import header

        with self.watch.measure() as first:
            self.predictor.look(tile[None], self._config.detect)
        return {
            "load_s": self.load_s,
            "first_tile_s": first["wall"],
            "libraries_mb": self.libraries_mb,
            "parameters": count_parameters(self.predictor),
            "macs": count_macs(self.predictor, tile),
            "header": header(self.predictor),
        }

    def time_tile(self, tile: Array) -> dict[str, dict[str, float]]:
        """Time the network alone, and with the removal of doubles that follows it.

        It is warm, and prepared for as many tiles as a large image has.
        """
        detect = self._config.detect
        if tile.shape != self._warm_for:
            self.predictor.network.expect((1, *tile.shape), MANY_TILES)
            self.predictor.look(tile[None], detect)
            self._warm_for = tile.shape
        with self.watch.measure() as network:
            self.predictor.look(tile[None], detect)
        with self.watch.measure() as whole:
            self.predictor.detect(tile, detect)
        return {"network": network, "tile": whole}

    def segment(self, image: Path, out: Path) -> dict[str, Any]:
        """Segment an image as a user would, from reading it to drawing its labels.

        Parameters
        ----------
        image : file
        out : .npz of the label image
        """
        import numpy as np

        from dinomask.compress.bench import memory
        from dinomask.image.source import open_image

        # the image has expectations of its own
        self._warm_for = None
        with self.watch.measure() as seconds:
            opened = open_image(image, channels=self._config.channels)
            result = self._segment(opened, config=self._config, predictor=self.predictor)
        labels = result.labels_yx
        if labels is None:
            labels = np.zeros(opened.shape_yx, np.uint32)
        peak_mb = memory.peak_mb()
        np.savez_compressed(out, labels_yx=labels.astype(np.int32))
        table = result.table
        return {
            "seconds": seconds,
            "n_px": int(labels.size),
            "diameter_px": result.diameter_px,
            "scores": dict(zip(table["id"].tolist(), table["score"].tolist(), strict=True)),
            "peak_mb": peak_mb,
        }

    def draw_tiles(self, sources: list[Source], n: int, tile_px: int, seed: int) -> dict[str, Any]:
        """Cut tiles with their labels, of which those of images without are all -1."""
        import numpy as np

        from dinomask.compress.material import STEADY, Material
        from dinomask.train.augment import draw_crop

        images = Material(sources).read(self.predictor)
        target_px = self.predictor.target_diameter_px
        crops = [
            draw_crop(
                images[i % len(images)],
                tile_px,
                target_px,
                STEADY,
                np.random.default_rng((seed, i)),
            )
            for i in range(n)
        ]
        return {
            "tiles": np.stack([crop.image_cyx for crop in crops]),
            "labels": np.stack([crop.labels_yx for crop in crops]).astype(np.int32),
        }

    def detect(self, tiles: Array) -> Array:
        """Return the label image of each tile, shape (N, H, W)."""
        import numpy as np

        from dinomask.instances import draw

        detect = self._config.detect
        shape = tiles.shape[2:]
        return np.stack([draw(self.predictor.detect(tile, detect), shape) for tile in tiles])

    def tokens(self, tiles: Array) -> Array | None:
        """Return the deepest features of every place, shape (N, D); None if it has none to see."""
        import numpy as np

        try:
            found = [self.predictor.tokens(tile[None])[0] for tile in tiles]
        except (AttributeError, NotImplementedError):
            return None
        return np.concatenate([f.reshape(len(f), -1).T for f in found])

    def attack(self, tiles: Array, labels: Array, step: float) -> Array | None:
        """Move every pixel against the model; None if it has no gradients."""
        from dinomask.compress.bench.attack import fast_gradient_sign

        return fast_gradient_sign(self.predictor, tiles, labels, step)
