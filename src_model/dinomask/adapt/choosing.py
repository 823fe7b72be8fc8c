"""Choose the tiles whose correction should help most, among those that were looked at."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.instances import Array
    from dinomask.tiles.plan import Box

REVIEWED_SHARE = 0.5
"""A tile of which more than this is reviewed counts as known, and is not suggested."""

SAME_IMAGE = 0.5
"""Tiles of one image are nearer by this: its objects, its light and its focus are alike."""

UNLIKE = 0.75
"""From this novelty on a tile is said to look unlike the known ones."""


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A tile that was looked at.

    Attributes
    ----------
    image : name of the image
    window_yxyx_px : in image pixels
    n_doubtful : objects with a score about the threshold
    n_disagreeing : sure objects that are missed when the tile is mirrored
    feature : shape (D,), what it shows: its mean token
    reviewed : the part of it that is reviewed, 0 to 1
    """

    image: str
    window_yxyx_px: Box
    n_doubtful: int
    n_disagreeing: int
    feature: Array
    reviewed: float = 0.0


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A tile to correct next.

    Attributes
    ----------
    image : name of the image
    window_yxyx_px : in image pixels
    reason : in words
    novelty : 0 for the like of a known tile, 1 for one that is far from all
    """

    image: str
    window_yxyx_px: Box
    reason: str
    novelty: float


def choose(candidates: Sequence[Candidate], n: int = 3) -> list[Suggestion]:
    """Choose the tiles that should help most, also of several images together.

    Greedy k-centre (Gonzalez 1985; for active learning Sener and Savarese, "Active
    learning for convolutional neural networks: a core-set approach", arXiv
    1708.00489) with weights: in turn, the tile of the largest product of the root
    of the corrections to expect, plus one, and its distance to the nearest tile that
    is reviewed or chosen already. The root, since the objects of one tile are alike:
    by their number, tiles full of specks came first, which take many corrections and
    teach one thing. Distances are those of mean tokens, each component standardised,
    in units of the median distance between tiles, at most 1, and less in one image.

    Parameters
    ----------
    candidates : of `assess`
    n : how many at most

    Returns
    -------
    the most helpful first
    """
    if not candidates:
        return []
    distances = _distances(np.stack([c.feature for c in candidates]))
    images = np.array([c.image for c in candidates])
    apart = np.where(images[:, None] == images, SAME_IMAGE * distances, distances)
    known = np.array([c.reviewed > REVIEWED_SHARE for c in candidates])
    expected = np.array([(c.n_doubtful + c.n_disagreeing) * (1 - c.reviewed) for c in candidates])
    open_ones = ~known
    chosen: list[Suggestion] = []
    while open_ones.any() and len(chosen) < n:
        novelty, room = (_to_nearest(d, known) for d in (distances, apart))
        value = np.where(open_ones, np.sqrt(1 + expected) * room, -1)
        best = int(np.argmax(value))
        candidate = candidates[best]
        reason = _reason(candidate, float(novelty[best]), compared=bool(known.any()))
        chosen.append(
            Suggestion(candidate.image, candidate.window_yxyx_px, reason, float(novelty[best]))
        )
        known[best], open_ones[best] = True, False
    return chosen


def _to_nearest(distances: Array, known: Array) -> Array:
    return distances[:, known].min(axis=1) if known.any() else np.ones(len(distances))


def _distances(features: Array) -> Array:
    """Return how far tiles are from each other, shape (N, N), from 0 to 1."""
    spread = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(spread > 1e-6, spread, 1)
    squares = (standard**2).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * standard @ standard.T, 0))
    np.fill_diagonal(apart, 0)
    pairs = apart[np.triu_indices(len(apart), 1)]
    usual = float(np.median(pairs)) if len(pairs) else 0.0
    # all alike: nothing is new
    return np.minimum(apart / usual, 1) if usual > 0 else np.zeros_like(apart)


def _reason(candidate: Candidate, novelty: float, *, compared: bool) -> str:
    parts = []
    if candidate.n_doubtful:
        what = "object is" if candidate.n_doubtful == 1 else "objects are"
        parts.append(f"{candidate.n_doubtful} {what} neither surely right nor surely wrong")
    if candidate.n_disagreeing:
        what = "is" if candidate.n_disagreeing == 1 else "are"
        parts.append(f"{candidate.n_disagreeing} {what} missed in a mirrored view")
    if compared and novelty >= UNLIKE:
        parts.append("it looks unlike what is reviewed or suggested already")
    if not parts:
        parts.append("the model is sure of all it finds here; a look tells whether it is right")
    return _joined(parts)


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"
