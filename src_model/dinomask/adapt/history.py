"""What was done to an image's labels, and what of it is in effect."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from dinomask.adapt.events import Correction, Piece, not_an_event
from dinomask.adapt.reviewed import Reviewed

if TYPE_CHECKING:
    from dinomask.adapt.finding import Place

Action = Literal["correct", "review", "withdraw", "undo", "redo"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a journal.

    Attributes
    ----------
    n : its number, from 1
    action : correct or review (new events), withdraw (a reviewed region), undo, redo
    event : what was done, withdrawn, undone or done again
    id : of this action; that of the event for correct and review
    time : when, ISO 8601 in UTC
    undone : for undo and redo, the action they concern
    """

    n: int
    action: Action
    event: Correction | Reviewed
    id: str
    time: str
    undone: Action | None = None


class History:
    """Events in order, of which the last ones may be undone."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._by_id: dict[str, Entry] = {}
        # entries in effect, in the order they were made, and those that can be redone
        self._done: list[Entry] = []
        self._undone: list[Entry] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is something to redo."""
        return bool(self._undone)

    def corrections(self) -> tuple[Correction, ...]:
        """Return the corrections in effect, in order."""
        return tuple(e.event for e in self._done if isinstance(e.event, Correction))

    def reviewed(self) -> tuple[Reviewed, ...]:
        """Return the reviewed regions in effect, in order."""
        gone = {e.event.id for e in self._done if e.action == "withdraw"}
        regions = (e.event for e in self._done if e.action == "review")
        return tuple(r for r in regions if isinstance(r, Reviewed) and r.id not in gone)

    def history(self) -> tuple[Entry, ...]:
        """Return all that was ever done, undone things too."""
        return tuple(self._entries)

    def touched(self, plane: Place | None = None) -> dict[int, Correction]:
        """Return the last correction of every label that has one; removed ones too.

        Parameters
        ----------
        plane : only corrections of this plane; None takes all
        """
        found: dict[int, Correction] = {}
        for correction in self.corrections():
            if plane is None or correction.plane == tuple(plane):
                found |= dict.fromkeys(correction.labels, correction)
        return found

    def objects(self, plane: Place = ()) -> dict[int, Piece | None]:
        """Return every corrected object of a plane as it was left; None for those removed."""
        found: dict[int, Piece | None] = {}
        for correction in self.corrections():
            if correction.plane == tuple(plane):
                found |= dict.fromkeys(correction.labels, None)
                found |= {piece.label: piece for piece in correction.after}
        return found

    def classes(self) -> dict[int, int]:
        """Return the class of every corrected object that is there."""
        found: dict[int, int] = {}
        for correction in self.corrections():
            found |= {piece.label: piece.class_id for piece in correction.after}
        return found

    def effects(self) -> list[Correction]:
        """Return what was done to the labels, one after another: undoing is a correction, too."""
        found = []
        for entry in self._entries:
            if isinstance(entry.event, Correction):
                taken_back = entry.action == "undo"
                found.append(entry.event.inverse() if taken_back else entry.event)
        return found

    def parse(self, body: dict[str, Any]) -> Entry:
        """Understand a line, in the light of those before it.

        Raises
        ------
        JournalError
            If it says nothing that can follow on them.
        """
        try:
            n, action, time = int(body["n"]), body["action"], str(body["time"])
            if n != self._next_n():
                raise not_an_event(expected=f"line {self._next_n()} of the journal", got=f"{n}")
            if action in ("correct", "review"):
                kind = Correction if action == "correct" else Reviewed
                event = kind.from_json(body["event"])
                return Entry(n, action, event, event.id, time)
            if action == "withdraw":
                return Entry(n, action, self._by_id[body["event"]].event, str(body["id"]), time)
            if action in ("undo", "redo"):
                concerned = (self._done if action == "undo" else self._undone)[-1]
                if concerned.id == body["id"]:
                    return Entry(n, action, concerned.event, concerned.id, time, concerned.action)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise not_an_event(expected="a line of a journal", got=repr(error)) from error
        raise not_an_event(expected="a line of a journal", got=f"line {n}, {action}")

    def _next_n(self) -> int:
        return len(self._entries) + 1

    def _take(self, entry: Entry) -> None:
        """Let an entry have its effect on what is done and undone."""
        self._entries.append(entry)
        if entry.action == "undo":
            self._undone.append(self._done.pop())
        elif entry.action == "redo":
            self._done.append(self._undone.pop())
        else:
            self._by_id[entry.id] = entry
            self._done.append(entry)
            self._undone.clear()


def body_of(entry: Entry) -> dict[str, Any]:
    """Return the line of an entry; what it concerns is named, not repeated."""
    body: dict[str, Any] = {"n": entry.n, "action": entry.action, "time": entry.time}
    if entry.action in ("correct", "review"):
        return {**body, "event": entry.event.as_json()}
    if entry.action == "withdraw":
        return {**body, "event": entry.event.id, "id": entry.id}
    return {**body, "id": entry.id}
