"""Graphs of OpenVINO come back from their packed files as they were."""

from __future__ import annotations

import numpy as np
import pytest

from dinomask.nets.backends.openvino import LOOK, read_graph, write_graph

openvino = pytest.importorskip("openvino")


def _graph(weights, *, quantised):
    from openvino import opset13 as ops

    tiles = ops.parameter([1, len(weights)], np.float32, name="tiles")
    if quantised:
        low, high = (ops.constant(np.float32(v)) for v in (-8, 8))
        seen = ops.fake_quantize(tiles, low, high, low, high, 256)
    else:
        seen = tiles
    product = ops.matmul(seen, ops.constant(weights), transpose_a=False, transpose_b=False)
    return openvino.Model([product], [tiles], "graph")


def _run(core, graph, inputs):
    # processors with matrix units take bfloat16 by themselves
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return next(iter(core.compile_model(graph, "CPU", options)(inputs).values()))


@pytest.mark.parametrize("quantised", [False, True])
def test_weights_of_half_precision_stay_what_they_are_and_take_half(tmp_path, quantised):
    chance = np.random.default_rng(0)
    weights = chance.normal(size=(64, 32)).astype(np.float16).astype(np.float32)
    core, graph = openvino.Core(), _graph(weights, quantised=quantised)
    files = write_graph(graph, tmp_path, LOOK)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f.name for f in files)
    assert files[1].stat().st_size < 2 * weights.size + 200
    inputs = chance.normal(size=(1, 64)).astype(np.float32)
    expected = _run(core, graph, inputs)
    np.testing.assert_allclose(
        _run(core, read_graph(core, tmp_path, LOOK), inputs), expected, rtol=1e-5, atol=1e-5
    )


def test_quantised_graphs_keep_weights_that_half_precision_would_change(tmp_path):
    weights = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    files = write_graph(_graph(weights, quantised=True), tmp_path, LOOK)
    assert files[1].stat().st_size >= 4 * weights.size


def test_the_same_graph_gives_the_same_files(tmp_path):
    graph = _graph(np.ones((64, 32), np.float32), quantised=True)
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        write_graph(graph, folder, LOOK)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_graphs_that_are_not_packed_are_read_too(tmp_path):
    weights = np.ones((64, 32), np.float32)
    openvino.save_model(_graph(weights, quantised=False), tmp_path / f"{LOOK}.xml")
    core = openvino.Core()
    found = _run(core, read_graph(core, tmp_path, LOOK), np.ones((1, 64), np.float32))
    np.testing.assert_array_equal(found, np.full((1, 32), 64, np.float32))
