"""Methods that make models for ONNX Runtime: floating point, 8 bits, TensorRT."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from typing import TYPE_CHECKING, Any

import torch

from dinomask.compress.artefacts import (
    FLOAT_TOLERANCE,
    SATURATES,
    Artefact,
    reason_against_sums,
    reason_without,
)
from dinomask.compress.calibration import Calibration
from dinomask.compress.exportable import require_same
from dinomask.compress.onnx_files import reason_against_export, write_onnx
from dinomask.nets.backends.graphs import GraphNetwork
from dinomask.nets.backends.onnx import CPU, TENSORRT, OnnxGraph

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config.compress import Int8Settings
    from dinomask.nets.backends.graphs import Array

NEEDED = ("onnxruntime", "onnx", "onnxscript")

HEADS = ("detector.", "pyramid.", "mask.", "mask_iou.")
"""Places of what lies behind the backbone, left in floating point where objects change."""


class Onnx:
    """Export for ONNX Runtime in float32.

    Attributes
    ----------
    tensorrt : whether NVIDIA's TensorRT shall run it
    """

    def __init__(self, *, tensorrt: bool = False) -> None:
        self.tensorrt = tensorrt

    def reason_against(self, subject: Subject, settings: None) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        reason = reason_without(NEEDED) or reason_against_export(subject.model)
        if reason is None and self.tensorrt:
            import onnxruntime

            if TENSORRT not in onnxruntime.get_available_providers():
                return (
                    "this ONNX Runtime has no TensorRT; it needs an NVIDIA card, TensorRT and"
                    " onnxruntime-gpu in place of onnxruntime"
                )
        return reason

    def apply(self, subject: Subject, settings: None, work: Work) -> Subject:
        """Write the two graphs."""
        files = _export(subject, work)
        notes = {"tensorrt": True} if self.tensorrt else None
        artefact = Artefact.of(work, "onnx", files, ["onnxruntime"], notes=notes)
        return dataclasses.replace(subject, artefact=artefact)


class Int8Onnx:
    """Static quantisation to 8 bits: weights a channel, activations a tensor, as QDQ nodes."""

    def reason_against(self, subject: Subject, settings: Int8Settings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return (
            reason_against_sums() or reason_without(NEEDED) or reason_against_export(subject.model)
        )

    def apply(self, subject: Subject, settings: Int8Settings, work: Work) -> Subject:
        """Quantise; all but the backbone stays in float where objects would change too much."""
        calibration = Calibration.of(subject, work)
        float_files = _export(subject, work)
        inputs = (list(calibration.look_inputs()), calibration.pooled)
        best: tuple[float, list[Path], bool] | None = None
        for rung, heads_in_float in enumerate((False, True)):
            files = []
            for file, seen in zip(float_files, inputs, strict=True):
                out = _place(work.folder / f"int8_{rung}", file)
                _static(file, out, seen, HEADS if heads_in_float else ())
                files.append(out)
                work.tell(len(files) + 2 * rung, 4)
            agreement = calibration.judge.agreement(_network(subject, files))
            if best is None or agreement > best[0]:
                best = agreement, files, heads_in_float
            if agreement >= settings.least_agreement:
                break
        agreement, files, heads_in_float = best or (0.0, list(float_files), True)
        calibration.judge.tell(agreement, settings.least_agreement, work)
        notes = {
            "tiles": len(calibration.tiles),
            "agreement_ap50": round(agreement, 4),
            "float_layers": list(HEADS) if heads_in_float else [],
        }
        return _int8(subject, files, work, notes)


class Int8OnnxDynamic:
    """Dynamic quantisation of matrix products: nothing to calibrate, ranges as they come."""

    def reason_against(self, subject: Subject, settings: None) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return (
            reason_against_sums() or reason_without(NEEDED) or reason_against_export(subject.model)
        )

    def apply(self, subject: Subject, settings: None, work: Work) -> Subject:
        """Quantise weights a channel; convolutions stay in float."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        files = []
        for file in _export(subject, work):
            out = _place(work.folder / "int8", file)
            with _quiet():
                quantize_dynamic(
                    file,
                    out,
                    op_types_to_quantize=["MatMul", "Gemm"],
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                )
            files.append(out)
        return _int8(subject, files, work, {"dynamic": True})


def _export(subject: Subject, work: Work) -> list[Path]:
    files = list(write_onnx(subject.model, subject.manifest, work.folder))
    require_same(_network(subject, files), subject.model, FLOAT_TOLERANCE)
    return files


def _int8(subject: Subject, files: Iterable[Path], work: Work, notes: dict[str, Any]) -> Subject:
    artefact = Artefact.of(
        work,
        "onnx",
        list(files),
        ["onnxruntime"],
        precision="int8",
        processor=SATURATES,
        notes=notes,
    )
    return dataclasses.replace(subject, artefact=artefact)


def _static(
    file: Path, out: Path, inputs: list[dict[str, Array]], in_float: tuple[str, ...]
) -> None:
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Gives one input after the other, as the library asks for them."""

        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, Array] | None:
            """Return the next input, None at the end."""
            return next(self._left, None)

    names = [node.name for node in onnx.load(file).graph.node]
    with _quiet():
        quantize_static(
            file,
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[name for name in names if name.startswith(in_float)]
            if in_float
            else [],
            # products of two activations (attention) stay in float
            extra_options={"MatMulConstBOnly": True},
        )


def _network(subject: Subject, files: list[Path]) -> GraphNetwork:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    looks, draws = (
        OnnxGraph(onnxruntime.InferenceSession(file, options, providers=[CPU])) for file in files
    )
    return GraphNetwork(subject.model.config, looks, draws, torch.device("cpu"))


def _place(folder: Path, file: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / file.name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's advice to developers away from the user."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


ONNX = Onnx()
TENSOR_RT = Onnx(tensorrt=True)
INT8_ONNX = Int8Onnx()
INT8_ONNX_DYNAMIC = Int8OnnxDynamic()
