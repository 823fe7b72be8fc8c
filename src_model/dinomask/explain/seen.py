"""An image as the model sees it: scaled to the objects' size, cut into tiles."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from dinomask.config import SegmentConfig
from dinomask.errors import InputError, SettingsError
from dinomask.image.doctor import examine, require_usable
from dinomask.image.normalise import Normaliser, fit_normaliser
from dinomask.image.resample import read_scaled
from dinomask.run.checks import check_diameter
from dinomask.run.predictor import Predictor
from dinomask.run.size import estimate_diameter
from dinomask.tiles.plan import Tile, TilePlan, plan_tiles

if TYPE_CHECKING:
    from dinomask.image.source import Image
    from dinomask.instances import Array
    from dinomask.run.progress import OnProgress

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class GridPlace:
    """Where a map of square cells lies in an image.

    Cell (i, j) covers ``origin + cell · [i, i + 1) × [j, j + 1)``.

    Attributes
    ----------
    origin_yx_px : corner of the first cell, in image pixels; negative where the map
        overhangs the image
    cell_yx_px : height and width of a cell, in image pixels
    """

    origin_yx_px: Point
    cell_yx_px: Point

    def cells_at(self, points_yx_px: Array) -> Array:
        """Return the cells that hold points of the image, shape (N, 2), int64; may lie outside."""
        points = np.asarray(points_yx_px, np.float64).reshape(-1, 2)
        cells = (points - self.origin_yx_px) / self.cell_yx_px
        return np.floor(cells).astype(np.int64)

    def draw(self, map_yx: Array, window_yxyx_px: tuple[int, int, int, int]) -> Array:
        """Give each pixel of a window of the image the value of the cell that holds its middle.

        Parameters
        ----------
        map_yx : shape (h, w)
        window_yxyx_px : half-open; pixels beyond the map get its nearest cell

        Returns
        -------
        shape (y1 - y0, x1 - x0)
        """
        y0, x0, y1, x1 = window_yxyx_px
        rows, columns = (
            np.clip(np.floor((np.arange(a, b) + 0.5 - o) / c).astype(np.int64), 0, n - 1)
            for a, b, o, c, n in zip(
                (y0, x0), (y1, x1), self.origin_yx_px, self.cell_yx_px, map_yx.shape, strict=True
            )
        )
        return np.asarray(map_yx[np.ix_(rows, columns)])


@dataclasses.dataclass(frozen=True)
class SeenImage:
    """An image, a model, and how the one is shown to the other.

    Attributes
    ----------
    predictor : the model
    image, normaliser : what it sees
    plan : the tiles, as a segmentation cuts them
    model_name : how the model is found, by name or folder
    """

    predictor: Predictor
    image: Image
    normaliser: Normaliser
    plan: TilePlan
    model_name: str = SegmentConfig.model

    @staticmethod
    def of(
        image: Image,
        config: SegmentConfig,
        predictor: Predictor | None = None,
        on_progress: OnProgress | None = None,
    ) -> SeenImage:
        """Prepare an image as a segmentation with these settings would.

        Raises
        ------
        InputError
            If the image can't be used, or no object tells its size.
        SettingsError
            If the diameter doesn't fit the image.
        ModelError
            If the model can't be loaded.
        """
        check_diameter(config.diameter_px, image.shape_yx)
        require_usable(examine(image))
        normaliser = fit_normaliser(image, config.normalise)
        predictor = Predictor.of(config, predictor)
        diameter_px: float | None
        if config.diameter_px == "auto":
            estimate = estimate_diameter(image, normaliser, predictor, on_progress)
            diameter_px = estimate.diameter_px
        else:
            diameter_px = config.diameter_px
        if diameter_px is None:
            raise InputError(
                expected="objects whose size can be estimated",
                got="an image in which the model sees none",
                remedy="Give the diameter of an object in pixels (--diameter).",
            )
        scale = predictor.target_diameter_px / diameter_px
        plan = plan_tiles(image.shape_yx, scale, config.tiles)
        return SeenImage(predictor, image, normaliser, plan, config.model)

    @property
    def name(self) -> str:
        """The model with its adapter, for captions."""
        adapter = self.predictor.adapter
        return self.predictor.manifest.name + (f" with {adapter.name}" if adapter else "")

    def with_model(self, model: str, adapter: str | None, config: SegmentConfig) -> SeenImage:
        """Return the same image, in the same tiles, as another model sees it.

        Parameters
        ----------
        config : device and threads

        Raises
        ------
        ModelError
            If it can't be loaded.
        SettingsError
            If it wants objects of another size.
        """
        other = Predictor.load(dataclasses.replace(config, model=model, adapter=adapter))
        if other.target_diameter_px != self.predictor.target_diameter_px:
            raise SettingsError(
                expected=f"a model for objects of {self.predictor.target_diameter_px:g} px",
                got=f"one for {other.target_diameter_px:g} px",
                remedy="Compare models that see images at the same scale.",
            )
        return dataclasses.replace(self, predictor=other, model_name=model)

    def tile_at(self, point_yx_px: Point) -> Tile:
        """Return the tile that owns a point of the image.

        Raises
        ------
        InputError
            If the point lies outside the image.
        """
        shape_yx = self.plan.shape_yx
        if not all(0 <= v < n for v, n in zip(point_yx_px, shape_yx, strict=True)):
            raise InputError(
                expected=f"a point within {shape_yx[0]} x {shape_yx[1]} pixels",
                got=f"y {point_yx_px[0]:g}, x {point_yx_px[1]:g}",
                remedy="Choose a point on the image.",
            )
        return self.plan[int(self.plan.tiles_at(np.array([point_yx_px]))[0])]

    def read(self, tile: Tile) -> torch.Tensor:
        """Return what the network sees of a tile, shape (1, 3, H, W), on its device."""
        pixels = read_scaled(self.image, self.normaliser, self.plan.scale, tile.read_yxyx_px)
        return torch.from_numpy(pixels[None]).to(
            self.predictor.device, memory_format=torch.channels_last
        )

    def place(self, tile: Tile, stride_px: float) -> GridPlace:
        """Return where a map of a tile lies whose cells are `stride_px` model pixels wide."""
        top, left, _, _ = tile.read_yxyx_px
        scale = self.plan.scale
        cell = stride_px / scale
        return GridPlace((top / scale, left / scale), (cell, cell))

    def to_model(self, tile: Tile, point_yx_px: Point) -> Point:
        """Return a point of the image in the tile's own model pixels."""
        top, left, _, _ = tile.read_yxyx_px
        return point_yx_px[0] * self.plan.scale - top, point_yx_px[1] * self.plan.scale - left
