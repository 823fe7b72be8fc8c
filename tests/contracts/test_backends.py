"""What every backend must do: what eager PyTorch does, within what its kind allows."""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch

from dinomask.adapt.packing import export
from dinomask.adapt.shelf import find_entry
from dinomask.compress.material import Material
from dinomask.compress.pipeline import compress
from dinomask.config import DetectConfig, SegmentConfig, TileConfig
from dinomask.config.model import SIDE_STEP_PX
from dinomask.errors import BackendError, ModelError, SettingsError
from dinomask.image.source import open_image
from dinomask.nets import artefact
from dinomask.nets.catalogue import MANIFEST_FILE, find_model, list_models, read_manifest
from dinomask.nets.zoo import load_model
from dinomask.run.engines import SerialEngine
from dinomask.run.engines.processes import ProcessEngine
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from tests.compress.small import save_model, write_images
from tests.contracts.backends import (
    FAMILIES,
    FLOAT,
    HAS_VNNI,
    INT8,
    QUICK,
    SATURATING,
    SIDE,
    TOLERANCE,
    boxes,
    differences,
    export_once,
    model_of,
    tiles,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dinomask.nets.network import Network

QUICK_METHODS = (*FLOAT, "int8-openvino", "int8-dynamic")
QUICK_PAIRS = tuple(("dinov2", method) for method in QUICK_METHODS)
every_backend = pytest.mark.parametrize("method", QUICK_METHODS)
every_pair = pytest.mark.parametrize(
    ("family", "method"),
    [
        *QUICK_PAIRS,
        *(
            # each export takes about ten seconds, each calibration as much
            pytest.param(family, method, marks=pytest.mark.slow)
            for family in FAMILIES
            for method in (*FLOAT, *INT8)
            # 8 bits in PyTorch are for linear layers, which this backbone has none of
            if (family, method) not in (*QUICK_PAIRS, ("mobilenet", "int8-dynamic"))
        ),
    ],
)


@pytest.fixture(scope="module")
def home(tmp_path_factory, sample_nuclei, sample_nuclei_labels):
    """Checkpoints of both families among the user's models, and images to calibrate on."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DINOMASK_MODELS", str(folder / "models"))
        export_once(patch, folder / "exported")
        for family in FAMILIES:
            save_model(folder / "models" / family, model_of(family))
        write_images(folder / "images", sample_nuclei, sample_nuclei_labels)
        yield folder


@pytest.fixture(scope="module")
def name_of(home) -> Callable[[str, str], str]:
    """Makes an artefact the first time it is asked for, and gives its name."""

    def name(family: str, method: str) -> str:
        if method in SATURATING and not HAS_VNNI:
            pytest.skip("this processor has no VNNI")
        known = f"{family}-{method}"
        if known not in list_models():
            compress(family, [method], config=QUICK, material=Material.find([home / "images"]))
        return known

    return name


@pytest.fixture(scope="module")
def network_of(name_of) -> Callable[[str, str], Network]:
    loaded: dict[tuple[str, str], Network] = {}

    def network(family: str, method: str) -> Network:
        if (family, method) not in loaded:
            loaded[family, method] = load(name_of(family, method)).network
        return loaded[family, method]

    return network


def load(name: str, **settings) -> Predictor:
    config = SegmentConfig(
        model=name,
        threads=1,
        precision="fp32",
        device="cpu",
        tiles=TileConfig(tile_px=SIDE, halo_px=28),
        **settings,
    )
    return Predictor.load(config)


@torch.inference_mode()
def compared(network: Network, eager: Network, shape: tuple[int, int, int]):
    """Pairs of all that two networks say of the same tiles."""
    seen = tiles(*shape)
    maps, dense = network.look(seen)
    truth_maps, truth = eager.look(seen)
    yield maps.fine, truth_maps.fine
    yield maps.detail, truth_maps.detail
    yield network.tokens(seen), eager.tokens(seen)
    for field in dataclasses.fields(dense):
        yield getattr(dense, field.name), getattr(truth, field.name)
    asked = [boxes(3 + b, b) for b in range(len(seen))]
    # what lies between is shared: each draws from the same maps
    drawn, true = network.draw(truth_maps, asked), eager.draw(truth_maps, asked)
    yield from zip(drawn, true, strict=True)


@every_pair
@pytest.mark.parametrize("shape", [(1, SIDE, SIDE), (2, 112, 140), (1, 70, 98)], ids=str)
def test_a_backend_computes_what_eager_does_for_any_size(family, method, shape, network_of):
    eager = load_model(family)[0]
    assert differences(compared(network_of(family, method), eager, shape)) < TOLERANCE[method]


@every_backend
def test_a_backend_prepared_for_a_shape_computes_the_same(method, network_of):
    network, eager = network_of("dinov2", method), load_model("dinov2")[0]
    shape = (1, SIDE, SIDE)
    network.expect((1, 3, SIDE, SIDE), 10**6)
    assert differences(compared(network, eager, shape)) < TOLERANCE[method]
    network.expect((1, 3, SIDE, SIDE), 1)


@every_pair
def test_any_number_of_objects_can_be_drawn_none_too(family, method, network_of):
    network, eager = network_of(family, method), load_model(family)[0]
    with torch.inference_mode():
        maps, _ = eager.look(tiles(1, 112, 112))
        for n in (0, 1, 40):
            rois, logits, iou = network.draw(maps, [boxes(n)])
            assert rois.shape == (n, 4)
            assert logits.shape == (n, 28, 28)
            assert iou.shape == (n, 1)


@pytest.mark.parametrize("family", ["dinov2", pytest.param("mobilenet", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", FLOAT)
def test_instances_are_those_of_the_checkpoint(family, method, name_of):
    one, other = load(family), load(name_of(family, method))
    tile = tiles(1, 112, 112)[0].numpy()
    expected, found = (p.detect(tile, DetectConfig(max_instances=20)) for p in (one, other))
    assert len(expected) == len(found) > 0
    np.testing.assert_allclose(found.boxes_yxyx_px, expected.boxes_yxyx_px, atol=0.1)
    np.testing.assert_allclose(found.scores, expected.scores, atol=5e-3)
    assert np.abs(found.masks.astype(int) - expected.masks.astype(int)).max() <= 3


@pytest.mark.slow
@pytest.mark.parametrize("method", FLOAT)
def test_heads_of_pixels_and_images_are_exported_too(method, name_of):
    one, other = load("mobilenet"), load(name_of("mobilenet", method))
    tile = tiles(1, 112, 98)[0].numpy()
    np.testing.assert_allclose(other.semantic(tile), one.semantic(tile), atol=2e-3)
    np.testing.assert_allclose(other.image_class(tile), one.image_class(tile), atol=2e-3)
    with pytest.raises(ModelError, match="without a head"):
        load(name_of("dinov2", method)).semantic(tile)


@pytest.mark.slow
def test_compiled_pytorch_computes_what_eager_does(name_of):
    eager = load_model("dinov2")[0]
    network = load(name_of("dinov2", "compiled")).network
    for shape in ((1, SIDE, SIDE), (1, 112, 98)):
        assert differences(compared(network, eager, shape)) < TOLERANCE["compiled"]
    assert read_manifest(find_model("dinov2-compiled")).backend.notes["warm_up_s"] > 0


@pytest.mark.slow
def test_a_run_is_the_same_in_processes(name_of, sample_nuclei):
    config = SegmentConfig(
        model=name_of("dinov2", "openvino"),
        threads=1,
        diameter_px=120.0,
        device="cpu",
        tiles=TileConfig(tile_px=SIDE, halo_px=28),
        detect=DetectConfig(max_instances=10),
    )
    image = open_image(sample_nuclei)
    serial = segment(image, config=config, engine=SerialEngine())
    engine = ProcessEngine(1)
    try:
        parallel = segment(image, config=config, engine=engine)
    finally:
        engine.close()
    assert np.array_equal(serial.labels_yx, parallel.labels_yx)
    info = read_manifest(find_model(config.model)).backend
    assert serial.report["model"]["sha256"] == info.identity


@every_backend
def test_sides_that_a_backend_wants_are_sides_that_its_source_takes(method, name_of):
    wanted = load(name_of("dinov2", method)).network.side_step_px
    assert wanted >= SIDE_STEP_PX and wanted % load("dinov2").network.side_step_px == 0


@every_backend
def test_an_artefact_says_what_it_is_and_where_from(method, name_of):
    manifest = read_manifest(find_model(name_of("dinov2", method)))
    source = read_manifest(find_model("dinov2"))
    info = manifest.backend
    assert info.source == {"name": "dinov2", "weights_sha256": source.weights_sha256}
    assert info.precision == ("int8" if method in INT8 else "float")
    assert manifest.weights_sha256 == info.identity != source.weights_sha256
    assert info.libraries and manifest.compression["steps"][0]["method"] == method


@every_backend
def test_layers_and_gradients_are_refused_with_the_source(method, name_of):
    name = name_of("dinov2", method)
    with pytest.raises(ModelError, match="the model 'dinov2'"):
        _ = load(name).model
    with pytest.raises(ModelError, match="the model 'dinov2'"):
        load_model(name)


def test_onnx_files_name_sizes_places_and_where_they_come_from(name_of):
    folder = find_model(name_of("dinov2", "onnx"))
    look, draw = (onnx.load(folder / file) for file in ("look.onnx", "draw.onnx"))
    for graph in (look, draw):
        onnx.checker.check_model(graph, full_check=True)
        about = {entry.key: entry.value for entry in graph.metadata_props}
        assert about["name"] == "dinov2" and len(about["source_sha256"]) == 64
    (tiles_input,) = look.graph.input
    sizes = [d.dim_param or d.dim_value for d in tiles_input.type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, "height", "width"]
    assert [o.name for o in draw.graph.output] == ["mask_logits", "iou"]
    places = {node.name.partition("/")[0] for node in look.graph.node}
    assert {"backbone.vit.blocks.0.attn.qkv", "detector.box"} <= places


def test_an_artefact_stands_on_the_shelf_and_travels_as_its_source(name_of, tmp_path):
    name = name_of("dinov2", "int8-dynamic")
    entry = find_entry(name, "model")
    assert entry.state == "" and entry.size_mb > 0
    with pytest.raises(ModelError, match="Export the model 'dinov2'"):
        export(name, tmp_path / "packed.zip")


@pytest.fixture
def copied(name_of, tmp_path) -> Path:
    """A copy of an artefact, to be spoiled."""
    folder = tmp_path / "copy"
    shutil.copytree(find_model(name_of("dinov2", "onnx")), folder)
    return folder


def rewrite(folder: Path, **backend) -> None:
    path = folder / MANIFEST_FILE
    raw = json.loads(path.read_text())
    raw["backend"].update(backend)
    path.write_text(json.dumps(raw))


def test_a_changed_or_missing_file_is_noticed(copied):
    with (copied / "look.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match=r"look\.onnx .* of another hash"):
        load(str(copied))
    (copied / "look.onnx").unlink()
    with pytest.raises(ModelError, match="missing"):
        load(str(copied))


def test_files_of_a_later_library_are_refused(copied):
    rewrite(copied, libraries={"onnxruntime": "99.1"})
    with pytest.raises(BackendError, match=r"onnxruntime 99\.1 or newer.*pip install -U"):
        load(str(copied))


def test_a_processor_that_would_give_wrong_results_is_refused(copied, monkeypatch):
    rewrite(copied, processor=["vnni"])
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"})
    with pytest.raises(BackendError, match=r"without vnni.*'dinov2'"):
        load(str(copied))


@pytest.mark.parametrize(
    ("method", "library", "extra"),
    [("openvino", "openvino", "openvino"), ("onnx", "onnxruntime", "onnx")],
)
def test_a_backend_that_is_not_installed_names_its_extra(
    method, library, extra, name_of, monkeypatch
):
    name = name_of("dinov2", method)
    there = artefact.is_installed
    monkeypatch.setattr(artefact, "is_installed", lambda n: n != library and there(n))
    with pytest.raises(BackendError, match=rf"pip install \"napari-dinomask\[{extra}\]\""):
        load(name)


def test_openvino_on_cuda_is_refused(name_of):
    config = SegmentConfig(model=name_of("dinov2", "openvino"), device="cuda")
    with pytest.raises(SettingsError, match="cpu or auto"):
        Predictor.load(config)


def test_an_adapter_needs_the_checkpoint(name_of, home):
    from tests.nets.tiny_adapter import write_adapter

    write_adapter(home / "models" / "adapters" / "taught", "dinov2", blocks=(2, 3))
    with pytest.raises(ModelError, match="the model 'dinov2'"):
        load(name_of("dinov2", "onnx"), adapter="taught")
