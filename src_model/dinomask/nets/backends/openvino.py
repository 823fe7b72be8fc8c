"""OpenVINO: the fastest way on Intel and AMD processors, and good on ARM."""

from __future__ import annotations

import gzip
import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dinomask.config.model import SIDE_STEP_PX
from dinomask.errors import BackendError
from dinomask.nets.artefact import source_title
from dinomask.nets.backends.graphs import GraphNetwork
from dinomask.nets.backends.run_on import Running

if TYPE_CHECKING:
    from pathlib import Path

    import openvino

    from dinomask.nets.backends.graphs import Array
    from dinomask.nets.backends.run_on import RunOn
    from dinomask.nets.catalogue import Manifest

LOOK, DRAW = "look", "draw"

GRAPH_SUFFIX, WEIGHTS_SUFFIX = ".xml.gz", ".bin"
"""Graphs are verbose: packed they take a fifteenth, and no more than a few hundredths of what
their weights take."""

HALVED_FROM = 1024
"""Numbers of a constant from which it is worth a node that widens it."""

FIXED_FROM = 40_000_000
"""Values in all tiles of an image (thirteen megapixels) from which compiling for their shape, which
runs a sixth faster, takes less time than it saves. It takes 140 MB more, too."""

COARSE_STEP_PX = 2 * SIDE_STEP_PX
"""The first tile of a shape takes twice as long as the next ones, since code is made for it; with
this step there are few shapes, and a tile is 6 % larger in the mean."""

MOST_SHAPES = 16
"""A graph for any shape keeps weights laid out anew for each that came, 25 MB of the bundled
model's; after this many it is compiled again."""


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
        look, draw = read_graph(core, folder, LOOK), read_graph(core, folder, DRAW)
        looks, draws = (OpenVinoGraph(core, graph, options) for graph in (look, draw))
    except RuntimeError as error:
        source = "its source" if manifest.backend is None else source_title(manifest.backend)
        raise BackendError(
            expected=f"a model that OpenVINO {openvino.__version__} can read",
            got=str(error).strip().splitlines()[-1],
            remedy=f"Make it anew on this machine with dinomask compress, or use {source}.",
        ) from error
    return Running(GraphNetwork(manifest.architecture, looks, draws, device), device, dtype)


def write_graph(model: openvino.Model, folder: Path, name: str) -> list[Path]:
    """Write a graph packed, and its weights beside it; return the files.

    Weights in floating point that are left are written in half precision.
    """
    import openvino

    written = folder / f"{name}.xml"
    if _is_quantised(model):
        # of quantised graphs `save_model` leaves every constant as it is
        model = model.clone()
        _halve_constants(model)
    openvino.save_model(model, written, compress_to_fp16=True)
    packed = folder / f"{name}{GRAPH_SUFFIX}"
    # without a date, so that the same graph gives the same file
    packed.write_bytes(gzip.compress(written.read_bytes(), mtime=0))
    written.unlink()
    return [packed, folder / f"{name}{WEIGHTS_SUFFIX}"]


def _is_quantised(model: openvino.Model) -> bool:
    return any(op.get_type_name() == "FakeQuantize" for op in model.get_ops())


def _halve_constants(model: openvino.Model) -> None:
    """Hold in half precision what is exactly so, as a checkpoint's weights are; not scales."""
    from openvino import opset13

    for op in model.get_ops():
        if op.get_type_name() != "Constant" or op.get_element_type().get_type_name() != "f32":
            continue
        values = op.data
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size >= HALVED_FROM and np.array_equal(half.astype(np.float32), values):
            users = list(op.output(0).get_target_inputs())
            # names of our own: those that OpenVINO counts up differ from one writing to the next
            name = op.get_friendly_name()
            small = opset13.constant(half, name=f"{name}/half")
            back = opset13.convert(small, "f32", name=f"{name}/whole")
            for user in users:
                user.replace_source_output(back.output(0))


def read_graph(core: openvino.Core, folder: Path, name: str) -> openvino.Model:
    """Read a graph that `write_graph` wrote, or one that isn't packed."""
    import openvino

    packed = folder / f"{name}{GRAPH_SUFFIX}"
    if not packed.exists():
        return core.read_model(folder / f"{name}.xml")
    weights = np.fromfile(folder / f"{name}{WEIGHTS_SUFFIX}", np.uint8)
    return core.read_model(gzip.decompress(packed.read_bytes()), openvino.Tensor(weights))


class OpenVinoGraph:
    """A graph compiled for any shape, and for one shape if many inputs of it are expected.

    Nothing is compiled before it is needed: it takes a second or two and memory. Safe in
    threads, which take turns.

    Parameters
    ----------
    core, model, options : what to compile, and how
    """

    def __init__(
        self,
        core: openvino.Core,
        model: openvino.Model,
        options: dict[str, Any],
    ) -> None:
        self._core, self._model, self._options = core, model, options
        self._common: dict[str, tuple[int, ...]] | None = None
        self._lock = threading.Lock()
        self._seen: set[tuple[tuple[int, ...], ...]] = set()
        self._for_any: openvino.InferRequest | None = None
        self._for_common: openvino.InferRequest | None = None

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """See `dinomask.nets.backends.graphs.Graph`."""
        with self._lock:
            request = self._request_for(inputs)
            found = request.infer(inputs, share_inputs=True)
            return {key.get_any_name(): np.array(value) for key, value in found.items()}

    @property
    def side_step_px(self) -> int:
        """Coarse, so that tiles of images of any sizes share shapes."""
        return COARSE_STEP_PX

    def expect(self, shapes: dict[str, tuple[int, ...]], n_calls: int) -> None:
        """See `dinomask.nets.backends.graphs.Graph`."""
        pays = n_calls * sum(map(math.prod, shapes.values())) >= FIXED_FROM
        common = shapes if pays else None
        with self._lock:
            if common != self._common:
                self._common, self._for_common = common, None

    def _request_for(self, inputs: dict[str, Array]) -> openvino.InferRequest:
        if self._common == {name: value.shape for name, value in inputs.items()}:
            if self._for_common is None:
                fixed = self._model.clone()
                fixed.reshape({name: list(shape) for name, shape in self._common.items()})
                self._for_common = self._compile(fixed)
            return self._for_common
        shapes = tuple(inputs[name].shape for name in sorted(inputs))
        if shapes not in self._seen and len(self._seen) == MOST_SHAPES:
            self._for_any = None
            self._seen.clear()
        self._seen.add(shapes)
        if self._for_any is None:
            self._for_any = self._compile(self._model)
        return self._for_any

    def _compile(self, model: openvino.Model) -> openvino.InferRequest:
        import openvino

        try:
            return self._core.compile_model(model, "CPU", self._options).create_infer_request()
        except RuntimeError as error:
            raise BackendError(
                expected=f"a model that OpenVINO {openvino.__version__} can compile",
                got=str(error).strip().splitlines()[-1],
                remedy="Make it anew on this machine with dinomask compress, or use the checkpoint"
                " it was made of.",
            ) from error
