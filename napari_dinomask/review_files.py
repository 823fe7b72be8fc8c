"""What a review keeps on disk: its journal, and the labels it began with.

The journal holds every correction; with the labels it began with, labels that were never
saved are there again after a crash.
"""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import platformdirs
import tifffile

from dinomask.adapt.journal import Journal, journal_path, pixel_identity
from dinomask.adapt.journal_place import set_aside
from dinomask.adapt.label_store import ArrayStore
from dinomask.errors import DinomaskError, InputError, ProjectError, WrongImageError
from dinomask.project import SUFFIX, Project, ProjectImage, read_project, write_project
from dinomask.tiles.outputs import replacing

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from dinomask.image.source import Image

    Array = npt.NDArray[Any]

CORRECTED_SUFFIX = ".corrected.tif"
"""Ending of the file of labels as a review left them."""

FIRST_SUFFIX = ".first.tif"
"""Ending of the file of labels that a review began with."""

ENOUGH = 5
"""Fewer objects don't tell the usual size."""

_WRITING = threading.Lock()
"""Held while a project file is read and written anew, so that no thread undoes another's."""

Begin = Literal["ask", "go on", "anew"]
"""What to do about an earlier review of the same image: ask where its labels are not these;
go on with its labels; or put it aside."""


class EarlierReviewError(InputError):
    """There is an earlier review of the same image with other labels."""

    def __init__(self, n_corrections: int, path: Path) -> None:
        self.n_corrections = n_corrections
        super().__init__(
            expected="the labels that were corrected before",
            got=f"others, and {n_corrections} corrections of those in {path.name}",
            remedy="Go on with the earlier ones, or begin anew; nothing is deleted.",
        )


@dataclasses.dataclass(frozen=True)
class Opened:
    """A review, ready to go on.

    Attributes
    ----------
    image : what the labels are of
    journal : of its corrections
    restored : the labels as an earlier session left them; None if they are on display
    diameter_px : median of the labels on display; None if they are few
    classes : names of classes that an earlier session gave
    """

    image: Image
    journal: Journal
    restored: Array | None
    diameter_px: float | None
    classes: tuple[str, ...] = ()


def reviews_folder() -> Path:
    """Return where reviews are kept of images without a file, or in a read-only folder."""
    override = os.environ.get("DINOMASK_REVIEWS")
    return Path(override) if override else platformdirs.user_data_path("dinomask") / "reviews"


def open_review(
    open_image: Callable[[], Image],
    labels: Array,
    beside: Path | None,
    name: str,
    model: str,
    begin: Begin = "ask",
) -> Opened:
    """Open the journal of an image, and bring its labels to where an earlier session left them.

    Reads the image; to be called in a thread.

    Parameters
    ----------
    open_image : opens what the labels are of
    labels : shape (…, Y, X), as they are on display; a copy
    beside : labels file, existing or not, beside which the journal lies; None if the image
        has no file
    name : of the image
    model : that made the labels
    begin : what to do about an earlier review

    Raises
    ------
    EarlierReviewError
        If there is one with other labels, and `begin` is ``ask``.
    JournalError
        If the journal is damaged, or of another image.
    InputError, OutputError
        If image or journal can't be read, or the first labels not be written.
    """
    image = open_image()
    identity = pixel_identity(image)
    if beside is None or not os.access(beside.parent, os.W_OK):
        word = re.sub(r"[^\w.-]+", "_", name)
        beside = reviews_folder() / f"{word}_{identity[:12]}_labels.tif"
        beside.parent.mkdir(parents=True, exist_ok=True)
    path = journal_path(beside)
    first = first_labels_path(path)
    if begin == "anew":
        set_aside(path)
        first.unlink(missing_ok=True)
    diameter_px = median_diameter_px(labels)
    shape = (int(labels.shape[-2]), int(labels.shape[-1]))
    journal = Journal.open(path, identity, shape, model=model)
    classes = known_classes(path)
    if not journal.history():
        keep_first(first, labels)
        return Opened(image, journal, None, diameter_px, classes)
    restored = _restore(journal, first, labels)
    if np.array_equal(restored, labels):
        return Opened(image, journal, None, diameter_px, classes)
    same = labels.max(initial=0) == 0 or np.array_equal(_read_first(first, labels), labels)
    if not same and begin == "ask":
        raise EarlierReviewError(len(journal.corrections()), path)
    return Opened(image, journal, restored, diameter_px, classes)


def project_path(journal: Path) -> Path:
    """Return where the project of a journal's image lies."""
    stem = journal.name.removesuffix(".journal.jsonl")
    return journal.with_name(stem.removesuffix("_labels") + SUFFIX)


def known_classes(journal: Path) -> tuple[str, ...]:
    """Return the names of classes that an earlier session gave; empty if there are none."""
    try:
        return read_project(project_path(journal)).classes
    except ProjectError:
        return ()


def keep_classes(journal: Path, model: str, adapter: str, classes: tuple[str, ...]) -> None:
    """Write the names of classes at once, so that a crash takes none of them.

    They go into the project file beside the journal, where the rest of it stays. What can't be
    written is only told of: the review goes on, and tries again when it ends.

    Parameters
    ----------
    journal : of the review
    model, adapter : what made the labels; empty for none
    classes : names of the classes 0, 1, …
    """
    path = project_path(journal)
    with _WRITING:
        try:
            known = read_project(path) if path.exists() else Project(path, (), model, adapter)
            if known.classes != classes:
                write_project(dataclasses.replace(known, classes=classes))
        except DinomaskError as error:
            warnings.warn(f"names of classes were not kept: {error}", stacklevel=2)


def first_labels_path(journal: Path) -> Path:
    """Return where the labels lie that a journal began with."""
    return journal.with_name(journal.name.removesuffix(".journal.jsonl") + FIRST_SUFFIX)


def keep_first(path: Path, labels: Array) -> None:
    """Write the labels that a review begins with.

    Raises
    ------
    OutputError
        If they can't be written.
    """
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            np.ascontiguousarray(labels),
            # three planes are no colours
            photometric="minisblack",
            compression="zlib",
        )


def keep_project(
    image: Path,
    labels: Array,
    journal: Path,
    model: str,
    adapter: str,
    classes: tuple[str, ...] = (),
) -> None:
    """Write the corrected labels and a project file beside the journal, for the command line.

    `dinomask finetune --project` and `dinomask replay` take it up from there. What can't be
    written is only told of: the journal holds everything.

    Parameters
    ----------
    image : file
    labels : as they are now; a copy
    journal : of their corrections
    model, adapter : what made the labels; empty for none
    classes : names of the objects' classes
    """
    stem = journal.name.removesuffix(".journal.jsonl")
    out = journal.with_name(stem + CORRECTED_SUFFIX)
    project = Project(project_path(journal), (), model, adapter, classes)
    first = first_labels_path(journal)
    entry = ProjectImage(image.stem, image, out, journal, first if first.exists() else None)
    try:
        keep_first(out, labels)
        # of a plane of a stack it is another image's, which a project can't say
        entry.open_journal()
        with _WRITING:
            write_project(project.with_image(entry))
    except WrongImageError:
        return
    except DinomaskError as error:
        warnings.warn(f"no project file was written: {error}", stacklevel=2)


def forget_unused(journal: Journal) -> None:
    """Remove the first labels of a review in which nothing was done."""
    if not journal.history():
        first_labels_path(journal.path).unlink(missing_ok=True)


def median_diameter_px(labels: Array) -> float | None:
    """Return the median diameter of the circles of the objects' areas; None if they are few."""
    areas = np.unique(labels[labels > 0], return_counts=True)[1]
    return float(np.sqrt(4 / np.pi * np.median(areas))) if len(areas) >= ENOUGH else None


def _restore(journal: Journal, first: Path, labels: Array) -> Array:
    """Return the labels as the journal left them."""
    restored = _read_first(first, labels)
    if restored is None:
        # labels that were saved elsewhere: they must show what the journal says
        restored = labels.copy()
    journal.catch_up(ArrayStore(restored), last=None)
    return restored


def _read_first(path: Path, labels: Array) -> Array | None:
    if not path.exists():
        return None
    try:
        kept = np.asarray(tifffile.imread(path))
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise InputError(
            expected=f"the labels that the review began with in {path}",
            got=f"{type(error).__name__}: {error}",
            remedy="Bring the file back, or begin the review anew.",
        ) from error
    if kept.size != labels.size:
        raise InputError(
            expected=f"labels of shape {labels.shape} in {path}",
            got=f"shape {kept.shape}",
            remedy="Begin the review anew.",
        )
    return kept.reshape(labels.shape).astype(labels.dtype)
