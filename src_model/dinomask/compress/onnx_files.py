"""Write a model as two ONNX files, for tiles of any size, readable in Netron."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.export import Dim

import dinomask
from dinomask.compress.exportable import Draw, Look
from dinomask.errors import BackendError
from dinomask.nets.backends.graphs import (
    IMAGE_CLASS,
    IOU,
    LOOK_OUTPUTS,
    MASK_LOGITS,
    POOLED,
    POOLED_DETAIL,
    SEMANTIC,
    TILES,
)
from dinomask.nets.backends.onnx import DRAW_FILE, LOOK_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import onnx

    from dinomask.nets.catalogue import Manifest
    from dinomask.nets.centermask import CenterMask

OPSET = 20
"""The first with GELU as one operation."""

MAX_PARAMETERS = 450_000_000
"""A file of more than 2 GB is not an ONNX file."""

SCOPES = "pkg.torch.onnx.name_scopes"


def reason_against_export(model: CenterMask) -> str | None:
    """Say why a model can't be written as ONNX; None if nothing speaks against it."""
    n = sum(p.numel() for p in model.parameters())
    if n > MAX_PARAMETERS:
        return f"its {n / 1e6:.0f} M parameters don't fit into one ONNX file of 2 GB"
    if model.config.merge_tokens:
        return "merging of tokens chooses by content, which a fixed graph can't"
    return None


def write_onnx(model: CenterMask, manifest: Manifest, folder: Path) -> tuple[Path, Path]:
    """Export the two graphs of a model.

    Parameters
    ----------
    model : stays as it is
    manifest : its name and hash go into the files
    folder : where `LOOK_FILE` and `DRAW_FILE` are written

    Returns
    -------
    the two files

    Raises
    ------
    BackendError
        If the backbone can't be exported for tiles of any size.
    """
    config = model.config
    outputs = list(LOOK_OUTPUTS)
    outputs += [SEMANTIC] if config.semantic_classes else []
    outputs += [IMAGE_CLASS] if config.image_classes else []
    tiles = torch.rand(2, 3, 112, 140)
    side = config.mask_px
    pooled = torch.rand(3, config.detail_width, side // 2, side // 2)
    detail = torch.rand(3, model.mask.detail.out_channels, side, side)
    open_tiles = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    look = _export(Look(model), {TILES: tiles}, outputs, {TILES: open_tiles}, config.backbone)
    draw = _export(
        Draw(model),
        {POOLED: pooled, POOLED_DETAIL: detail},
        [MASK_LOGITS, IOU],
        {POOLED: {0: Dim.DYNAMIC}, POOLED_DETAIL: {0: Dim.DYNAMIC}},
        config.backbone,
    )
    files = folder / LOOK_FILE, folder / DRAW_FILE
    sizes = ({0: "batch", 2: "height", 3: "width"}, {0: "objects"})
    for graph, file, names in zip((look, draw), files, sizes, strict=True):
        _finish(graph, manifest, names)
        _save(graph, file)
    return files


def _export(
    module: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: Sequence[str],
    open_sizes: dict[str, Any],
    backbone: str,
) -> onnx.ModelProto:
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=open_sizes,
                verbose=False,
            )
    # whatever the exporter stumbles over
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise BackendError(
            expected="a backbone that can be exported for tiles of any size",
            got=f"{backbone}: {str(cause).strip().splitlines()[0][:200]}",
            remedy="Keep the PyTorch checkpoint for it, or distil it into another backbone.",
        ) from error
    if program is None:  # only with the older exporter
        raise RuntimeError
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's hints to developers away from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _finish(graph: onnx.ModelProto, manifest: Manifest, names: dict[int, str]) -> None:
    """Name sizes and nodes for people, and say what the file is."""
    for node in graph.graph.node:
        scopes = {p.key: p.value for p in node.metadata_props}.get(SCOPES)
        modules = [s for s in ast.literal_eval(scopes) if "." in s] if scopes else []
        place = modules[-1].removeprefix("model.") if modules else ""
        node.name = f"{place}/{node.name}" if place else node.name
        del node.metadata_props[:]
    renamed: dict[str, str] = {}
    for value in graph.graph.input:
        for axis, name in names.items():
            dimension = value.type.tensor_type.shape.dim[axis]
            renamed[dimension.dim_param] = name
            dimension.dim_param = name
    for value in [*graph.graph.output, *graph.graph.value_info]:
        for dimension in value.type.tensor_type.shape.dim:
            for symbol, name in renamed.items() if dimension.dim_param else ():
                dimension.dim_param = dimension.dim_param.replace(symbol, name)
    graph.producer_name = "dinomask"
    graph.producer_version = dinomask.__version__
    graph.doc_string = (
        f"DINOmask model {manifest.name}. Tiles hold values around 0 to 1, sides are multiples"
        " of 14 px; boxes are chosen between the two graphs, see docs/compress.md."
    )
    for key, value in {
        "name": manifest.name,
        "source_sha256": manifest.weights_sha256,
        "licence": manifest.licence,
    }.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value


def _save(graph: onnx.ModelProto, file: Path) -> None:
    import onnx

    onnx.save_model(graph, file)
    onnx.checker.check_model(file, full_check=True)
