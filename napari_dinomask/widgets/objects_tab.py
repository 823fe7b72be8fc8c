"""The tab for cells: a map of those that look alike, linked with the image."""

from __future__ import annotations

import functools
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import DinomaskError
from napari_dinomask.bulk import accept_all, classify_all, remove_all
from napari_dinomask.exploring import Look, classes_by, group, lay_out, probe
from napari_dinomask.layers import CellsOnPlane
from napari_dinomask.objects import ALIKE, CLASS, CLUSTER, Objects
from napari_dinomask.objects_wording import (
    BEGIN,
    CANCELLED,
    NO_LABELS,
    say_mapped,
)
from napari_dinomask.review_wording import say_earlier
from napari_dinomask.widgets.cell_links import CellLinks
from napari_dinomask.widgets.corrector import Corrector
from napari_dinomask.widgets.objects_form import ObjectsForm
from napari_dinomask.widgets.save_picture import OBJECT_FILES, ask_path, write_objects
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_dinomask.corrections import Review
    from napari_dinomask.questions import Done
    from napari_dinomask.review_files import Begin
    from napari_dinomask.selection import Keys
    from napari_dinomask.widgets.explain_target import ExplainTarget


class ObjectsTab(ObjectsForm):
    """Maps the cells of the labels, and does things to those that are chosen on the map."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: Objects | None = None
        self.corrector: Corrector | None = None
        self.links: CellLinks | None = None
        self._is_in_front = False
        self._connect()
        self._show()

    def _connect(self) -> None:
        self.form.wanted.connect(self.map_cells)
        self.errands.failed.connect(self._on_refused)
        self.errands.cancelled.connect(lambda: self.say("info", CANCELLED))
        self.errands.changed.connect(self._show)
        self.selection.listen(self._show)
        self.points.pointed.connect(self._jump_to)
        self.points.coloured.connect(self._show_colours)
        self.ranking.pointed.connect(self._on_listed)
        self.ranking.chose.connect(self.selection.choose)
        self.groups.wanted.connect(self.find_groups)
        self.probe.wanted.connect(self.try_probe)
        self.probe.classify.connect(self._classify_all)
        self.save.clicked.connect(self._save)
        self.go_on.clicked.connect(functools.partial(self._answer, "go on"))
        self.anew.clicked.connect(functools.partial(self._answer, "anew"))
        box = self.chosen
        box.accept.connect(lambda: self._correct(accept_all))
        box.remove.connect(lambda: self._correct(remove_all))
        box.classify.connect(self._on_classify)
        box.jump.connect(self._jump)
        box.alike.connect(self.find_alike)
        box.undo.connect(lambda: self._undo("undo"))
        box.redo.connect(lambda: self._undo("redo"))

    @property
    def is_busy(self) -> bool:
        """Whether something was asked for that is not shown yet."""
        return self.errands.is_busy or (self.corrector is not None and self.corrector.is_busy)

    def show_target(self, target: ExplainTarget | None) -> None:
        """Look at other cells."""
        self._forget()
        super().show_target(target)
        if target is not None and target.labels is not None:
            self.corrector = Corrector(target.viewer, target.image, target.labels)
            self.corrector.told.connect(self.say)
            self.corrector.changed.connect(self._on_corrected)
            self.corrector.asked.connect(self._on_asked)
        self.say("info", BEGIN if self.corrector is not None else NO_LABELS)
        self._show()

    def activate(self) -> None:
        """Listen to clicks on the cells."""
        self._is_in_front = True
        if self.links is not None:
            self.links.activate()
        if self.corrector is not None:
            self.corrector.follow()

    def deactivate(self) -> None:
        """Listen no more."""
        self._is_in_front = False
        if self.links is not None:
            self.links.deactivate()

    def leave(self) -> None:
        """Give up all work, and take the layers away."""
        super().leave()
        self._forget()

    def map_cells(self) -> None:
        """Compute features of all cells, unless they are known, and lay them out."""
        target = self.target
        if target is None or target.labels is None:
            self.say("warning", NO_LABELS)
            return
        try:
            found = CellsOnPlane.of(target.viewer, target.labels, target.labels_displayed)
        except DinomaskError as error:
            self._on_refused(error)
            return
        layer, config = self.form.layer_index, self.form.config
        self.say("info", "")
        objects = self.objects
        if objects is not None and not objects.n_others and objects.layer == layer:
            self.errands.run(functools.partial(lay_out, objects, config), self._on_laid_out)
            return
        look = Look(target.opener(), found.labels_yx, found.table, target.config, layer)
        self.errands.run(look.run, functools.partial(self._on_looked, found))

    def find_groups(self) -> None:
        """Part the cells into groups, and colour by them."""
        if self.objects is not None:
            self.say("info", "")
            config = self.groups.config
            self.errands.run(functools.partial(group, self.objects, config), self._on_groups)

    def try_probe(self) -> None:
        """Find out whether the features tell the user's classes apart."""
        if self.objects is not None:
            self.say("info", "")
            self.probe.show_report(None)
            self.errands.run(functools.partial(probe, self.objects), self.probe.show_report)

    def _classify_all(self) -> None:
        """Give all cells without a class of the user's that of the probe."""
        report, objects = self.probe.report, self.objects
        if report is not None and objects is not None:
            self._correct(classify_all, classes_by(objects, report))
            self.points.show_columns(CLASS)

    def find_alike(self) -> None:
        """Rank all cells by how like the chosen ones they are."""
        if self.objects is None:
            return
        try:
            table = self.objects.rank(self.selection.keys)
        except DinomaskError as error:
            self._on_refused(error)
            return
        self.ranking.show_ranking(table)
        self.points.show_columns(ALIKE)

    def _save(self) -> None:
        objects, target = self.objects, self.target
        if objects is None or target is None:
            return
        path = ask_path(self, "Save the cells", f"{target.image.name}_cells.csv", OBJECT_FILES)
        if path is not None:
            work = functools.partial(write_objects, objects, self.points.column, path)
            self.errands.run(work, lambda path: self.say("result", f"Saved {escape(path.name)}."))

    def _on_looked(self, found: CellsOnPlane, objects: Objects) -> None:
        """Show the first map; the one that was asked for may take longer."""
        self.objects = objects
        target = self.target
        if target is None or target.labels is None:
            return
        if self.links is None:
            self.links = CellLinks(target, target.labels, found.place, self.selection)
            if self._is_in_front:
                self.links.activate()
        self.ranking.clear()
        self._take_note()
        self._on_laid_out(objects)
        config = self.form.config
        if config.method != "pca":
            self.errands.run(functools.partial(lay_out, objects, config), self._on_laid_out)

    def _on_laid_out(self, objects: Objects) -> None:
        self.selection.keep(objects.keys)
        self.points.show_objects(objects)
        notes = () if objects.map is None else objects.map.notes
        self.say("result", say_mapped(len(objects.cloud()), notes, objects.n_others))
        self._show()

    def _on_groups(self, found: tuple[Keys, Any]) -> None:
        if self.objects is None:
            return
        keys, groups = found
        # those outside of all groups have none
        values = np.where(groups < 0, np.nan, groups.astype(np.float64))
        self.objects.set_column(CLUSTER, keys, values)
        self.points.show_columns(CLUSTER)

    def _on_corrected(self) -> None:
        """Follow corrections, wherever they were made."""
        if self.links is not None:
            self.links.refresh()
        if self.objects is not None and self._take_note():
            self.selection.keep(self.objects.keys)
            self.points.show_objects(self.objects)
        self._show()

    def _take_note(self) -> bool:
        review = None if self.corrector is None else self.corrector.review
        if review is None or self.objects is None:
            return False
        self.chosen.show_classes(review.class_names)
        corrected = review.journal.objects(review.plane)
        return self.objects.take_note(corrected, review.given_classes())

    def _correct(self, plan: Callable[[Review, Any], Done], given: Any = None) -> None:
        if self.corrector is not None:
            what = self.selection.keys.tolist() if given is None else given
            self.corrector.act(lambda review: plan(review, what))
            self._show()

    def _on_classify(self, class_id: int) -> None:
        self._correct(classify_all, dict.fromkeys(self.selection.keys.tolist(), class_id))
        self.points.show_columns(CLASS)

    def _undo(self, what: str) -> None:
        if self.corrector is not None:
            getattr(self.corrector, what)()
            self._show()

    def _on_asked(self, n_corrections: int) -> None:
        self.say("warning", say_earlier(n_corrections))
        self.choices.show()

    def _answer(self, how: Begin, _: bool = False) -> None:
        self.choices.hide()
        if self.corrector is not None:
            self.corrector.answer(how)

    def _on_refused(self, error: DinomaskError) -> None:
        self.say("error", say_error(error))

    def _on_listed(self, key: int) -> None:
        self.selection.choose([key])
        self._jump_to(key)

    def _jump_to(self, key: int) -> None:
        self._jump(keys=[key])

    def _jump(self, _: bool = False, keys: list[int] | None = None) -> None:
        objects, links = self.objects, self.links
        if objects is None or links is None:
            return
        wanted = self.selection.keys.tolist() if keys is None else keys
        boxes = [objects.box_of(key) for key in wanted]
        links.jump([box for box in boxes if box is not None])

    def _show_colours(self) -> None:
        if self.links is not None:
            wanted = self.points.in_image.isChecked()
            shown = self.points.colouring if wanted else None
            self.links.show_colours(self.points.plot.cloud.keys, shown)

    def _forget(self) -> None:
        """Take everything away that is known of the cells."""
        self.errands.give_up()
        corrector, self.corrector = self.corrector, None
        if corrector is not None:
            corrector.close()
        links, self.links = self.links, None
        self.objects = None
        self.selection.clear()
        if links is not None:
            links.close()
        self.ranking.clear()
        self.probe.show_report(None)
        self.choices.hide()
        self.points.show_objects(None)

    def _show(self) -> None:
        """Show what can be done now."""
        self.body.setVisible(self.objects is not None)
        self.form.start.setEnabled(self.corrector is not None and not self.errands.is_busy)
        for button in (self.groups.start, self.probe.start, self.save):
            button.setEnabled(not self.errands.is_busy)
        review = None if self.corrector is None else self.corrector.review
        self.chosen.show_state(
            len(self.selection),
            review is not None and review.journal.can_undo,
            review is not None and review.journal.can_redo,
            self.corrector is not None and self.corrector.is_busy,
        )
