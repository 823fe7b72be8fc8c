"""A choice of models, and of what they were taught."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox

from dinomask.adapt.promotion import current
from dinomask.config import SegmentConfig
from dinomask.errors import DinomaskError
from dinomask.nets.adapter_manifest import list_adapters, read_adapter_manifest
from dinomask.nets.catalogue import list_models, read_manifest

if TYPE_CHECKING:
    from qtpy.QtGui import QShowEvent

    from dinomask.nets.adapter_manifest import AdapterManifest
    from dinomask.nets.catalogue import Manifest

JOIN = " + "


class ModelCombo(QComboBox):
    """Models, each followed by its adapters as "tiny + powder".

    It looks again whenever it appears or is opened. An adapter that was promoted since then
    is chosen, one that was rolled back is left.
    """

    chosen = Signal()
    """Another one is chosen."""

    failed = Signal(object)
    """A `DinomaskError`: a model that can't be read."""

    def __init__(self) -> None:
        super().__init__()
        self._manifests: dict[str, Manifest] = {}
        self._adapters: dict[str, AdapterManifest] = {}
        self._in_use = ""
        self._told: set[str] = set()
        self.currentTextChanged.connect(lambda _: self.chosen.emit())

    def choose(self, model: str | None, adapter: str | None = None) -> None:
        """Choose a model, and an adapter on it, if they are there."""
        self.refresh()
        text = model or SegmentConfig.model
        self.setCurrentText(text if adapter is None else text + JOIN + adapter)

    @property
    def model(self) -> str:
        """Name of the model."""
        manifest = self.manifest
        return SegmentConfig.model if manifest is None else self._model_of(self.currentText())

    @property
    def adapter(self) -> str | None:
        """Name of the adapter on it; None for the bare checkpoint."""
        text = self.currentText()
        return text.partition(JOIN)[2] if text in self._adapters else None

    @property
    def manifest(self) -> Manifest | None:
        """Of the model; None before there is any."""
        return self._manifests.get(self._model_of(self.currentText()))

    @property
    def score_threshold(self) -> float | None:
        """Lowest score that model and adapter report."""
        found = self._adapters.get(self.currentText())
        if found is not None and found.score_threshold is not None:
            return found.score_threshold
        return None if self.manifest is None else self.manifest.score_threshold

    def refresh(self) -> None:
        """Look what there is now."""
        self._read()
        before = self.currentText()
        texts = []
        for name in self._manifests:
            texts += [name, *(text for text in self._adapters if self._model_of(text) == name)]
        in_use = self._find_in_use()
        wanted = before if before in texts else SegmentConfig.model
        if in_use != self._in_use:
            wanted, self._in_use = in_use, in_use
        with QSignalBlocker(self):
            if texts != [self.itemText(i) for i in range(self.count())]:
                self.clear()
                self.addItems(texts)
            self.setCurrentText(wanted if wanted in texts else SegmentConfig.model)
        if self.currentText() != before:
            self.chosen.emit()

    def showEvent(self, event: QShowEvent) -> None:
        """Look again when the panel appears."""
        super().showEvent(event)
        self.refresh()

    def showPopup(self) -> None:
        """Look again before the list drops down."""
        self.refresh()
        super().showPopup()

    def _read(self) -> None:
        self._manifests, self._adapters = {}, {}
        for name, folder in list_models().items():
            try:
                self._manifests[name] = read_manifest(folder)
            except DinomaskError as error:
                self._tell(name, error)
        by_hash = {m.weights_sha256: name for name, m in self._manifests.items()}
        for name, folder in list_adapters().items():
            try:
                manifest = read_adapter_manifest(folder)
            except DinomaskError as error:
                self._tell(name, error)
                continue
            if manifest.base_sha256 in by_hash:
                self._adapters[by_hash[manifest.base_sha256] + JOIN + name] = manifest

    def _find_in_use(self) -> str:
        manifest = self._manifests.get(SegmentConfig.model)
        name = None if manifest is None else current(manifest.weights_sha256)
        text = SegmentConfig.model + JOIN + (name or "")
        return text if text in self._adapters else SegmentConfig.model

    def _model_of(self, text: str) -> str:
        return text.partition(JOIN)[0] if text in self._adapters else text

    def _tell(self, name: str, error: DinomaskError) -> None:
        if name not in self._told:
            self._told.add(name)
            self.failed.emit(error)
