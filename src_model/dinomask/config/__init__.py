"""The one home of every default.

Frozen dataclasses, a docstring a field, units in the names. The command line
and the napari forms are derived from these classes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dinomask.config.bench import BenchConfig
from dinomask.config.compress import (
    BlockPruneSettings,
    ChannelPruneSettings,
    CoarseSettings,
    CompressConfig,
    DistilSettings,
    HeadPruneSettings,
    LoraSparsifySettings,
    MlpPruneSettings,
    QatSettings,
    ShareSettings,
    SparsifySettings,
    SvdSettings,
    TokenMergeSettings,
    WindowSettings,
)
from dinomask.config.fit import FitConfig
from dinomask.config.model import LORA_TARGETS, PATCH_PX, QKV_PARTS, LoraSettings, ModelConfig
from dinomask.config.objects import ClusterConfig, MapConfig, ProbeConfig
from dinomask.config.planes import LINK_IOU, PlanesConfig
from dinomask.config.segment import (
    MIN_DIAMETER_PX,
    DetectConfig,
    EngineConfig,
    NormaliseConfig,
    SegmentConfig,
    TileConfig,
)
from dinomask.config.shape import NetworkShape
from dinomask.config.tasks import BalanceConfig
from dinomask.config.teach import TeachConfig
from dinomask.config.train import AugmentConfig, TrainConfig
from dinomask.config.tune import SearchSpace, TuneConfig

__all__ = [
    "LINK_IOU",
    "LORA_TARGETS",
    "MIN_DIAMETER_PX",
    "PATCH_PX",
    "QKV_PARTS",
    "AugmentConfig",
    "BalanceConfig",
    "BenchConfig",
    "BlockPruneSettings",
    "ChannelPruneSettings",
    "ClusterConfig",
    "CoarseSettings",
    "CompressConfig",
    "DetectConfig",
    "DistilSettings",
    "EngineConfig",
    "FitConfig",
    "HeadPruneSettings",
    "LoraSettings",
    "LoraSparsifySettings",
    "MapConfig",
    "MlpPruneSettings",
    "ModelConfig",
    "NetworkShape",
    "NormaliseConfig",
    "PlanesConfig",
    "ProbeConfig",
    "QatSettings",
    "SearchSpace",
    "SegmentConfig",
    "ShareSettings",
    "SparsifySettings",
    "SvdSettings",
    "TeachConfig",
    "TileConfig",
    "TokenMergeSettings",
    "TrainConfig",
    "TuneConfig",
    "WindowSettings",
    "as_dict",
]


def as_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dictionaries, for json and hashing."""
    return dataclasses.asdict(config)
