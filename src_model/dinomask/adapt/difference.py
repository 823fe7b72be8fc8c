"""Tell from two label images which corrections lie between them.

For labels that were edited by other means: in another program, or with a brush. What was meant
is told by overlap: an object goes on in those that it shares half of the smaller one's pixels
with.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from dinomask.adapt.applying import apply
from dinomask.adapt.corrections import replace
from dinomask.adapt.events import Correction, Kind, Piece
from dinomask.adapt.finding import find_around
from dinomask.adapt.geometry import Box, grow_box, tight_box, union_box
from dinomask.adapt.label_store import ArrayStore
from dinomask.errors import CorrectionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dinomask.adapt.finding import Place
    from dinomask.adapt.label_store import LabelStore
    from dinomask.instances import Array

SAME_SHARE = 0.5
"""Objects that share this part of the smaller one are taken for one, or for parts of one."""

_ORDER: dict[Kind, int] = {"remove": 0, "merge": 1, "redraw": 2, "split": 3, "add": 4}


def difference(
    before_yx: Array,
    after_yx: Array,
    *,
    corner_yx_px: tuple[int, int] = (0, 0),
    plane: Place = (),
    classes: Mapping[int, int] | None = None,
    exact_ids: bool = False,
) -> list[Correction]:
    """Return the corrections that lead from one label image to another.

    Parameters
    ----------
    before_yx, after_yx : shape (Y, X), whole numbers, 0 background
    corner_yx_px : where they begin in the image
    plane : index on the axes before y and x
    classes : of the objects before
    exact_ids : lead to the very ids of `after_yx`. Otherwise objects that stay keep their
        ids, whatever number another program gave them, and only ids in use are replaced.

    Returns
    -------
    To be applied in this order; none where only ids differ, unless these are to be exact

    Raises
    ------
    CorrectionError
        If the two aren't label images of one shape.
    """
    _require_alike(before_yx, after_yx)
    scratch = _Scratch(before_yx.astype(np.int64), classes or {})
    groups = _groups(before_yx, after_yx, exact_ids)
    _name(groups, scratch, int(after_yx.max(initial=0)), exact_ids)
    boxes = _boxes(after_yx, [label for group in groups for label in group.after])
    found = []
    for group in sorted(groups, key=lambda group: _ORDER[group.kind]):
        correction = _correction(group, scratch, after_yx, boxes)
        if correction is not None:
            apply(correction, scratch)
            found.append(_moved(correction, corner_yx_px, plane))
    return found


def difference_at(
    store: LabelStore,
    before_yx: Array,
    after_yx: Array,
    corner_yx_px: tuple[int, int],
    plane: Place = (),
) -> list[Correction]:
    """Return the corrections that a change of a window of a label image amounts to.

    Objects that reach beyond the window are completed from the store, and ids are those of
    `after_yx`: so the corrections can be recorded for labels that were painted in place.

    Parameters
    ----------
    store : the labels; within the window they may show either state
    before_yx, after_yx : shape (Y, X), the window before and after
    corner_yx_px : where the window begins
    plane : index on the axes before y and x

    Raises
    ------
    CorrectionError
        If the two aren't label images of one shape.
    """
    _require_alike(before_yx, after_yx)
    changed = before_yx != after_yx
    y, x = corner_yx_px
    windows = [(y, x, y + before_yx.shape[0], x + before_yx.shape[1])]
    labels = np.unique(np.concatenate([before_yx[changed], after_yx[changed]]))
    for label in labels[labels != 0].tolist():
        top, left, bottom, right = tight_box((before_yx == label) | (after_yx == label)) or (0,) * 4
        seen = grow_box((y + top, x + left, y + bottom, x + right), 1, store.shape_yx)
        piece = find_around(store, label, [seen, store.extent(label, plane)], plane)
        if piece is not None:
            windows.append(piece.box_yxyx_px)
    window = union_box(windows)
    here = np.s_[
        y - window[0] : y - window[0] + before_yx.shape[0],
        x - window[1] : x - window[1] + before_yx.shape[1],
    ]
    wide_before = store.read(window, plane)
    wide_after = wide_before.copy()
    wide_before[here], wide_after[here] = before_yx, after_yx
    return difference(
        wide_before,
        wide_after,
        corner_yx_px=window[:2],
        plane=plane,
        classes={label: store.class_of(label) for label in labels.tolist()},
        exact_ids=True,
    )


class _Scratch(ArrayStore):
    """Labels to try corrections on, with the place of every object at hand."""

    def __init__(self, labels: Array, classes: Mapping[int, int]) -> None:
        super().__init__(labels, dict(classes))
        self.boxes = _boxes(labels, np.unique(labels).tolist())

    def current(self, label: int) -> Piece | None:
        """Return an object as it is by now; None if it is gone."""
        if label not in self.boxes:
            return None
        y0, x0, y1, x1 = self.boxes[label]
        return Piece.cut(self.labels[y0:y1, x0:x1], label, (y0, x0), self.class_of(label))

    def find(self, label: int, near: Box | None = None, plane: Place = ()) -> Piece:
        return self.current(label) or super().find(label, near, plane)

    def remember(self, piece: Piece, plane: Place = ()) -> None:
        super().remember(piece, plane)
        self.boxes[piece.label] = piece.box_yxyx_px


@dataclasses.dataclass
class _Group:
    """Objects before and after that are the same, or parts of each other."""

    before: list[int]
    after: list[int]
    overlaps_px: dict[tuple[int, int], int]
    names: dict[int, int] = dataclasses.field(default_factory=dict)
    classes: dict[int, int] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        n_before, n_after = len(self.before), len(self.after)
        if not n_before or not n_after:
            return "remove" if n_before else "add"
        if (n_before > 1) != (n_after > 1):
            return "merge" if n_after == 1 else "split"
        return "redraw"


def _groups(before_yx: Array, after_yx: Array, exact_ids: bool) -> list[_Group]:
    changed = before_yx != after_yx
    involved = np.unique(np.concatenate([before_yx[changed], after_yx[changed]]))
    involved = involved[involved != 0]
    concerned = np.isin(before_yx, involved) | np.isin(after_yx, involved)
    pairs, counts = np.unique(
        np.stack([before_yx[concerned], after_yx[concerned]]).astype(np.int64),
        axis=1,
        return_counts=True,
    )
    sides = [sorted(set(pairs[k].tolist()) - {0}) for k in (0, 1)]
    areas = [{label: int(counts[pairs[k] == label].sum()) for label in sides[k]} for k in (0, 1)]
    nodes = {(k, label): n for n, (k, label) in enumerate((k, s) for k in (0, 1) for s in sides[k])}
    overlaps = {
        (b, a): n
        for (b, a), n in zip(pairs.T.tolist(), counts.tolist(), strict=True)
        if b and a and n >= SAME_SHARE * min(areas[0][b], areas[1][a])
    }
    links = [(nodes[0, b], nodes[1, a]) for b, a in overlaps]
    if exact_ids:
        # an id can't go to another object before it is given up, so both go together
        links += [(nodes[0, s], nodes[1, s]) for s in sides[1] if (0, s) in nodes]
    ends = np.array(links, np.int64).reshape(-1, 2).T
    graph = sparse.coo_array((np.ones(len(links)), tuple(ends)), shape=(len(nodes),) * 2)
    _, component = connected_components(graph, directed=False)
    groups: dict[int, _Group] = {}
    for (k, label), node in nodes.items():
        group = groups.setdefault(int(component[node]), _Group([], [], {}))
        (group.after if k else group.before).append(label)
    for (b, a), n in overlaps.items():
        groups[int(component[nodes[0, b]])].overlaps_px[b, a] = n
    return list(groups.values())


def _name(groups: Sequence[_Group], scratch: _Scratch, highest: int, exact_ids: bool) -> None:
    """Choose the ids and classes of all that is there afterwards."""
    taken = set(scratch.boxes)
    fresh = max(highest, max(taken, default=0))
    for group in groups:
        free = set(group.before)
        # the same id first, then the largest overlap
        ranked = sorted(group.overlaps_px.items(), key=lambda o: (o[0][0] != o[0][1], -o[1]))
        for (b, a), _ in ranked:
            group.classes.setdefault(a, scratch.class_of(b))
            if b in free and a not in group.names:
                group.names[a] = b
                group.classes[a] = scratch.class_of(b)
                free.discard(b)
        for a in group.after:
            if exact_ids:
                group.names[a] = a
            elif a not in group.names:
                if a in taken:
                    fresh += 1
                group.names[a] = fresh if a in taken else a
                taken.add(group.names[a])


def _correction(
    group: _Group, scratch: _Scratch, after_yx: Array, boxes: Mapping[int, Box]
) -> Correction | None:
    """Return what is left to be done about a group, now that those before it are done."""
    gone = [piece for piece in map(scratch.current, group.before) if piece is not None]
    drawn = []
    for a in group.after:
        y0, x0, y1, x1 = boxes[a]
        mask_yx = after_yx[y0:y1, x0:x1] == a
        drawn.append(Piece(group.names[a], (y0, x0), mask_yx, group.classes.get(a, 0)))
    drawn.sort(key=lambda piece: piece.label)
    if gone == drawn:
        return None
    return replace(scratch, group.kind, gone, drawn)


def _boxes(labels_yx: Array, labels: Iterable[int]) -> dict[int, Box]:
    """Return the box of each label."""
    names = np.unique(np.fromiter(labels, np.int64))
    names = names[names != 0]
    if not len(names):
        return {}
    at = np.searchsorted(names, labels_yx).clip(max=len(names) - 1)
    numbered = np.where(names[at] == labels_yx, at + 1, 0)
    found = {}
    for name, box in zip(names.tolist(), ndimage.find_objects(numbered), strict=True):
        rows, columns = box
        found[name] = (rows.start, columns.start, rows.stop, columns.stop)
    return found


def _moved(correction: Correction, by_yx: tuple[int, int], plane: Place) -> Correction:
    def moved(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
        return tuple(
            dataclasses.replace(
                p, corner_yx_px=(p.corner_yx_px[0] + by_yx[0], p.corner_yx_px[1] + by_yx[1])
            )
            for p in pieces
        )

    return dataclasses.replace(
        correction,
        before=moved(correction.before),
        after=moved(correction.after),
        plane=tuple(plane),
    )


def _require_alike(before_yx: Array, after_yx: Array) -> None:
    kinds = before_yx.dtype.kind + after_yx.dtype.kind
    if before_yx.shape != after_yx.shape or before_yx.ndim != 2 or not set(kinds) <= set("iu"):
        raise CorrectionError(
            expected="two label images of one shape (Y, X), of whole numbers",
            got=f"{before_yx.dtype} of shape {before_yx.shape} and {after_yx.dtype} of shape "
            f"{after_yx.shape}",
            remedy="Compare labels of the same image.",
        )
