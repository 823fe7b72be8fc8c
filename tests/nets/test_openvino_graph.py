"""A graph of OpenVINO is compiled for a shape only where many inputs have it."""

from __future__ import annotations

import numpy as np
import pytest

from dinomask.nets.backends.openvino import FIXED_FROM, MOST_SHAPES, OpenVinoGraph

openvino = pytest.importorskip("openvino")

OPTIONS = {"INFERENCE_PRECISION_HINT": "f32"}


class WatchedCore:
    """OpenVINO's own core; notes for which shapes it compiles."""

    def __init__(self):
        self.core = openvino.Core()
        self.compiled = []

    def compile_model(self, model, *arguments):
        shape = model.inputs[0].partial_shape
        self.compiled.append(tuple(shape.to_shape()) if shape.is_static else "any")
        return self.core.compile_model(model, *arguments)


@pytest.fixture
def core():
    return WatchedCore()


@pytest.fixture
def graph(core):
    from openvino import opset13 as ops

    tiles = ops.parameter([-1, -1], np.float32, name="tiles")
    tiles.output(0).set_names({"tiles"})
    sums = ops.reduce_sum(tiles, ops.constant(np.array([1])))
    sums.output(0).set_names({"sums"})
    model = openvino.Model([sums], [tiles], "graph")
    return OpenVinoGraph(core, model, OPTIONS)


def call(graph, *shape):
    values = np.random.default_rng(0).random(shape, np.float32)
    np.testing.assert_allclose(graph(tiles=values)["sums"], values.sum(1), rtol=1e-5)


def test_nothing_is_compiled_before_it_is_needed(core, graph):
    graph.expect({"tiles": (2, 7)}, FIXED_FROM)
    assert not core.compiled
    call(graph, 2, 7)
    assert core.compiled == [(2, 7)]
    call(graph, 3, 5)
    call(graph, 1, 9)
    assert core.compiled == [(2, 7), "any"]


def test_many_of_a_shape_are_compiled_for_once_and_few_are_not(core, graph):
    few, many = {"tiles": (3, 5)}, {"tiles": (4, 6)}
    graph.expect(few, 1)
    call(graph, 3, 5)
    assert core.compiled == ["any"]
    for _ in range(2):
        graph.expect(many, FIXED_FROM)
        call(graph, 4, 6)
    assert core.compiled == ["any", (4, 6)]
    call(graph, 3, 5)
    assert core.compiled == ["any", (4, 6)]


def test_what_runs_does_not_depend_on_what_was_expected_before(core, graph):
    graph.expect({"tiles": (4, 6)}, FIXED_FROM)
    graph.expect({"tiles": (3, 5)}, 1)
    call(graph, 4, 6)
    assert core.compiled == ["any"]


def test_a_graph_for_any_shape_begins_anew_after_many_shapes(core, graph):
    for _ in range(2):
        for rows in range(3, 3 + MOST_SHAPES):
            call(graph, rows, 4)
    assert core.compiled == ["any"]
    call(graph, 1, 4)
    assert core.compiled == ["any", "any"]
