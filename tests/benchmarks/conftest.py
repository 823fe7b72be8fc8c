"""Scripts in benchmarks/ find their parts beside themselves; so must their tests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY
from tests.train.scenes import write_folder

if TYPE_CHECKING:
    from pathlib import Path

sys.path.append(str(REPOSITORY / "benchmarks"))


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    """Six images of discs: four to train on, of two modalities, and two to validate."""
    index = ["name,split,modality"]
    index += [f"scene{i},train,{'ab'[i // 3]}" for i in range(4)]
    index += ["scene4,val,a", "scene5,val,b"]
    return write_folder(tmp_path / "discs", 6, index)
