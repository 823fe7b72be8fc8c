"""Stitch, number, link and draw the planes of a stack, with two of them at hand at most."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from dinomask.run.progress import Progress
from dinomask.run.stack_work import by_plane
from dinomask.tiles.link import PlaneLinker
from dinomask.tiles.planes import draw_plane, draw_stack
from dinomask.tiles.render import id_dtype
from dinomask.tiles.stitch import stitch
from dinomask.tiles.write import write_stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from dinomask.config import PlanesConfig
    from dinomask.image.stack import Stack
    from dinomask.instances import Array
    from dinomask.run.progress import OnProgress
    from dinomask.tiles.ledger import Ledger
    from dinomask.tiles.plan import TilePlan
    from dinomask.tiles.stitch import Stitched


class PlaneJoiner:
    """From the ledger's records to labels and table, one plane after another.

    Parameters
    ----------
    stack, plan : the planes and the tiles of one
    ledger : records of all planes
    planes : whether and how to link
    on_progress : told after each piece of the output; may raise to stop
    """

    def __init__(
        self,
        stack: Stack,
        plan: TilePlan,
        ledger: Ledger,
        planes: PlanesConfig,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._stack, self._plan, self._ledger = stack, plan, ledger
        self._on_progress = on_progress
        self._n_instances = 0
        iou = planes.stitch_z
        self._linker = PlaneLinker(iou, planes.bridge) if iou is not None else None

    @property
    def n_objects(self) -> int | None:
        """Linked objects so far; None if planes are not linked."""
        return None if self._linker is None else self._linker.n_objects

    def render(
        self, out: Path | None, overwrite: bool = False
    ) -> tuple[pd.DataFrame, Array | None]:
        """Write the label image and the table, or without a file return them.

        Returns
        -------
        table : as `write_stack`, with a column object_id where planes are linked
        labels : shape planes + (Y, X); None if they were written
        """
        base = self._stack.base
        shape, axes = (*self._stack.shape, *base.shape_yx), self._stack.axes + "yx"
        started = time.monotonic()

        def tell(done: int, total: int) -> None:
            if self._on_progress:
                self._on_progress(Progress("render", done, total, time.monotonic() - started))

        # an upper bound: doubles at seams are not yet dropped
        max_id = sum(len(found) for _, found in self._ledger.records())
        if out is None:
            table, labels = draw_stack(self._planes(), shape, axes, id_dtype(max_id), tell)
            return self._amend(table), labels
        spacing = dict(zip("yx", base.pixel_size_um or (), strict=False))
        if base.depth_um is not None and "z" in axes:
            spacing["z"] = base.depth_um
        table = write_stack(
            self._planes(),
            shape,
            axes,
            out,
            spacing=spacing,
            max_id=max_id,
            overwrite=overwrite,
            amend=self._amend,
            progress=tell,
        )
        return table, None

    def _planes(self) -> Iterator[Stitched]:
        """Yield the instances of every plane, under the numbers that they have in the stack."""
        records = by_plane(self._ledger, len(self._plan))
        number, found = next(records, (-1, []))
        for i in range(len(self._stack)):
            stitched = stitch(self._plan, found if i == number else [], self._ledger.path)
            if i == number:
                number, found = next(records, (-1, []))
            yield self._numbered(i, stitched)

    def _numbered(self, i: int, stitched: Stitched) -> Stitched:
        if self._linker is None:
            before = self._n_instances
            self._n_instances += len(stitched)
            return stitched.with_ids(stitched.ids + np.uint32(before))
        if self._stack.position(i)[-1:] == (0,):
            # the next volume of a movie
            self._linker.restart()
        objects = self._linker.add(draw_plane(stitched, self._stack.base.shape_yx))[stitched.ids]
        # those that own no pixel are part of nothing
        shown = objects > 0
        return stitched.take(shown).with_ids(objects[shown])

    def _amend(self, table: pd.DataFrame) -> pd.DataFrame:
        if self._linker is not None:
            table.insert(1, "object_id", table["id"])
        return table
