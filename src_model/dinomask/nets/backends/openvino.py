"""OpenVINO: the fastest way on Intel and AMD processors, and good on ARM."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dinomask.errors import BackendError
from dinomask.nets.artefact import source_title
from dinomask.nets.backends.graphs import TILES, GraphNetwork
from dinomask.nets.backends.run_on import Running

if TYPE_CHECKING:
    from pathlib import Path

    import openvino

    from dinomask.nets.backends.graphs import Array
    from dinomask.nets.backends.run_on import RunOn
    from dinomask.nets.catalogue import Manifest

LOOK_FILE, DRAW_FILE = "look.xml", "draw.xml"


def options_of(threads: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return how graphs are compiled."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        # left to itself it takes bfloat16 on processors where that is slower
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }


def load(folder: Path, manifest: Manifest, wanted: RunOn) -> Running:
    """Compile the graphs, see `dinomask.nets.backends.load_network`."""
    import openvino

    device = wanted.require_cpu("an OpenVINO model")
    dtype = wanted.dtype(manifest, device)
    options = options_of(wanted.threads, dtype)
    # what surrounds the graphs is PyTorch's
    torch.set_num_threads(wanted.threads)
    core = openvino.Core()
    try:
        look = core.read_model(folder / LOOK_FILE)
        draw = core.read_model(folder / DRAW_FILE)
        common = (wanted.batch, 3, wanted.tile_px, wanted.tile_px)
        looks = OpenVinoGraph(core, look, options, {TILES: common})
        draws = OpenVinoGraph(core, draw, options)
    except RuntimeError as error:
        source = "its source" if manifest.backend is None else source_title(manifest.backend)
        raise BackendError(
            expected=f"a model that OpenVINO {openvino.__version__} can read and compile",
            got=str(error).strip().splitlines()[-1],
            remedy=f"Make it anew on this machine with dinomask compress, or use {source}.",
        ) from error
    return Running(GraphNetwork(manifest.architecture, looks, draws, device), device, dtype)


class OpenVinoGraph:
    """A graph compiled for one shape that comes often, and for any other when one comes.

    Which of the two runs depends on the shape alone, so that results don't depend on
    what came before. Safe in threads, which take turns.

    Parameters
    ----------
    core, model, options : what to compile, and how
    common : shape of each input that comes most often; None compiles for any
    """

    def __init__(
        self,
        core: openvino.Core,
        model: openvino.Model,
        options: dict[str, Any],
        common: dict[str, tuple[int, ...]] | None = None,
    ) -> None:
        self._core, self._model, self._options = core, model, options
        self._common = common
        self._lock = threading.Lock()
        self._for_any: openvino.InferRequest | None = None
        if common is None:
            self._for_common = self._for_any = self._compile(model)
        else:
            fixed = model.clone()
            fixed.reshape({name: list(shape) for name, shape in common.items()})
            self._for_common = self._compile(fixed)

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """See `dinomask.nets.backends.graphs.Graph`."""
        with self._lock:
            request = self._request_for(inputs)
            found = request.infer(inputs, share_inputs=True)
            return {key.get_any_name(): np.array(value) for key, value in found.items()}

    def _request_for(self, inputs: dict[str, Array]) -> openvino.InferRequest:
        if self._common == {name: value.shape for name, value in inputs.items()}:
            return self._for_common
        if self._for_any is None:
            self._for_any = self._compile(self._model)
        return self._for_any

    def _compile(self, model: openvino.Model) -> openvino.InferRequest:
        return self._core.compile_model(model, "CPU", self._options).create_infer_request()
