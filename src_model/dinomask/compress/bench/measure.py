"""Run the measurements, in turns, and keep each on disk."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import dinomask
from dinomask.compress.bench.process import VariantProcess
from dinomask.compress.bench.shake import FGSM_STEP, SHAKES, shake
from dinomask.compress.bench.units import Units
from dinomask.config import as_dict
from dinomask.errors import CancelledError, DinomaskError
from dinomask.instances import UNSUPERVISED
from dinomask.measure.matching import TAUS, match
from dinomask.measure.similarity import similarity
from dinomask.run.progress import Progress
from dinomask.train.evaluate import leave_out_unsupervised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from dinomask.compress.bench.variant import Variant
    from dinomask.compress.material import Source
    from dinomask.config import BenchConfig, SegmentConfig
    from dinomask.instances import Array
    from dinomask.run.progress import OnProgress

    Start = Callable[[str, SegmentConfig, Callable[[], None]], VariantProcess]

STAGES = ("load variants", "segment with all", "time in turns", "compare features", "shake")
"""In their order, as `Progress.stage`."""


class Bench:
    """The measurements of several variants.

    Parameters
    ----------
    variants : the uncompressed model first
    sources : images, with or without labels
    config : what to measure
    segment : how every variant segments; model, adapter and precision are its own
    folder : of what is kept
    on_progress : called after each step, and again and again while waiting; may raise to stop
    start : loads a variant and answers for it, by default from a process of its own

    Attributes
    ----------
    failed : variants that could not be measured, and why
    units : what was measured
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        sources: Sequence[Source],
        config: BenchConfig,
        segment: SegmentConfig,
        folder: Path,
        on_progress: OnProgress | None = None,
        start: Start = VariantProcess,
    ) -> None:
        self.variants = list(variants)
        self.sources = list(sources)
        self.config = config
        self.segment = segment
        self.failed: dict[str, str] = {}
        self.units = Units(folder, self._key())
        self._on_progress = on_progress
        self._start = start
        self._progress = Progress(STAGES[0], 0, 1, 0.0)
        self._started = time.monotonic()
        self._processes: dict[int, VariantProcess] = {}
        self._warm: set[int] = set()

    def _key(self) -> dict[str, Any]:
        return {
            "dinomask_version": dinomask.__version__,
            "variants": [variant.identity() for variant in self.variants],
            "images": [str(source.image) for source in self.sources],
            "settings": as_dict(self.config),
            "segment": as_dict(self.segment),
        }

    def run(self, stack: ExitStack) -> None:
        """Measure what is missing.

        Parameters
        ----------
        stack : ends the variants' processes
        """
        finished = self.units.get("finished")
        if finished is not None:
            self.failed = finished["failed"]
            return
        self._load(stack)
        self._segment()
        self._time()
        if self.config.feature_tiles or self.config.shaken_tiles:
            self._draw_tiles()
        self._compare_features()
        self._shake()
        self.units.put("finished", {"failed": self.failed})

    def _load(self, stack: ExitStack) -> None:
        """Start a process for each variant; they load one after another, to be timed."""
        tile = self._first_tile()
        for v in self._steps("load variants", range(len(self.variants))):
            variant = self.variants[v]
            process = self._start(variant.name, variant.config(self.segment), self._tick)
            stack.enter_context(process)
            try:
                about = process.ask("describe", tile=tile)
            except CancelledError:
                raise
            except DinomaskError as error:
                if v == 0:
                    raise
                self.failed[variant.name] = str(error)
                process.close()
                continue
            self._processes[v] = process
            if self.units.get(f"about-{v}") is None:
                about["size_bytes"] = variant.size_bytes
                self.units.put(f"about-{v}", about)

    def _first_tile(self) -> Array:
        """Return a tile of noise: what a network takes doesn't depend on what it shows."""
        side = self.segment.tiles.tile_px
        rng = np.random.default_rng(0)
        tile: Array = rng.normal(0.3, 0.2, (3, side, side)).astype(np.float32)
        return tile

    def _turns(self, turn: int) -> list[int]:
        """Return the variants in another order each turn, so that none always comes first."""
        alive = list(self._processes)
        first = turn % len(alive)
        return alive[first:] + alive[:first]

    def _segment(self) -> None:
        for i in self._steps("segment with all", range(len(self.sources)), "image"):
            source = self.sources[i]
            measured: dict[str, Any] = {}
            for v in self._turns(i):
                out = self.units.labels_path(v, i)
                if v not in self._warm:
                    # what is compiled for its first image is no part of the time of each
                    self._ask(v, "segment", image=source.image, out=out)
                    self._warm.add(v)
                found = self._ask(v, "segment", image=source.image, out=out)
                if found is not None:
                    measured[str(v)] = found
            self.units.put(f"image-{i}", measured)

    def _time(self) -> None:
        tile = self._busiest_tile()
        for r in self._steps("time in turns", range(self.config.rounds), "round"):
            found = {str(v): self._ask(v, "time_tile", tile=tile) for v in self._turns(r)}
            self.units.put(f"round-{r}", found)

    def _busiest_tile(self) -> Array:
        """Return a tile of the images: what comes after the network depends on its objects."""
        side = self.segment.tiles.tile_px
        drawn = self._ask(0, "draw_tiles", sources=self.sources[:4], n=4, tile_px=side, seed=1)
        counts = [len(np.unique(labels)) for labels in drawn["labels"]]
        tile: Array = drawn["tiles"][int(np.argmax(counts))]
        return tile

    def _draw_tiles(self) -> None:
        """Draw the tiles of the further measurements, once for all variants."""
        path = self.units.folder / "tiles.npz"
        if self.units.get("tiles") is not None:
            return
        config = self.config
        drawn = self._ask(
            0,
            "draw_tiles",
            sources=self.sources,
            n=max(config.feature_tiles, config.shaken_tiles),
            tile_px=config.shaken_px,
            seed=0,
        )
        np.savez(path, **drawn)
        self.units.put("tiles", {"n": len(drawn["tiles"])})

    def _tiles(self, n: int) -> tuple[Array, Array]:
        with np.load(self.units.folder / "tiles.npz") as file:
            return file["tiles"][:n], file["labels"][:n]

    def _compare_features(self) -> None:
        if not self.config.feature_tiles:
            return
        tiles, _ = self._tiles(self.config.feature_tiles)
        reference: Array | None = None
        for v in self._steps("compare features", list(self._processes), "features"):
            if reference is None:
                reference = self._ask(0, "tokens", tiles=tiles)
            own = self._ask(v, "tokens", tiles=tiles)
            alike = None
            if own is not None and reference is not None and len(own) == len(reference):
                alike = dataclasses.asdict(similarity(reference, own))
            self.units.put(f"features-{v}", {"similarity": alike})

    def _shake(self) -> None:
        """Segment changed tiles; where nothing is labelled, what the original finds is true."""
        if not self.config.shaken_tiles:
            return
        tiles, labels = self._tiles(self.config.shaken_tiles)
        truth: Array | None = None
        for v in self._steps("shake", list(self._processes), "shaken"):
            if truth is None:
                found = self._ask(0, "detect", tiles=tiles)
                unknown = (labels == UNSUPERVISED).all(axis=(1, 2))
                truth = np.where(unknown[:, None, None], found, labels)
            scores = {
                kind: self._score(v, *shake(kind, tiles, truth)) for kind in ("clean", *SHAKES)
            }
            attacked = self._ask(v, "attack", tiles=tiles, labels=truth, step=FGSM_STEP)
            scores["fgsm"] = None if attacked is None else self._score(v, attacked, truth)
            self.units.put(f"shaken-{v}", {"ap50": scores})

    def _score(self, variant: int, tiles: Array, truth: Array) -> float | None:
        """Return TP / (TP + FP + FN) over all tiles at IoU 0.5."""
        found = self._ask(variant, "detect", tiles=tiles)
        if found is None:
            return None
        hits = total = 0
        for labels, drawn in zip(truth, found, strict=True):
            counts = match(*leave_out_unsupervised(labels, drawn)).counts(TAUS[0])
            hits += counts.tp
            total += counts.tp + counts.fp + counts.fn
        return hits / total if total else 1.0

    def _ask(self, variant: int, what: str, **arguments: Any) -> Any:
        """Let a variant do something; one that fails takes no part any more."""
        process = self._processes.get(variant)
        if process is None:
            return None
        try:
            return process.ask(what, **arguments)
        except CancelledError:
            raise
        except DinomaskError as error:
            if variant == 0:
                raise
            self.failed[self.variants[variant].name] = str(error)
            self._processes.pop(variant).close()
            return None

    def _steps(self, stage: str, items: Sequence[int], unit: str = "") -> Iterator[int]:
        """Yield what isn't measured yet, and tell how far it is."""
        self._started = time.monotonic()
        done = {item for item in items if unit and self.units.get(f"{unit}-{item}") is not None}
        self._progress = Progress(stage, len(done), len(items), 0.0, len(done))
        self._tick()
        for item in items:
            if item in done:
                continue
            yield item
            self._progress = dataclasses.replace(self._progress, done=self._progress.done + 1)
            self._tick()

    def _tick(self) -> None:
        if self._on_progress is not None:
            elapsed_s = time.monotonic() - self._started
            self._on_progress(dataclasses.replace(self._progress, elapsed_s=elapsed_s))
