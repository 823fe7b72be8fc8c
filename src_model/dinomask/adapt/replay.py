"""Make labels again from their journal, to prove that nothing is missing or to bring them back."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING, Literal

import numpy as np

from dinomask.adapt.applying import apply
from dinomask.adapt.journal_place import journal_path
from dinomask.adapt.label_store import ArrayStore, PyramidStore, table_classes
from dinomask.adapt.overlay_store import OverlayStore
from dinomask.errors import ConflictError, InputError, OutputError, ProjectError
from dinomask.tiles.edit import LabelPyramid
from dinomask.tiles.outputs import replacing, table_path
from dinomask.tiles.render import CHUNK_PX, squares

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.adapt.journal import Journal
    from dinomask.adapt.label_store import LabelStore

_TIFF = (".tif", ".tiff")


@dataclasses.dataclass(frozen=True)
class Replayed:
    """What came of replaying one image's journal.

    Attributes
    ----------
    name : of the image
    n_corrections, n_reviewed : in effect
    same : whether the labels are exactly what the journal makes
    n_different_px : pixels that are not; 0 where a conflict came first
    way : forwards from the first labels; or, where these were not kept, backwards from the
        labels as they are, and forwards again
    conflict : what in the labels contradicts the journal; None if nothing does
    torn : what a crash took of the journal's last line; None if all is there
    """

    name: str
    n_corrections: int
    n_reviewed: int
    same: bool
    n_different_px: int
    way: Literal["forwards", "backwards"]
    conflict: str | None = None
    torn: str | None = None


def open_labels(path: Path, *, writable: bool = False) -> LabelStore:
    """Open a label image to be corrected.

    Parameters
    ----------
    path : .zarr, which stays on disk; or .tif, which is read into memory, where it is changed
    writable : open a .zarr to be written

    Raises
    ------
    InputError
        If it can't be read or is of another kind.
    """
    if path.suffix.lower() == ".zarr":
        return PyramidStore(LabelPyramid.open(path, writable=writable))
    if path.suffix.lower() not in _TIFF:
        raise InputError(
            expected="labels in a .zarr or .tif",
            got=str(path),
            remedy="Save the labels as .tif first.",
        )
    import tifffile

    try:
        labels = np.array(tifffile.imread(path))
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise InputError(
            expected=f"a label image at {path}",
            got=str(error),
            remedy="Check that the file is there and whole.",
        ) from error
    return ArrayStore(labels, table_classes(path))


def keep_first_labels(labels: Path, journal: Path | None = None) -> Path:
    """Copy labels, and the table beside them, before they are corrected for the first time.

    Parameters
    ----------
    labels : .zarr or .tif
    journal : of their corrections; None: beside them

    Returns
    -------
    Of `cells_labels.zarr`, `cells_labels.first.zarr`; an earlier copy stays

    Raises
    ------
    ProjectError
        If there is no copy and a correction was made already.
    OutputError
        If they can't be copied.
    """
    kept = labels.with_name(f"{labels.stem}.first{labels.suffix}")
    if kept.exists():
        return kept
    if (journal or journal_path(labels)).exists():
        raise ProjectError(
            expected="labels that were never corrected",
            got=f"a journal of {labels.name}",
            remedy="Go on without a copy; the journal can be replayed backwards.",
        )
    if table_path(labels).exists():
        with replacing(table_path(kept)) as temporary:
            shutil.copyfile(table_path(labels), temporary)
    _copy(labels, kept)
    return kept


def replay_labels(name: str, journal: Journal, labels_path: Path, first: Path | None) -> Replayed:
    """Make labels again from a journal, on top of what is there, and compare.

    Parameters
    ----------
    name : of the image, for the report
    journal : of the corrections
    labels_path : the labels as they are, .zarr or .tif
    first : the labels before the first correction; None if they were not kept

    Raises
    ------
    InputError
        If labels can't be read.
    ProjectError
        If the two are of different shapes.
    """
    labels = open_labels(labels_path)
    done = journal.corrections()
    way: Literal["forwards", "backwards"] = "forwards" if first else "backwards"
    conflict, n_different = None, 0
    try:
        if first is not None:
            made = OverlayStore(open_labels(first))
            for correction in done:
                apply(correction, made)
            n_different = _count_different(made, labels)
        else:
            made = OverlayStore(labels)
            # a crash may have kept the last event from the labels
            n_different = journal.catch_up(made)
            for correction in reversed(done):
                apply(correction.inverse(), made)
            for correction in done:
                apply(correction, made)
    except ConflictError as error:
        conflict = str(error)
    return Replayed(
        name,
        len(done),
        len(journal.reviewed()),
        conflict is None and n_different == 0,
        n_different,
        way,
        conflict,
        journal.torn,
    )


def rebuild(journal: Journal, first: Path, out: Path) -> int:
    """Make labels again from their first state and the journal.

    Parameters
    ----------
    journal : of the corrections
    first : the labels before the first of them, .zarr or .tif
    out : of the same kind; must not exist

    Returns
    -------
    Number of corrections that were applied.

    Raises
    ------
    ConflictError
        If the journal doesn't fit them.
    OutputError
        If it can't be written or exists.
    """
    if out.exists():
        raise OutputError(
            expected="an output that does not exist yet",
            got=str(out),
            remedy="Choose another folder.",
        )
    done = journal.corrections()
    with replacing(out) as temporary:
        if first.is_dir():
            shutil.copytree(first, temporary)
            classes = table_classes(first)
            store: LabelStore = PyramidStore(LabelPyramid.open(temporary, writable=True), classes)
        else:
            store = open_labels(first)
        for correction in done:
            apply(correction, store)
        if isinstance(store, ArrayStore):
            import tifffile

            # three planes are no colours
            tifffile.imwrite(temporary, store.labels, photometric="minisblack", compression="zlib")
    return len(done)


def _count_different(made: LabelStore, labels: LabelStore) -> int:
    if (made.leading, made.shape_yx) != (labels.leading, labels.shape_yx):
        raise ProjectError(
            expected=f"labels of the shape of the first ones, {(*made.leading, *made.shape_yx)}",
            got=str((*labels.leading, *labels.shape_yx)),
            remedy="Name the labels that the journal belongs to.",
        )
    return sum(
        int((made.read(window, plane) != labels.read(window, plane)).sum())
        for plane in np.ndindex(labels.leading)
        for window in squares(labels.shape_yx, CHUNK_PX)
    )


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        if source.is_dir():
            shutil.copytree(source, temporary)
        else:
            shutil.copyfile(source, temporary)
