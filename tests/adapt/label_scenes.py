"""Random label images, and random corrections of them."""

from __future__ import annotations

import numpy as np
import zarr
from hypothesis import strategies as st

from dinomask.adapt import corrections
from dinomask.adapt.label_store import ArrayStore, PyramidStore
from dinomask.errors import CorrectionError
from dinomask.tiles.edit import LabelPyramid

SHAPE_YX = (24, 31)


def scene(seed: int, shape=SHAPE_YX, n: int = 9, dtype=np.uint16) -> np.ndarray:
    """Discs and specks of 1 to 3 pixels, some touching, some across the border."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    for place in np.ndindex(shape[:-2]):
        for label in range(1, n + 1):
            cy, cx = rng.uniform(-2, shape[-2] + 2), rng.uniform(-2, shape[-1] + 2)
            radius = rng.choice([0.7, 1.2, 3.0, 6.0])
            labels[place][(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = label
    return labels


def pyramid_of(labels: np.ndarray, path, chunk_px: int = 16) -> PyramidStore:
    """The same labels on disk, with a level of half the size."""
    group = zarr.create_group(path, zarr_format=3)
    for k in range(2):
        level = labels[..., :: 2**k, :: 2**k]
        chunks = (1,) * (labels.ndim - 2) + (chunk_px, chunk_px)
        array = group.create_array(str(k), shape=level.shape, chunks=chunks, dtype=labels.dtype)
        array[...] = level
    group.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "0"}, {"path": "1"}]}]}
    return PyramidStore(LabelPyramid.open(path, writable=True), {})


def pixels(store) -> np.ndarray:
    """All labels of a store."""
    if isinstance(store, ArrayStore):
        return store.labels.copy()
    return np.asarray(store.pyramid.levels[0][...])


wishes = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(
            ["add", "remove", "redraw", "merge", "split", "classify", "accept"]
        ),
        "seed": st.integers(0, 2**16),
        "keep_others": st.booleans(),
    }
)
"""What a user may want to do next, whatever the labels show by then."""


def plan(store, wish: dict):
    """Turn a wish into a correction; None where the labels offer nothing to do it to."""
    rng = np.random.default_rng(wish["seed"])
    plane = tuple(int(rng.integers(n)) for n in store.leading)
    height, width = store.shape_yx
    labels_yx = store.read((0, 0, height, width), plane)
    there = [int(n) for n in np.unique(labels_yx) if n]
    picked = [int(n) for n in rng.permutation(there)[: int(rng.integers(2, 4))]]
    mask = rng.random(rng.integers(1, 9, 2)) < 0.7
    corner = (int(rng.integers(-4, height)), int(rng.integers(-4, width)))
    kind = wish["kind"]
    try:
        if kind == "add":
            how = {"keep_others": wish["keep_others"], "class_id": int(rng.integers(3))}
            return corrections.add(store, mask, corner, plane=plane, **how)
        if not picked:
            return None
        if kind == "redraw":
            how = {"keep_others": wish["keep_others"]}
            return corrections.redraw(store, picked[0], mask, corner, plane=plane, **how)
        if kind == "merge":
            gap = int(rng.integers(0, 3))
            return corrections.merge(store, picked, plane=plane, fill_gap_px=gap)
        if kind == "split":
            y, x = np.nonzero(labels_yx == picked[0])
            middle = np.array([y.mean(), x.mean()]) + 0.5
            way = rng.normal(size=2)
            line = np.stack([middle - 3 * way, middle + rng.uniform(0, 9) * way])
            return corrections.split(store, picked[0], line, plane=plane)
        if kind == "classify":
            return corrections.classify(store, picked[0], int(rng.integers(4)), plane=plane)
        return getattr(corrections, kind)(store, picked[0], plane=plane)
    except CorrectionError:
        return None
