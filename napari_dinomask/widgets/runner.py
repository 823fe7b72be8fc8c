"""One run of a panel from the click to the layer: started, followed, ended, explained."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from dinomask.errors import DinomaskError, OutputError
from dinomask.tiles.outputs import ledger_path
from napari_dinomask.jobs import SegmentJob
from napari_dinomask.layers import (
    add_result,
    add_saved,
    look_at,
    open_layer,
    open_planes,
    visible_window,
)
from napari_dinomask.widgets.live_preview import LivePreview
from napari_dinomask.wording import (
    say_cancelled,
    say_crash,
    say_error,
    say_exists,
    say_failed_tiles,
    say_finding,
    say_result,
    say_resumed,
    say_tile,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.components import ViewerModel
    from napari.layers import Image

    from dinomask.image.source import Image as Source
    from dinomask.image.stack import Stack
    from dinomask.run.detect import FailedTile
    from dinomask.run.planes import StackSegmentation
    from dinomask.run.progress import Progress
    from dinomask.run.segment import Segmentation
    from dinomask.tiles.preview import Preview
    from napari_dinomask.jobs import Outcome
    from napari_dinomask.layers import PlaneView
    from napari_dinomask.session import LayerFacts, RunRequest
    from napari_dinomask.widgets.run_box import RunBox

_LISTED = 9
"""Failed tiles that get a button."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What a run works on.

    Attributes
    ----------
    layer, view : the plane of a layer that was on display, or all its planes
    facts : about it
    """

    layer: Image
    view: PlaneView
    facts: LayerFacts

    def opener(self, channels: tuple[int, ...]) -> Callable[[], Source | Stack]:
        """Return what opens the plane, or all of them, in a thread."""
        if self.view.stacked:
            return functools.partial(open_planes, self.layer, self.view, channels)
        return functools.partial(open_layer, self.layer, self.view, channels)


class Runner(QObject):
    """Runs one segmentation at a time.

    Parameters
    ----------
    viewer : where layers come from and go to
    run_box : where the user follows the run
    """

    ended = Signal()
    """A run is over, however it went."""

    size_estimated = Signal(float)
    """The objects' diameter in pixels, as the run used it."""

    def __init__(self, viewer: ViewerModel, run_box: RunBox) -> None:
        super().__init__()
        self._viewer = viewer
        self._box = run_box
        self.job: SegmentJob | None = None
        self.live: LivePreview | None = None
        self._drawn: Preview | None = None
        self._was_resumed = False
        run_box.pause_toggled.connect(self._on_pause)
        # a window that closes deletes its panels without telling them
        run_box.destroyed.connect(self._abandon)

    def ask(self, target: Target, request: RunRequest) -> None:
        """Start a run, unless its output is there already: then ask what to do with it."""
        out = request.out
        if out is None or request.overwrite or not out.exists():
            self.start(target, request)
            return
        again = dataclasses.replace(request, overwrite=True)
        self._box.clear_messages()
        actions = [
            ("Show it", functools.partial(self._show_saved, target, request)),
            ("Replace it", functools.partial(self.start, target, again)),
        ]
        self._box.add_message("info", say_exists(out), actions)

    def start(self, target: Target, request: RunRequest) -> None:
        """Start a run in a thread."""
        if self.job is not None:
            return
        self._box.show_running(target.facts.n_px)
        self._drawn, self._was_resumed = None, False
        window = visible_window(self._viewer, target.layer, target.view.displayed)
        place = target.view.place
        request = dataclasses.replace(request, first_yxyx_px=window, first_place=place)
        job = self.job = SegmentJob(
            target.opener(request.config.channels), request, f"segmentation of {target.layer.name}"
        )
        self.live = LivePreview(self._viewer, target.layer, target.view)
        job.progressed.connect(self._on_progress)
        job.tiles_drawn.connect(self._on_drawn)
        job.succeeded.connect(functools.partial(self._on_succeeded, target))
        job.failed.connect(functools.partial(self._on_failed, target))
        job.crashed.connect(self._on_crashed)
        job.start()

    def cancel(self) -> None:
        """Give up the run; another can be started at once."""
        if self.job is not None:
            text = say_cancelled(self.job.progress, self.job.request.out)
            self.end()
            self._box.add_message("info", text)

    def end(self) -> None:
        """Forget the run, stopped if it still goes on."""
        self._abandon()
        self.ended.emit()

    def _abandon(self) -> None:
        job, self.job = self.job, None
        live, self.live = self.live, None
        if live is not None:
            live.leave()
        if job is not None:
            job.cancel()

    def explain(self, error: DinomaskError) -> None:
        """Say why there is no run."""
        self._box.clear_messages()
        self._box.add_message("error", say_error(error))

    def _on_pause(self, wanted: bool) -> None:
        if self.job is not None:
            (self.job.pause if wanted else self.job.resume)()

    def _on_progress(self, progress: Progress) -> None:
        if self.job is None:
            return
        self._box.show_progress(progress)
        if self._drawn is not None and self.live is not None and self.live.shown is None:
            # how long it takes is known only now
            self.live.show(self._drawn, progress.eta_s)
        if progress.resumed and not self._was_resumed:
            self._was_resumed = True
            self._box.add_message("info", say_resumed(progress))

    def _on_drawn(self, preview: Preview) -> None:
        self._drawn = preview
        if self.live is not None and self.job is not None and self.job.progress is not None:
            self.live.show(preview, self.job.progress.eta_s)

    def _on_succeeded(self, target: Target, outcome: Outcome) -> None:
        segmentation = outcome.segmentation
        if segmentation is None or self.job is None:
            return
        out = self.job.request.out
        self.end()
        self._box.clear_messages()
        if out is None:
            add_result(self._viewer, target.layer, target.view, segmentation)
        else:
            add_saved(self._viewer, target.layer, target.view, out, segmentation)
        severity = "result" if len(segmentation.table) else "warning"
        n_objects = segmentation.report.get("n_objects")
        text = say_result(segmentation.table, target.facts, outcome.elapsed_s, n_objects)
        self._box.add_message(severity, f"<b>{text}</b>")
        if segmentation.diameter_px is not None:
            self.size_estimated.emit(segmentation.diameter_px)
        self._explain_findings(target, segmentation)

    def _explain_findings(
        self, target: Target, segmentation: Segmentation | StackSegmentation
    ) -> None:
        failed = segmentation.failed_tiles
        if failed:
            self._box.add_message("warning", say_failed_tiles(failed), self._jumps(target, failed))
        for finding in segmentation.findings:
            if not (failed and "tiles failed" in finding.what):
                self._box.add_message(finding.severity, say_finding(finding))

    def _jumps(
        self, target: Target, failed: Sequence[FailedTile]
    ) -> list[tuple[str, functools.partial[None]]]:
        """Return a button for each failed tile that moves the camera there."""
        jumps = []
        for tile in failed[:_LISTED]:
            # that of a single plane has none
            plane = getattr(tile, "plane", {})
            shown = {axis: plane[axis] for axis in target.view.stacked}
            jump = functools.partial(self._jump, target, target.view.at(shown), tile)
            jumps.append((say_tile(tile, shown), jump))
        return jumps

    def _jump(self, target: Target, view: PlaneView, tile: FailedTile) -> None:
        if target.layer in self._viewer.layers:
            look_at(self._viewer, target.layer, view, tile.core_yxyx_px)

    def _show_saved(self, target: Target, request: RunRequest) -> None:
        self._box.clear_messages()
        try:
            if request.out is not None:
                add_saved(self._viewer, target.layer, target.view, request.out)
        except DinomaskError as error:
            self.explain(error)

    def _on_failed(self, target: Target, error: DinomaskError) -> None:
        job = self.job
        self.end()
        actions = []
        if job is not None and _can_restart(job, error):
            again = dataclasses.replace(job.request, restart=True)
            actions = [("Start over", functools.partial(self.start, target, again))]
        self._box.add_message("error", say_error(error), actions)

    def _on_crashed(self, error: BaseException) -> None:
        self.end()
        self._box.add_message("error", say_crash(error))


def _can_restart(job: SegmentJob, error: DinomaskError) -> bool:
    """Tell whether an unfinished run with other settings is in the way."""
    out, progress = job.request.out, job.progress
    has_begun = progress is not None and progress.stage in ("detect", "stitch", "render")
    return (
        isinstance(error, OutputError)
        and out is not None
        and ledger_path(out).is_dir()
        and not has_begun
    )
