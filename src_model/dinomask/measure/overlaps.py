"""Which objects of two label images overlap, and which belong together."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dinomask.errors import DataError

if TYPE_CHECKING:
    from dinomask.instances import Array


@dataclasses.dataclass(frozen=True)
class Matching:
    """Every overlap of two label images, as a sparse table of P pairs.

    Attributes
    ----------
    reference_ids, prediction_ids : shape (R,), (Q,); ascending, without 0
    reference_areas_px, prediction_areas_px : shape (R,), (Q,)
    reference_index, prediction_index : shape (P,); the objects of each pair
    overlap_px : shape (P,); pixels that both share, above 0
    """

    reference_ids: Array
    prediction_ids: Array
    reference_areas_px: Array
    prediction_areas_px: Array
    reference_index: Array
    prediction_index: Array
    overlap_px: Array

    @property
    def iou(self) -> Array:
        """Intersection over union of each pair, shape (P,), float64."""
        sizes = self.reference_areas_px[self.reference_index]
        sizes = sizes + self.prediction_areas_px[self.prediction_index]
        return np.asarray(self.overlap_px / (sizes - self.overlap_px), np.float64)

    def matched(self, tau: float) -> Array:
        """Choose pairs with IoU >= tau so that no object is in two.

        As many pairs as possible; among equals the largest sum of IoU
        (Hungarian method, within each connected group of objects).

        Parameters
        ----------
        tau : in (0, 1]

        Returns
        -------
        indices into the pairs, ascending
        """
        iou = self.iou
        edges = np.flatnonzero(iou >= tau)
        if not len(edges):
            return edges
        n = len(self.reference_ids)
        r, q = self.reference_index[edges], self.prediction_index[edges] + n
        size = n + len(self.prediction_ids)
        graph = coo_array((np.ones(len(edges), np.int8), (r, q)), shape=(size, size))
        group = connected_components(graph, directed=False)[1][r]
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        chosen = [
            part if len(part) == 1 else part[_assign(r[part], q[part], iou[edges[part]])]
            for part in np.split(order, starts[1:])
        ]
        return np.sort(edges[np.concatenate(chosen)])

    def counts(self, tau: float) -> Counts:
        """Count hits and misses at an IoU threshold."""
        pairs = self.matched(tau)
        tp = len(pairs)
        return Counts(
            tp=tp,
            fp=len(self.prediction_ids) - tp,
            fn=len(self.reference_ids) - tp,
            iou_sum=float(self.iou[pairs].sum()),
        )


@dataclasses.dataclass(frozen=True)
class Counts:
    """Hits and misses of one image at one IoU threshold.

    Each ratio is 1 where neither image has an object and 0 where only one has.

    Attributes
    ----------
    tp, fp, fn : matched, superfluous and missed objects
    iou_sum : sum of the matched pairs' IoU
    """

    tp: int
    fp: int
    fn: int
    iou_sum: float

    @property
    def ap(self) -> float:
        """TP / (TP + FP + FN)."""
        return self._ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP): the part of the predicted objects that is right."""
        return self._ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN): the part of the reference objects that is found."""
        return self._ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return self._ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the matched pairs; 0 where nothing matches."""
        return self._ratio(self.iou_sum, self.tp)

    def _ratio(self, part: float, whole: float) -> float:
        if self.tp + self.fp + self.fn == 0:
            return 1.0
        return part / whole if whole else 0.0


def match(reference_yx: Array, prediction_yx: Array) -> Matching:
    """Find every overlap of two label images in one pass.

    Parameters
    ----------
    reference_yx, prediction_yx : one shape, any number of axes; any integer
        dtype, 0 is background, ids need not be consecutive

    Raises
    ------
    DataError
        If a dtype is not integer, an id is negative or the shapes differ.
    """
    reference, prediction = _labels(reference_yx), _labels(prediction_yx)
    if reference.shape != prediction.shape:
        raise DataError(
            expected="a reference and a prediction of one shape",
            got=f"{reference.shape} and {prediction.shape}",
            remedy="Compare the two label images of one image.",
        )
    r_ids, r = ids_of(reference)
    q_ids, q = ids_of(prediction)
    joint = r.ravel().astype(np.int64) * max(len(q_ids), 1) + q.ravel()
    pairs, place = ids_of(joint)
    overlap = np.bincount(place, minlength=len(pairs))
    r_pair, q_pair = np.divmod(pairs, max(len(q_ids), 1))
    r_areas = np.bincount(r_pair, weights=overlap, minlength=len(r_ids)).astype(np.int64)
    q_areas = np.bincount(q_pair, weights=overlap, minlength=len(q_ids)).astype(np.int64)
    r_skip, q_skip = int(np.any(r_ids == 0)), int(np.any(q_ids == 0))
    real = (r_pair >= r_skip) & (q_pair >= q_skip)
    return Matching(
        reference_ids=r_ids[r_skip:],
        prediction_ids=q_ids[q_skip:],
        reference_areas_px=r_areas[r_skip:],
        prediction_areas_px=q_areas[q_skip:],
        reference_index=r_pair[real] - r_skip,
        prediction_index=q_pair[real] - q_skip,
        overlap_px=overlap[real],
    )


def ids_of(labels: Array) -> tuple[Array, Array]:
    """Return which ids there are, ascending, and for each pixel the place of its own.

    As `numpy.unique` with its inverse, which sorts all pixels; ids not far above the
    number of pixels are counted instead.

    Parameters
    ----------
    labels : of integers, not negative, any shape

    Returns
    -------
    ids : shape (N,)
    places : the shape of `labels`, int64
    """
    highest = int(labels.max(initial=0))
    if highest > labels.size:
        ids, places = np.unique(labels, return_inverse=True)
        return ids, places.reshape(labels.shape)
    # bincount refuses uint64
    present = np.bincount(labels.ravel().astype(np.int64, copy=False), minlength=1) > 0
    places = np.cumsum(present) - 1
    return np.flatnonzero(present).astype(labels.dtype), places[labels]


def _labels(image_yx: Array) -> Array:
    labels = np.asarray(image_yx)
    if labels.dtype.kind not in "iu":
        got = f"dtype {labels.dtype}"
    elif labels.size and labels.min() < 0:
        got = f"the label {labels.min()}"
    else:
        return labels
    raise DataError(
        expected="a label image of integers, 0 for background and ids above it",
        got=got,
        remedy="Give each object an id of its own, for example with skimage.measure.label.",
    )


def _assign(r: Array, q: Array, iou: Array) -> Array:
    """Choose edges of one connected group: as many as possible, then by IoU."""
    rows, row = np.unique(r, return_inverse=True)
    columns, column = np.unique(q, return_inverse=True)
    edge = np.full((len(rows), len(columns)), -1)
    edge[row, column] = np.arange(len(r))
    # the IoUs of all pairs together weigh less than one pair more
    gain = np.zeros(edge.shape)
    gain[row, column] = 1 + iou / (2 * min(edge.shape))
    best = edge[linear_sum_assignment(gain, maximize=True)]
    return np.asarray(best[best >= 0])
