"""Settings and fixtures of the whole suite."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# how long an example takes depends on what else the machine does
settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=300)
settings.load_profile("quick")

# before anything imports napari or numpy: tests neither read nor write the user's napari
# settings, models, adapters in use and jobs, and one thread a test is faster and steadier
# beside other work
_settings_folder = tempfile.TemporaryDirectory(prefix="dinomask-tests-")
os.environ["NAPARI_CONFIG"] = str(Path(_settings_folder.name) / "settings.yaml")
os.environ["DINOMASK_MODELS"] = str(Path(_settings_folder.name) / "models")
os.environ["DINOMASK_JOBS"] = str(Path(_settings_folder.name) / "jobs")
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip -m gpu on a machine without CUDA."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of annotated real images, one data set a folder."""
    folder = os.environ.get("DINOMASK_DATA")
    if not folder:
        pytest.skip("DINOMASK_DATA is not set")
    if not Path(folder).is_dir():
        pytest.fail(f"DINOMASK_DATA is no folder: {folder}")
    return Path(folder)


@pytest.fixture(scope="session")
def sample_nuclei() -> Path:
    """A generated image of 114 fluorescent nuclei: (512, 512), uint16, 0.5 µm a pixel."""
    return REPOSITORY / "sample_data" / "nuclei.tif"


@pytest.fixture(scope="session")
def sample_nuclei_labels() -> Path:
    """The label image that `sample_nuclei` was drawn from."""
    return REPOSITORY / "sample_data" / "nuclei_labels.tif"
