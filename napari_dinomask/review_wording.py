"""What the Review panel says."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from napari_dinomask.review_actions import CLASS_KEYS, COMMANDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_IMAGE = "Open an image and segment it first, or begin with empty labels."
ON_DISK = (
    "Labels on disk can't be corrected here. Segment the image, or a part of it, without "
    "“Save to”, or paint on them with “Edit this view” in the Segment panel."
)
OPENING = "Opening the review…"
BUSY = "Many cells are being corrected; one moment."
LOADING = "Loading the model; clicks on missed cells are answered once it is there…"
THINKING = "The model is looking…"

_WORDS = {
    "add": ("added", "added"),
    "remove": ("deleted", "deleted"),
    "redraw": ("redrawn", "redrawn"),
    "merge": ("merged", "merged"),
    "split": ("split", "split"),
    "classify": ("classified", "classified"),
    "accept": ("found right", "found right"),
    "region": ("reviewed region", "reviewed regions"),
}


def say_counts(counts: Mapping[str, int]) -> str:
    """Sum up a review, e.g. ``3 added · 1 split · 2 reviewed regions``."""
    parts = [f"{n:,}\u00a0{_WORDS[kind][n != 1]}" for kind, n in counts.items() if n]
    return " · ".join(parts) or "Nothing corrected so far."


def say_keys(class_names: Sequence[str]) -> str:
    """List the commands and their keys, as rich text."""
    rows = [(act.shown_key, act.title) for act in COMMANDS]
    rows += [
        (key, f"It is of class {escape(name)}")
        for key, name in zip(CLASS_KEYS, class_names, strict=False)
    ]
    if len(class_names) < 2:
        rows.append((f"{CLASS_KEYS[0]} … {CLASS_KEYS[-1]}", "It is of that class"))
    lines = [f"<tr><td><b>{key}</b>&nbsp;&nbsp;</td><td>{title}</td></tr>" for key, title in rows]
    return f"<table>{''.join(lines)}</table>"


def say_taken(label: int) -> str:
    """Tell a user who clicks on a cell with the tool for missed ones."""
    return (
        f"There is a cell here already ({label}). Shift+click deletes it, C says that it is "
        "right, S splits it."
    )


def say_earlier(n_corrections: int) -> str:
    """Ask what to do about an earlier review."""
    many = "correction" if n_corrections == 1 else "corrections"
    return (
        f"This image has an earlier review with {n_corrections:,} {many}, made on other labels. "
        "Go on with those labels, or begin anew with the ones on display? The earlier review is "
        "put aside then, not deleted."
    )


def parse_names(text: str) -> tuple[str, ...]:
    """Return the class names of a comma-separated list."""
    return tuple(name for part in text.split(",") if (name := part.strip()))
