"""A user who corrects only what is wrong, played by the label files.

Everything goes the way it does in the window: the base model segments the image, each
correction is planned on those labels, noted in a journal and carried out, and the journal
says what is known. No label is used that was not looked at.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinomask.adapt import corrections
from dinomask.adapt.from_journal import taught_from_journal
from dinomask.adapt.journal import Journal, pixel_identity
from dinomask.adapt.label_store import ArrayStore
from dinomask.adapt.reviewed import Reviewed
from dinomask.adapt.suggest import assess, choose
from dinomask.image import open_image
from dinomask.measure.matching import match
from dinomask.run.segment import segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dinomask.adapt.events import Correction
    from dinomask.adapt.taught import TaughtImage
    from dinomask.config import SegmentConfig
    from dinomask.instances import Array
    from dinomask.run.predictor import Predictor
    from dinomask.train.datasets import Sample

GOOD_IOU = 0.75
"""An object drawn at least this well is left as it is."""

PATCH_DIAMETERS = 4.0
"""Side of the patches that are looked at one after another, in diameters of objects."""


@dataclasses.dataclass
class Desk:
    """One image on the user's desk.

    Attributes
    ----------
    truth_yx : what the user sees
    store : labels as they are
    patches : windows that are still to be looked at, in order
    ranks : where suggested ones stand among those of all desks
    """

    name: str
    image: object
    truth_yx: Array
    store: ArrayStore
    journal: Journal
    patches: list[tuple[int, int, int, int]]
    ranks: list[int] = dataclasses.field(default_factory=list)
    n_corrected: int = 0
    n_reviewed: int = 0

    def review(self, most: int) -> int:
        """Correct one patch, at most so many objects; return how many were corrected."""
        patch = self.patches.pop(0)
        del self.ranks[:1]
        done = 0
        for change in _wrong(self.truth_yx, self.store, patch):
            if done == most:
                return done
            self.journal.carry_out(change, self.store)
            done += 1
            self.n_corrected += 1
        self.journal.record(Reviewed.of_box(patch))
        y0, x0, y1, x1 = patch
        self.n_reviewed += len(np.unique(self.truth_yx[y0:y1, x0:x1])) - 1
        return done

    def taught(self) -> list[TaughtImage]:
        """Return what is known so far."""
        return taught_from_journal(self.image, self.store, self.journal, self.name)


def sit_down(
    samples: Sequence[Sample],
    predictor: Predictor,
    config: SegmentConfig,
    folder: Path,
    seed: int,
) -> list[Desk]:
    """Segment images with the base model and lay them on the desk."""
    rng = np.random.default_rng(seed)
    desks = []
    for sample in samples:
        _, truth, _ = sample.read()
        image = open_image(sample.image)
        shown = segment(image, config=config, predictor=predictor).labels_yx
        labels = np.zeros(image.shape_yx, np.int32) if shown is None else shown.astype(np.int32)
        journal = Journal.open(
            folder / f"{sample.name}.jsonl", pixel_identity(image), image.shape_yx
        )
        patches = _patches(truth, rng)
        desks.append(Desk(sample.name, image, truth, ArrayStore(labels), journal, patches))
    return desks


def lay_suggested(desks: Sequence[Desk], predictor: Predictor, config: SegmentConfig) -> None:
    """Put the model's suggestions in the place of the patches, the most helpful first."""
    of_name = {desk.name: desk for desk in desks}
    candidates = []
    for desk in desks:
        diameter_px = segmented_diameter_px(desk.store)
        found = assess(desk.image, predictor, config, diameter_px)
        candidates += [dataclasses.replace(c, image=desk.name) for c in found]
        desk.patches = []
    for rank, suggestion in enumerate(choose(candidates, len(candidates))):
        of_name[suggestion.image].patches.append(suggestion.window_yxyx_px)
        of_name[suggestion.image].ranks.append(rank)


def segmented_diameter_px(store: ArrayStore) -> float:
    """Return the median diameter of what the model found; 32 px where it found nothing."""
    areas = np.bincount(store.read((0, 0, *store.shape_yx)).ravel())[1:]
    areas = areas[areas > 0]
    return float(np.median(np.sqrt(4 / np.pi * areas))) if len(areas) else 32.0


def correct(desks: Sequence[Desk], n: int, *, in_turn: bool = True) -> None:
    """Go on until `n` objects are corrected in all, patch by patch.

    Parameters
    ----------
    desks : what is corrected
    n : objects
    in_turn : the image that was looked at least comes next; otherwise what is suggested next
    """
    done = sum(desk.n_corrected for desk in desks)
    while done < n:
        open_ = [desk for desk in desks if desk.patches]
        if not open_:
            return
        desk = min(open_, key=lambda d: d.n_reviewed if in_turn else d.ranks[0])
        done += desk.review(n - done)


def _patches(truth_yx: Array, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    areas = np.bincount(truth_yx[truth_yx > 0])[1:]
    diameter = float(np.median(np.sqrt(4 / np.pi * areas[areas > 0])))
    side = max(32, round(PATCH_DIAMETERS * diameter))
    height, width = truth_yx.shape
    rows = np.linspace(0, height, max(1, round(height / side)) + 1).astype(int)
    cols = np.linspace(0, width, max(1, round(width / side)) + 1).astype(int)
    patches = [
        (int(y0), int(x0), int(y1), int(x1))
        for y0, y1 in itertools.pairwise(rows)
        for x0, x1 in itertools.pairwise(cols)
    ]
    return [patches[i] for i in rng.permutation(len(patches))]


def _wrong(
    truth_yx: Array, store: ArrayStore, patch: tuple[int, int, int, int]
) -> Iterator[Correction]:
    """Yield what must be corrected in a patch: objects by their centre, false ones first."""
    _y0, _x0, _y1, _x1 = patch
    shown = store.read((0, 0, *store.shape_yx))
    matching = match(truth_yx, shown)
    pairs = matching.matched(0.3)
    partner = {
        int(matching.reference_ids[matching.reference_index[p]]): (
            int(matching.prediction_ids[matching.prediction_index[p]]),
            float(matching.iou[p]),
        )
        for p in pairs
    }
    taken = {found for found, _ in partner.values()}
    for label in _centred_in(shown, patch):
        if label not in taken:
            yield corrections.remove(store, label)
    for label in _centred_in(truth_yx, patch):
        found, iou = partner.get(label, (0, 0.0))
        if iou >= GOOD_IOU:
            continue
        rows, cols = np.nonzero(truth_yx == label)
        corner = (int(rows.min()), int(cols.min()))
        mask = truth_yx[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1] == label
        # it may have been painted over in the meantime
        if found and (store.read((0, 0, *store.shape_yx)) == found).any():
            yield corrections.redraw(store, found, mask, corner)
        else:
            yield corrections.add(store, mask, corner)


def _centred_in(labels_yx: Array, patch: tuple[int, int, int, int]) -> list[int]:
    ids = np.unique(labels_yx[patch[0] : patch[2], patch[1] : patch[3]])
    ids = ids[ids > 0]
    centres = ndimage.center_of_mass(labels_yx > 0, labels_yx, ids)
    return [
        int(i)
        for i, (y, x) in zip(ids, centres, strict=True)
        if patch[0] <= y < patch[2] and patch[1] <= x < patch[3]
    ]
