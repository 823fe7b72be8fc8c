"""ONNX Runtime: runs anywhere; on NVIDIA cards through CUDA or TensorRT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dinomask.config.model import SIDE_STEP_PX
from dinomask.errors import BackendError, SettingsError
from dinomask.nets.artefact import source_title
from dinomask.nets.backends.graphs import GraphNetwork
from dinomask.nets.backends.run_on import Running

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime

    from dinomask.nets.backends.graphs import Array
    from dinomask.nets.backends.run_on import RunOn
    from dinomask.nets.catalogue import Manifest

LOOK_FILE, DRAW_FILE = "look.onnx", "draw.onnx"

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


def load(folder: Path, manifest: Manifest, wanted: RunOn) -> Running:
    """Start a session a graph, see `dinomask.nets.backends.load_network`."""
    import onnxruntime

    providers = _providers(wanted, onnxruntime.get_available_providers(), manifest)
    # tiles stay in main memory, from where ONNX Runtime takes them to its device
    device = torch.device("cpu")
    torch.set_num_threads(wanted.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = wanted.threads
    options.inter_op_num_threads = 1
    # warnings about nodes that stay on the CPU are of no use to a user
    options.log_severity_level = 3
    try:
        looks, draws = (
            OnnxGraph(onnxruntime.InferenceSession(folder / file, options, providers=providers))
            for file in (LOOK_FILE, DRAW_FILE)
        )
    # its errors share no class of their own
    except Exception as error:
        source = "its source" if manifest.backend is None else source_title(manifest.backend)
        raise BackendError(
            expected=f"a model that ONNX Runtime {onnxruntime.__version__} can load",
            got=str(error).strip().splitlines()[0][:300],
            remedy=f"Make it anew with dinomask compress, or use {source}.",
        ) from error
    return Running(GraphNetwork(manifest.architecture, looks, draws, device), device)


def _providers(wanted: RunOn, available: list[str], manifest: Manifest) -> list[str]:
    """Choose what runs the graphs, the best first."""
    cards = [CUDA]
    if manifest.backend is not None and manifest.backend.notes.get("tensorrt"):
        cards = [TENSORRT, CUDA]
    cards = [provider for provider in cards if provider in available]
    if wanted.device == "cuda" and not cards:
        raise SettingsError(
            expected="an ONNX Runtime that runs on CUDA",
            got="one for the CPU only",
            remedy="Install onnxruntime-gpu in its place, or use --device cpu.",
        )
    return [CPU] if wanted.device == "cpu" else [*cards, CPU]


class OnnxGraph:
    """A graph in a session of ONNX Runtime, which is safe in threads."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._names = [output.name for output in session.get_outputs()]

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """See `dinomask.nets.backends.graphs.Graph`."""
        return dict(zip(self._names, self._session.run(None, inputs), strict=True))

    @property
    def side_step_px(self) -> int:
        """The least, as a session takes any shape alike."""
        return SIDE_STEP_PX

    def expect(self, shapes: dict[str, tuple[int, ...]], n_calls: int) -> None:
        """Do nothing, for the same reason."""
