"""Backends: what can run a model, by the kind that its manifest names.

PyTorch runs checkpoints; the others run artefacts, folders that `dinomask.compress`
exports. All give a `dinomask.nets.network.Network`, so that nothing above knows which
one it has. A backend is added with a row in `LOADERS` and its name in
`dinomask.nets.artefact.Kind`; ``tests/contracts/test_backends.py`` then runs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dinomask.nets.artefact import require_files, require_runnable
from dinomask.nets.backends.run_on import Running, RunOn, choose_device, default_threads
from dinomask.nets.catalogue import find_model, read_manifest
from dinomask.nets.precision import processor_abilities

if TYPE_CHECKING:
    from dinomask.nets.catalogue import Manifest

__all__ = ["RunOn", "Running", "choose_device", "default_threads", "load_network"]

LOADERS = {
    "openvino": "dinomask.nets.backends.openvino",
    "onnx": "dinomask.nets.backends.onnx",
    "compiled": "dinomask.nets.backends.torch_compiled",
    "torch-int8": "dinomask.nets.backends.torch_int8",
}
"""Modules with a function `load(folder, manifest, wanted)`, imported when one is needed:
their libraries are optional."""


def load_network(name: str, wanted: RunOn) -> tuple[Running, Manifest]:
    """Load a model by name or folder into the backend that runs it.

    Raises
    ------
    ModelError
        If it is unknown, damaged, or doesn't fit its manifest.
    BackendError
        If its backend isn't installed, or can't run it on this machine.
    SettingsError
        If the device doesn't exist, or the backend doesn't run on it.
    """
    folder = find_model(name)
    manifest = read_manifest(folder)
    if manifest.backend is None:
        from dinomask.nets.backends.torch_eager import load

        return load(folder, wanted)
    require_runnable(manifest.backend, processor_abilities())
    require_files(folder, manifest.backend)
    module = importlib.import_module(LOADERS[manifest.backend.kind])
    running: Running = module.load(folder, manifest, wanted)
    return running, manifest
