"""What can be done in a review, by which key, and what the user reads about it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Act:
    """One tool or command."""

    name: str
    """By which the program knows it."""

    key: str
    """By napari's name."""

    title: str
    """As short as a button needs."""

    hint: str
    """What it does, in a sentence."""

    @property
    def shown_key(self) -> str:
        """The key as the user knows it."""
        words = {"Control": "Ctrl", "Comma": ",", "Period": "."}
        return "+".join(words.get(part, part) for part in self.key.split("-"))


TOOLS = (
    Act(
        "add",
        "A",
        "Add",
        "Click a missed cell: the model draws it. Scroll over it for other sizes. "
        "Drag a box around it for more say. Shift+click deletes a cell.",
    ),
    Act("split", "S", "Split", "Drag a line across a cell. Shift+click deletes a cell."),
    Act("merge", "G", "Merge", "Click two cells that are one. Shift+click deletes a cell."),
    Act(
        "draw",
        "D",
        "Draw",
        "Paint or erase with napari's tools: over a cell it goes on with that cell, elsewhere it "
        "begins a new one. Press A when done.",
    ),
    Act("region", "R", "Region", "Drag a rectangle in which everything is right."),
    Act("lasso", "L", "Lasso", "Drag around a part in which everything is right."),
    Act("look", "H", "Look", "Drag moves the image. In any tool, hold Space for that."),
)
"""One of them is in hand."""

COMMANDS = (
    Act("remove", "X", "Delete", "Delete the cell under the mouse."),
    Act("accept", "C", "Right", "The cell under the mouse is right as it is."),
    Act("larger", "Period", "Next size", "Another size of the cell added last."),
    Act("smaller", "Comma", "Previous size", "The size before."),
    Act("view", "V", "This view is right", "Everything on display is right."),
    Act("undo", "Control-Z", "Undo", "Take back what was done last, also in earlier sessions."),
    Act("redo", "Control-Shift-Z", "Redo", "Do it again."),
)
"""Done at once."""

CLASS_KEYS = tuple("0123456789")
"""Each says that the cell under the mouse is of that class."""


def find(name: str) -> Act:
    """Return a tool or command by its name."""
    return next(act for act in (*TOOLS, *COMMANDS) if act.name == name)
