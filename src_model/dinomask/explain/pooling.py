"""Features of objects: tokens averaged over each object's pixels, whatever the image's size."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from dinomask.config import SegmentConfig
from dinomask.explain.alignment import Alignment
from dinomask.explain.measure_labels import measure_labels, open_labels, read_table
from dinomask.explain.objects import ObjectFeatures, join_table
from dinomask.explain.tokens import TokenSource
from dinomask.run.checks import check_diameter
from dinomask.run.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from dinomask.image.source import Image
    from dinomask.instances import Array
    from dinomask.run.progress import OnProgress


def object_features(
    image: Image,
    labels: object,
    *,
    table: pd.DataFrame | None = None,
    layers: Sequence[int] = (),
    config: SegmentConfig | None = None,
    predictor: Predictor | None = None,
    name: str | None = None,
    on_progress: OnProgress | None = None,
) -> ObjectFeatures:
    """Compute what the model sees in each object of a label image.

    An object's vector is the mean of the tokens under it, each weighted by how many of
    the object's pixels have their middle in the token's cell. So the smallest object
    has a vector, too: that of the cell it lies in. Tiles are brought to agree where they
    overlap (`dinomask.explain.alignment`), so that objects don't differ by the tile they
    lie in. Tiles without objects are not shown
    to the network, and what a tile gives is added up at once, so memory grows with the
    number of objects and not with the image.

    Parameters
    ----------
    image : any size
    labels : label image of that size: a file, a zarr, an array or a napari layer
    table : what is known of the objects, by the column ``id``; None takes the run's
        table beside a label file, if there is one
    layers : of the backbone; negative ones count from the last; none takes the one at
        three quarters of the depth
    config : model, adapter, channels, tiles; a diameter of ``auto`` is measured from
        the labels
    predictor : a loaded model; None loads that of `config`
    name : of the image, in the column ``image``; None takes the image's own
    on_progress : told after each step; may raise to stop

    Raises
    ------
    InputError
        If image or labels can't be used, or don't fit.
    SettingsError
        If there is no such layer, or the diameter can't be.
    ModelError
        If the model can't be loaded.
    ExplainError
        If the table can't be joined.
    """
    config = config or SegmentConfig()
    check_diameter(config.diameter_px, image.shape_yx)
    opened = open_labels(labels, image.shape_yx)
    measured = measure_labels(opened, on_progress)
    known = read_table(labels) if table is None else table
    rows = measured if known is None else join_table(measured, known)
    rows.insert(0, "image", name or image.name)
    predictor = Predictor.of(config, predictor)
    config = dataclasses.replace(config, diameter_px=_diameter_px(measured, config, predictor))
    source = TokenSource.of(image, layers, config, predictor)
    features = _pool(source, opened, measured["id"].to_numpy(), on_progress)
    return ObjectFeatures(rows, features, describe_model(predictor))


def describe_model(predictor: Predictor) -> dict[str, str | None]:
    """Return what features depend on: name and hash of the model, and the adapter's hash."""
    manifest = predictor.manifest
    return {
        "name": manifest.name,
        "sha256": manifest.weights_sha256,
        "adapter_sha256": predictor.adapter_sha256,
    }


def _diameter_px(measured: pd.DataFrame, config: SegmentConfig, predictor: Predictor) -> float:
    """Return the diameter of the settings, else the median of the objects."""
    if config.diameter_px != "auto":
        return config.diameter_px
    if not len(measured):
        return predictor.target_diameter_px
    return float(np.median(np.sqrt(measured["area_px"] * 4 / np.pi)))


def _pool(
    source: TokenSource, labels: Image, ids: Array, on_progress: OnProgress | None
) -> dict[int, Array]:
    """Average the tokens under each object; `ids` ascending."""
    sums = {layer: np.zeros((len(ids), source.width(layer))) for layer in source.layers}
    places, alignment = _Places.of(source), Alignment(source.plan)
    # which objects a tile gives how many pixels of
    parts: dict[int, tuple[Array, Array]] = {}
    busy = [i for i in range(len(source.plan)) if places.holds_objects(labels, i)]
    for tile, tokens in source.look(busy, "features", on_progress, alignment):
        owner, y, x = places.pixels(labels, tile.core_yxyx)
        objects, local, n_pixels = np.unique(
            np.searchsorted(ids, owner), return_inverse=True, return_counts=True
        )
        parts[tile.index] = objects, n_pixels
        for layer, cells in tokens.items():
            here = places.cells(y, x, tile.core_yxyx, source.cells_a_patch(layer))
            shape = (len(objects), cells.shape[0] * cells.shape[1])
            counts: Any = sparse.coo_array((np.ones(len(local)), (local, here)), shape)
            sums[layer][objects] += counts.tocsr() @ cells.reshape(-1, cells.shape[2])
    total = np.zeros((len(ids), 1))
    for objects, n_pixels in parts.values():
        total[objects, 0] += n_pixels
    for layer in source.layers:
        for index, offset in alignment.offsets(layer).items():
            objects, n_pixels = parts[index]
            sums[layer][objects] += n_pixels[:, None] * offset
    return {layer: (s / np.maximum(total, 1)).astype(np.float32) for layer, s in sums.items()}


@dataclasses.dataclass(frozen=True)
class _Places:
    """Which pixels of the image lie in which patches."""

    source: TokenSource
    patches: tuple[Array, Array]

    @staticmethod
    def of(source: TokenSource) -> _Places:
        return _Places(source, (source.rows_of_patches(0), source.rows_of_patches(1)))

    def window(self, core_yxyx: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Return the pixels whose middle lies in a tile's core; may be empty."""
        y0, x0, y1, x1 = core_yxyx
        top, bottom = np.searchsorted(self.patches[0], [y0, y1]).tolist()
        left, right = np.searchsorted(self.patches[1], [x0, x1]).tolist()
        return top, left, bottom, right

    def holds_objects(self, labels: Image, index: int) -> bool:
        """Tell whether there is anything in a tile's core."""
        top, left, bottom, right = self.window(self.source.plan[index].core_yxyx)
        if top == bottom or left == right:
            return False
        return bool((labels.read((top, left, bottom, right)) > 0).any())

    def pixels(
        self, labels: Image, core_yxyx: tuple[int, int, int, int]
    ) -> tuple[Array, Array, Array]:
        """Return label, y and x of the objects' pixels in a tile's core, shape (n,) each."""
        window = self.window(core_yxyx)
        labels_yx = labels.read(window)[0]
        y, x = np.nonzero(labels_yx > 0)
        return labels_yx[y, x], y + window[0], x + window[1]

    def cells(self, y: Array, x: Array, core_yxyx: tuple[int, int, int, int], k: int) -> Array:
        """Return the cell of a core that holds each pixel's middle, k cells a patch."""
        y0, x0, y1, x1 = core_yxyx
        across = (x1 - x0) * k
        row, column = (
            self._along(axis, values, start, end, k)
            for axis, values, start, end in ((0, y, y0, y1), (1, x, x0, x1))
        )
        return np.asarray(row * across + column)

    def _along(self, axis: int, values: Array, start: int, end: int, k: int) -> Array:
        if k == 1:
            return np.asarray(self.patches[axis][values] - start)
        cells = np.floor((values + 0.5) * (k / self.source.cell_px)).astype(np.int64)
        return np.clip(cells - start * k, 0, (end - start) * k - 1)
