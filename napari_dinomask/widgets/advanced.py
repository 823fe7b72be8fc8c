"""Settings that most users never open."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QSpinBox, QWidget
from superqt import QCollapsible

from dinomask.config import PATCH_PX, DetectConfig, SegmentConfig, TileConfig
from napari_dinomask.session import describe_field

if TYPE_CHECKING:
    from typing import Literal


_TILES = (8, 80)


class AdvancedForm(QCollapsible):
    """Object sizes, score threshold, tile size and device, folded away."""

    def __init__(self) -> None:
        super().__init__("Advanced", expandedIcon="▾", collapsedIcon="▸")
        self.setDuration(120)
        self.layout().setContentsMargins(0, 4, 0, 0)
        self.own_threshold = QCheckBox("Score at least")
        self.threshold = QDoubleSpinBox()
        self.threshold.setRange(0.0, 0.99)
        self.threshold.setSingleStep(0.05)
        self.own_threshold.toggled.connect(self.threshold.setEnabled)
        self.own_threshold.setChecked(DetectConfig.score_threshold is not None)
        self.threshold.setEnabled(self.own_threshold.isChecked())
        self.tile = QSpinBox()
        self.tile.setRange(_TILES[0] * PATCH_PX, _TILES[1] * PATCH_PX)
        self.tile.setSingleStep(4 * PATCH_PX)
        self.tile.setSuffix(" px")
        self.tile.setValue(TileConfig.tile_px)
        self.tile.editingFinished.connect(self._snap_tile)
        self.device_combo = QComboBox()
        self.device_combo.addItems(typing.get_args(typing.get_type_hints(SegmentConfig)["device"]))
        self.device_combo.setCurrentText(SegmentConfig.device)
        self.sizes_combo = QComboBox()
        self.sizes_combo.addItems(typing.get_args(typing.get_type_hints(SegmentConfig)["sizes"]))
        self.sizes_combo.setCurrentText(SegmentConfig.sizes)
        self._arrange()

    def _arrange(self) -> None:
        content = QWidget()
        form = QFormLayout(content)
        form.setContentsMargins(4, 0, 0, 0)
        form.addRow("Object sizes", self.sizes_combo)
        form.addRow(self.own_threshold, self.threshold)
        form.addRow("Tile side", self.tile)
        form.addRow("Device", self.device_combo)
        for widget, config, name in (
            (self.sizes_combo, SegmentConfig, "sizes"),
            (self.own_threshold, DetectConfig, "score_threshold"),
            (self.threshold, DetectConfig, "score_threshold"),
            (self.tile, TileConfig, "tile_px"),
            (self.device_combo, SegmentConfig, "device"),
        ):
            widget.setToolTip(describe_field(config, name))
        self.setContent(content)
        self.collapse(animate=False)

    @property
    def sizes(self) -> Literal["auto", "alike", "mixed"]:
        """Whether objects of very different sizes are looked for."""
        return typing.cast("Literal['auto', 'alike', 'mixed']", self.sizes_combo.currentText())

    @property
    def score_threshold(self) -> float | None:
        """Lowest score; None for the model's own."""
        return self.threshold.value() if self.own_threshold.isChecked() else None

    @property
    def tile_px(self) -> int:
        """Side of a tile, in model pixels."""
        return self.tile.value()

    @property
    def device(self) -> Literal["auto", "cpu", "cuda"]:
        """Where the network runs."""
        return typing.cast("Literal['auto', 'cpu', 'cuda']", self.device_combo.currentText())

    def show_threshold(self, score_threshold: float) -> None:
        """Show the model's own threshold until the user sets another."""
        if not self.own_threshold.isChecked():
            self.threshold.setValue(score_threshold)

    def _snap_tile(self) -> None:
        self.tile.setValue(round(self.tile.value() / PATCH_PX) * PATCH_PX)
