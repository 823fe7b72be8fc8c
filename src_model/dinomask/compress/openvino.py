"""Methods that make models for OpenVINO: in floating point, and quantised by NNCF."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from typing import TYPE_CHECKING, Any

import torch

from dinomask.compress.artefacts import FLOAT_TOLERANCE, Artefact, reason_without
from dinomask.compress.calibration import Calibration
from dinomask.compress.exportable import require_same
from dinomask.compress.onnx_files import reason_against_export, write_onnx
from dinomask.nets.backends.graphs import GraphNetwork
from dinomask.nets.backends.openvino import DRAW, LOOK, OpenVinoGraph, options_of, write_graph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import openvino

    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config.compress import Int8Settings
    from dinomask.nets.backends.graphs import Array

NEEDED = ("openvino", "onnx", "onnxscript")
NEEDED_INT8 = (*NEEDED, "nncf")

FLOAT_LAYERS: tuple[tuple[str, ...], ...] = (
    ("detector.box/", "detector.classes/", "detector.centerness/", "pyramid.stem.to_2"),
    ("detector.", "pyramid."),
)
"""Layers of the first graph left in floating point, by their places: the last and the first ones,
then all but the backbone. The next set is tried where objects change too much. With the last
and the first in 8 bits too, the bundled model was no faster, and less accurate."""


class OpenVino:
    """Export for OpenVINO in floating point."""

    def reason_against(self, subject: Subject, settings: None) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return reason_without(NEEDED) or reason_against_export(subject.model)

    def apply(self, subject: Subject, settings: None, work: Work) -> Subject:
        """Write the two graphs, their weights in half precision as those of a checkpoint."""
        look, draw = _read(subject, work)
        files = _save(look, draw, work.folder)
        artefact = Artefact.of(work, "openvino", files, ["openvino"])
        return dataclasses.replace(subject, artefact=artefact)


class Int8OpenVino:
    """Static quantisation to 8 bits, calibrated on the user's tiles.

    NNCF's post-training quantisation for transformers: weights a channel, activations a
    tensor, SmoothQuant (Xiao et al., arXiv 2211.10438) and bias correction.
    """

    def reason_against(self, subject: Subject, settings: Int8Settings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return reason_without(NEEDED_INT8) or reason_against_export(subject.model)

    def apply(self, subject: Subject, settings: Int8Settings, work: Work) -> Subject:
        """Quantise; layers stay in floating point where objects would change too much."""
        calibration = Calibration.of(subject, work)
        float_look, float_draw = _read(subject, work)
        draw = _quantise_draw(float_draw, calibration)
        best: tuple[float, openvino.Model, tuple[str, ...]] | None = None
        for kept in FLOAT_LAYERS:
            look = _quantise_look(float_look, calibration, kept, work)
            agreement = calibration.judge.agreement(_network(subject, look, draw))
            if best is None or agreement > best[0]:
                best = agreement, look, kept
            if agreement >= settings.least_agreement:
                break
        agreement, look, kept = best or (0.0, float_look, ())
        if agreement < settings.least_agreement:
            with_float_masks = calibration.judge.agreement(_network(subject, look, float_draw))
            if with_float_masks > agreement:
                agreement, draw = with_float_masks, float_draw
        notes = {
            "tiles": len(calibration.tiles),
            "agreement_ap50": round(agreement, 4),
            "float_layers": list(kept) + (["masks"] if draw is float_draw else []),
        }
        calibration.judge.tell(agreement, settings.least_agreement, work)
        files = _save(look, draw, work.folder)
        artefact = Artefact.of(work, "openvino", files, ["openvino"], precision="int8", notes=notes)
        return dataclasses.replace(subject, artefact=artefact)


def _read(subject: Subject, work: Work) -> tuple[openvino.Model, openvino.Model]:
    import openvino

    core = openvino.Core()
    look, draw = (
        core.read_model(file) for file in write_onnx(subject.model, subject.manifest, work.folder)
    )
    require_same(_network(subject, look, draw), subject.model, FLOAT_TOLERANCE)
    return look, draw


def _save(look: openvino.Model, draw: openvino.Model, folder: Path) -> list[Path]:
    return [*write_graph(look, folder, LOOK), *write_graph(draw, folder, DRAW)]


def _network(subject: Subject, look: openvino.Model, draw: openvino.Model) -> GraphNetwork:
    import openvino

    core, options = openvino.Core(), options_of(torch.get_num_threads(), torch.float32)
    looks, draws = (OpenVinoGraph(core, model, options) for model in (look, draw))
    return GraphNetwork(subject.model.config, looks, draws, torch.device("cpu"))


def _quantise_look(
    model: openvino.Model, calibration: Calibration, kept: tuple[str, ...], work: Work
) -> openvino.Model:
    import nncf

    n = len(calibration.tiles)

    def told() -> Iterator[dict[str, Array]]:
        for i, inputs in enumerate(calibration.look_inputs()):
            work.tell(i, n)
            yield inputs

    float_layers = nncf.IgnoredScope(patterns=[f"{place}.*" for place in kept], validate=False)
    return _quantise(
        model,
        nncf.Dataset(_Again(told)),
        n,
        model_type=nncf.ModelType.TRANSFORMER,
        ignored_scope=float_layers,
    )


def _quantise_draw(model: openvino.Model, calibration: Calibration) -> openvino.Model:
    import nncf

    return _quantise(model, nncf.Dataset(calibration.pooled), len(calibration.pooled))


def _quantise(model: openvino.Model, data: Any, n: int, **how: Any) -> openvino.Model:
    import nncf

    # its progress bars would cross ours
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model.clone(), data, subset_size=n, preset=nncf.QuantizationPreset.MIXED, **how
        )


class _Again:
    """An iterable that begins anew each time, as NNCF goes through the data several times."""

    def __init__(self, begin: Any) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[dict[str, Array]]:
        yield from self._begin()


OPENVINO = OpenVino()
INT8_OPENVINO = Int8OpenVino()
