"""The journal of an image's corrections: on disk before the labels change, and replayed exactly.

Undo and redo are lines, too, so that nothing is ever taken out of the file and a later session
goes on where the last one stopped.
"""

from __future__ import annotations

import dataclasses
import datetime
import getpass
from typing import TYPE_CHECKING, Literal

from dinomask.adapt import catching_up
from dinomask.adapt.applying import apply, check, inform
from dinomask.adapt.events import Correction, new_id
from dinomask.adapt.geometry import clip_box
from dinomask.adapt.history import Action, Entry, History, body_of
from dinomask.adapt.journal_header import check_header, new_header
from dinomask.adapt.journal_lines import JournalFile
from dinomask.adapt.journal_place import journal_path, pixel_identity
from dinomask.errors import CorrectionError, JournalError, OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.adapt.finding import Place
    from dinomask.adapt.geometry import Box
    from dinomask.adapt.label_store import LabelStore
    from dinomask.adapt.reviewed import Reviewed

__all__ = ["Entry", "Journal", "Step", "journal_path", "pixel_identity"]


@dataclasses.dataclass(frozen=True)
class Step:
    """What an undo or redo did.

    Attributes
    ----------
    event : the correction or reviewed region that was undone or done again
    window_yxyx_px : where labels may show something else now; None if none do
    plane : index on the axes before y and x
    """

    event: Correction | Reviewed
    window_yxyx_px: Box | None
    plane: Place


class Journal(History):
    """The corrections and reviewed regions of one image, on disk; see `open`.

    Attributes
    ----------
    path : of the file; it is made with the first event
    image : identity of the image
    shape_yx : of the image
    author, model : noted with every new event that has none
    torn : a sentence about what a crash took of the last line; None if all is there
    """

    def __init__(
        self, file: JournalFile, image: str, shape_yx: tuple[int, int], author: str, model: str
    ) -> None:
        super().__init__()
        self.path = file.path
        self.image = image
        self.shape_yx = shape_yx
        self.author = author
        self.model = model
        self._file = file
        self._is_new = not file.bodies
        self._is_behind = False
        self.torn: str | None = None
        if file.torn:
            self.torn = (
                f"The last line of {file.path} was cut short by a crash and is left out "
                f"({len(file.torn)} bytes); what came before is all there."
            )

    @staticmethod
    def open(
        path: Path,
        image: str,
        shape_yx: tuple[int, int],
        *,
        author: str | None = None,
        model: str = "",
    ) -> Journal:
        """Open the journal of an image, or begin one; nothing is written yet.

        Call `catch_up` with the labels next.

        Parameters
        ----------
        path : as `journal_path` gives it
        image : identity of the image, as `pixel_identity` gives it
        shape_yx : of the image, in pixels
        author : of new events; None takes the login
        model : whose labels are corrected

        Raises
        ------
        WrongImageError
            If it was kept for another image, or this one has other pixels since.
        JournalError
            If a line other than the last is damaged.
        InputError
            If it can't be read.
        """
        file = JournalFile.read(path)
        name = _login() if author is None else author
        height, width = (int(n) for n in shape_yx)
        journal = Journal(file, image, (height, width), name, model)
        if file.bodies:
            check_header(path, file.bodies[0], image, journal.shape_yx)
        for body in file.bodies[1:]:
            journal._take(journal.parse(body))
        # understood, and needed no more
        file.bodies.clear()
        # the crash may have come between the line and the labels
        journal._is_behind = bool(journal._entries)
        return journal

    def record(
        self, event: Correction | Reviewed, store: LabelStore | None = None
    ) -> Correction | Reviewed:
        """Add an event that the labels show already, or a reviewed region.

        Parameters
        ----------
        event : what was done
        store : the labels, which were painted in place; they are told of the classes and
            whereabouts of the objects

        Returns
        -------
        It, with author, time and model filled in.

        Raises
        ------
        OutputError
            If it can't be written; then it is not recorded.
        JournalError
            If it is recorded already, or the file was changed by another program.
        CorrectionError
            If it lies beyond the image.
        """
        self._require_within(event)
        if event.id in self._by_id:
            raise JournalError(
                expected="a new event",
                got=f"the event {event.id}, which is recorded already",
                remedy="Record each correction once.",
            )
        signed = self._signed(event)
        action: Action = "correct" if isinstance(signed, Correction) else "review"
        self._append(Entry(self._next_n(), action, signed, signed.id, signed.time))
        if store is not None and isinstance(signed, Correction):
            inform(store, signed)
        return signed

    def carry_out(self, correction: Correction, store: LabelStore) -> Box | None:
        """Check a correction, record it, and write it to the labels, in this order.

        Returns
        -------
        The window in which labels may show something else; None if none do.

        Raises
        ------
        ConflictError
            If the labels don't show what it begins with; nothing is changed.
        OutputError
            If the journal can't be written: nothing is changed. If the labels can't be: it
            is recorded, and written with the next correction or by `catch_up`.
        """
        self._settle(store)
        check(correction, store)
        self.record(correction)
        return self._write(correction, store)

    def withdraw(self, reviewed_id: str) -> Reviewed:
        """Take back a reviewed region, however long ago it was made.

        Raises
        ------
        JournalError
            If it is none that is in effect.
        OutputError
            If it can't be written.
        """
        found = {region.id: region for region in self.reviewed()}.get(reviewed_id)
        if found is None:
            raise JournalError(
                expected="a reviewed region that is in effect",
                got=repr(reviewed_id),
                remedy="Choose one that is shown.",
            )
        self._append(Entry(self._next_n(), "withdraw", found, new_id(), _now()))
        return found

    def undo(self, store: LabelStore) -> Step | None:
        """Take back the last thing done, in whatever plane and session; None if there is none.

        Raises
        ------
        ConflictError
            If the labels were changed elsewhere since; nothing is changed.
        OutputError
            As for `carry_out`.
        """
        return self._step(store, "undo", self._done[-1]) if self._done else None

    def redo(self, store: LabelStore) -> Step | None:
        """Do again what was undone last; None if there is nothing, or something new was done.

        Raises as `undo`.
        """
        return self._step(store, "redo", self._undone[-1]) if self._undone else None

    def catch_up(self, store: LabelStore, last: int | None = 1) -> int:
        """Write again what a crash kept from the labels; call it after opening.

        Also tells the labels of the classes and whereabouts of corrected objects.

        Parameters
        ----------
        store : the labels
        last : how many of the last events may be missing there; None for labels that were
            saved at any time since the journal began

        Returns
        -------
        Number of pixels written.

        Raises
        ------
        ConflictError
            If the labels show neither what was before these events nor what came of them.
        OutputError
            If they can't be written.
        """
        effects = self.effects()
        n = catching_up.catch_up(effects if last is None else effects[-last:], store)
        for correction in self.corrections():
            for piece in correction.after:
                store.remember(piece, correction.plane)
        for label, class_id in self.classes().items():
            store.set_class(label, class_id)
        self._is_behind = False
        return n

    def _settle(self, store: LabelStore) -> None:
        if self._is_behind:
            self.catch_up(store)

    def _write(self, correction: Correction, store: LabelStore) -> Box | None:
        try:
            return apply(correction, store)
        except OutputError:
            self._is_behind = True
            raise

    def _step(self, store: LabelStore, action: Literal["undo", "redo"], entry: Entry) -> Step:
        self._settle(store)
        event = entry.event
        change: Correction | None = None
        if isinstance(event, Correction):
            change = event.inverse() if action == "undo" else event
            check(change, store)
        line = Entry(self._next_n(), action, event, entry.id, _now(), entry.action)
        self._append(line)
        window = None if change is None else self._write(change, store)
        return Step(event, window, event.plane)

    def _signed(self, event: Correction | Reviewed) -> Correction | Reviewed:
        author, time = event.author or self.author, event.time or _now()
        if isinstance(event, Correction):
            model = event.model or self.model
            return dataclasses.replace(event, author=author, time=time, model=model)
        return dataclasses.replace(event, author=author, time=time)

    def _append(self, entry: Entry) -> None:
        bodies = [body_of(entry)]
        if self._is_new:
            bodies.insert(0, new_header(self.image, self.shape_yx, _now()))
        self._file.append(bodies)
        self._is_new = False
        self._take(entry)
        self.torn = None

    def _require_within(self, event: Correction | Reviewed) -> None:
        if not isinstance(event, Correction):
            return
        window = event.window_yxyx_px
        if clip_box(window, self.shape_yx) != window:
            raise CorrectionError(
                expected=f"a correction within the image of {self.shape_yx} pixels",
                got=f"one that reaches over {window}",
                remedy="Record it in the journal of its own image.",
            )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # a container without users, or Windows without its variables
        return ""
