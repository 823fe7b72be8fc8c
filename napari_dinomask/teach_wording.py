"""What the Teach panel says: lessons, plans, progress, verdicts and changes in words."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from dinomask.nets.adapter_manifest import AdapterManifest
from napari_dinomask.wording import say_duration

if TYPE_CHECKING:
    from dinomask.adapt.job import JobReport
    from dinomask.adapt.progress import Preflight, TeachProgress, TeachResult
    from dinomask.adapt.shelf import Entry
    from napari_dinomask.teaching import Lesson

NO_LESSON = "Correct some cells in the Review panel first; they are what is learned from."

NO_ADAPTERS = "Nothing was taught yet."

_KINDS = {
    "add": "added",
    "redraw": "redrawn",
    "merge": "merged",
    "split": "split",
    "classify": "classified",
    "accept": "found right",
    "remove": "removed",
}

MODES = {
    "auto": "as the corrections allow",
    "heads": "the heads only",
    "late": "heads, last blocks",
    "lora": "heads, LoRA in late blocks",
    "hybrid": "heads, last blocks, LoRA",
    "full": "everything",
}
"""What learns, by mode."""

_PHASES = {"prepare": "Getting ready", "train": "Learning", "gate": "Comparing with the base"}
_STATES = {
    "starting": "Starting (slow only the first time)",
    "paused": "Paused",
    "stopping": "Stopping; what was learned is saved",
}
_SILENT_S = 60.0


def say_lesson(lesson: Lesson) -> str:
    """Say what was corrected, e.g. ``12 objects (8 added, 4 split), 3 removed, 1 region``."""
    if lesson.is_empty:
        return NO_LESSON
    kinds = [
        f"{n:,} {_KINDS.get(kind, kind)}"
        for kind, n in lesson.by_kind.items()
        if n and kind != "remove"
    ]
    parts = [_count(lesson.n_objects, "object") + (f" ({', '.join(kinds)})" if kinds else "")]
    if lesson.n_removed:
        parts.append(f"{lesson.n_removed:,} removed")
    if lesson.n_reviewed:
        parts.append(_count(lesson.n_reviewed, "reviewed region"))
    return ", ".join(parts)


def say_plan(plan: Preflight) -> tuple[str, str]:
    """Return the severity of a plan, and the plan in words."""
    what = (
        f"Learns from {_count(plan.n_objects, 'object')}, judged by {plan.n_held_out:,} more that "
        f"are kept aside. Takes {say_duration(plan.seconds)} and {say_mb(plan.memory_mb)} of "
        f"memory ({escape(plan.mode)})."
    )
    if plan.problems:
        return "error", _listed("Not yet:", plan.problems)
    if plan.warnings:
        return "warning", what + "<br>" + _listed("It would be better with more:", plan.warnings)
    return "info", what


def _listed(title: str, texts: tuple[str, ...]) -> str:
    return f"<b>{title}</b>" + "".join(f"<br>• {escape(text)}" for text in texts)


def say_teaching(report: JobReport, last: TeachProgress | None) -> str:
    """Say where a teaching stands, e.g. ``Learning · step 120 · loss 0.61 · 2 min left``."""
    if report.state in _STATES:
        parts = [_STATES[report.state]]
        if report.state == "paused" and last is not None:
            parts.append(f"step {last.step:,}")
        return " · ".join(parts) + ("" if report.state == "paused" else "…")
    if last is None:
        return "Getting ready…"
    parts = [_PHASES[last.phase]]
    if last.phase == "train":
        parts.append(f"step {last.step:,}")
        if last.loss is not None:
            parts.append(f"loss {last.loss:.3g}")
    if last.eta_s >= 0.5:
        parts.append(f"{say_duration(last.eta_s)} left")
    if report.memory_mb:
        parts.append(say_mb(report.memory_mb))
    if report.silent_s > _SILENT_S:
        parts.append(f"no sign of life for {say_duration(report.silent_s)}")
    return " · ".join(parts) + ("…" if len(parts) == 1 else "")


def say_verdict(name: str, result: TeachResult) -> str:
    """Say what the gate decided, and why."""
    title = (
        f"“{escape(name)}” is better: it is in use now."
        if result.promoted
        else f"“{escape(name)}” is kept aside, the model stays as it was."
    )
    return f"<b>{title}</b><br>{escape(result.reason)}"


def say_stopped(name: str, report: JobReport, last: TeachProgress | None) -> str:
    """Say that a teaching was cancelled, and what is left of it."""
    where = f" at step {last.step:,}" if last is not None and last.phase == "train" else ""
    best = "" if report.result is None else f"<br>{escape(report.result.reason)}"
    return (
        f"<b>Stopped{where}.</b> “{escape(name)}” can go on from there; the model is unchanged."
        f"{best}"
    )


def say_unfinished(name: str) -> str:
    """Say that there is a teaching from an earlier session that did not end."""
    return f"<b>The teaching of “{escape(name)}” was interrupted.</b>"


def say_changes(n_gained: int, n_lost: int, n_changed: int, n_same: int) -> str:
    """Say how two segmentations differ."""
    return (
        f"{n_gained:,} gained, {n_lost:,} lost, {n_changed:,} changed, {n_same:,} as before. "
        "Click one to go there; swipe between before (left) and after (right)."
    )


def say_entry(entry: Entry) -> str:
    """Say where an adapter comes from, how good it is, and why it is not in use."""
    about = entry.manifest
    if not isinstance(about, AdapterManifest):
        return entry.reason
    parts = [f"on {about.base}"]
    told = about.provenance
    if told.get("objects"):
        parts.append(f"{_count(int(told['objects']), 'object')} ({told.get('mode', '')})")
    gate = told.get("gate") or {}
    try:
        before, after = (float(gate[key]["held_out"]) for key in ("before", "after"))
        parts.append(f"held-out AP {before:.3f} → {after:.3f}")
    except (KeyError, TypeError, ValueError):
        # of another version, or imported without
        pass
    if about.notes:
        parts.append(about.notes)
    return " · ".join(parts) + (f"\n{entry.reason}" if entry.reason else "")


def say_closing(name: str) -> tuple[str, str]:
    """Return the title and the text of the question when napari closes."""
    return (
        "Teaching goes on",
        f"“{name}” is still being taught. It can go on without the window, and you find the "
        "result here next time; or it stops now and can be taken up again.",
    )


def say_mb(memory_mb: float) -> str:
    """Say an amount of memory or disk."""
    if memory_mb >= 1000:
        return f"{memory_mb / 1024:.1f}\u00a0GB"
    return f"{memory_mb:.0f}\u00a0MB" if memory_mb >= 10 else f"{memory_mb:.1f}\u00a0MB"


def _count(n: int, word: str) -> str:
    return f"{n:,}\u00a0{word}" + ("" if n == 1 else "s")
