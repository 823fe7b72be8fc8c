"""What every compression method has to keep, on a small random model.

The result loads by its name and computes what the method left in memory; what a method
claims to make smaller is smaller; what it must not change stays; methods work together.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dinomask.compress import pipeline
from dinomask.compress.material import Material
from dinomask.compress.methods import METHODS
from dinomask.compress.pipeline import compress
from dinomask.compress.statistics import outputs_of
from dinomask.compress.work import CompressionWarning
from dinomask.config import DetectConfig, SegmentConfig
from dinomask.nets.zoo import load_model
from dinomask.run.predictor import Predictor
from tests.compress.small import FAST, compressible_model, save_model, write_images
from tests.nets.tiny_adapter import write_adapter

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.compress.pipeline import Compressed
    from dinomask.nets.centermask import CenterMask

# on a processor without instructions for it, which may be that of the tests
pytestmark = pytest.mark.filterwarnings("ignore:bfloat16 is slower")

TORCH = [
    m
    for m in METHODS
    if m.implementation.partition(":")[0]
    in {
        f"dinomask.compress.{name}"
        for name in (
            "adapters",
            "channels",
            "coarse",
            "factorise",
            "fusing",
            "mixing",
            "precision",
            "prune",
            "prune_blocks",
            "share",
            "qat",
            "sparsify",
            "student",
        )
    }
]
"""Methods that give a PyTorch model; backends have a suite of their own."""

ON_ADAPTERS = ("merge", "lora-sparsify", "lora-int8")
EXACT = ("merge", "coarse", "fuse", "bf16", "fp16", "window")
"""Those that leave the function of the network as it is; windows on small tiles alone."""

FEWER_PARAMETERS = ("head-prune", "mlp-prune", "block-prune", "channel-prune", "svd", "share")
FEWER_PRODUCTS = ("head-prune", "mlp-prune", "block-prune", "svd", "token-merge")
SMALLER_FILES = (*FEWER_PARAMETERS, "sparsify", "lora-sparsify", "lora-int8")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def images(tmp_path_factory, sample_nuclei, sample_nuclei_labels) -> Path:
    folder = tmp_path_factory.mktemp("images")
    return write_images(folder, sample_nuclei, sample_nuclei_labels)


@pytest.fixture(scope="module", autouse=True)
def original(home) -> CenterMask:
    """The model as a checkpoint, with an adapter on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DINOMASK_MODELS", str(home))
        save_model(home / "small", compressible_model())
        write_adapter(home / "adapters" / "taught", "small", blocks=(2, 3))
        yield load_model("small")[0]


@pytest.fixture(scope="module")
def made(home, images) -> dict[str, Compressed]:
    """The result of each method, made once."""
    return {}


def result_of(name: str, made: dict[str, Compressed], images: Path) -> Compressed:
    if name not in made:
        adapter = "taught" if name in ON_ADAPTERS else None
        made[name] = compress(
            "small", [name], config=FAST, adapter=adapter, material=Material.find([images])
        )
    return made[name]


def runs_here(name: str) -> bool:
    return name != "sparse-24" or torch.cuda.is_available()


def tile(side: int = 112) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def answers(model: CenterMask, side: int = 112) -> list[torch.Tensor]:
    pyramid = model.features(tile(side))
    dense = model.dense(pyramid)
    return [pyramid.fine, *pyramid.levels, dense.class_logits, dense.distances_px]


def distance(model: CenterMask, other: CenterMask) -> float:
    pairs = zip(answers(model), answers(other), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def products(model: CenterMask) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.backbone(tile(224))
    return counter.get_total_flops()


def model_of(result: Compressed) -> CenterMask:
    if result.kind == "adapter":
        return Predictor.load(SegmentConfig(model="small", adapter=result.name, threads=1)).model
    return load_model(result.name)[0]


METHOD = pytest.mark.parametrize("name", [m.name for m in TORCH if runs_here(m.name)])


@METHOD
def test_the_result_is_used_by_its_name_and_is_what_was_made(name, made, images, monkeypatch):
    kept = {}
    save = pipeline._save

    def keep(subject, *rest):
        kept["model"] = subject.copied().merged().model
        return save(subject, *rest)

    monkeypatch.setattr(pipeline, "_save", keep)
    made.pop(name, None)
    adapter = "taught" if name in ON_ADAPTERS else None
    made[name] = compress(
        "small",
        [name],
        config=FAST,
        adapter=adapter,
        overwrite=True,
        material=Material.find([images]),
    )
    # files hold half precision
    assert distance(model_of(made[name]), kept["model"]) < 2e-2
    config = SegmentConfig(model=made[name].name, threads=1)
    if made[name].kind == "adapter":
        config = SegmentConfig(model="small", adapter=made[name].name, threads=1)
    found = Predictor.load(config).detect(tile()[0].numpy(), DetectConfig(score_threshold=0.05))
    assert len(found)


@pytest.mark.parametrize("name", EXACT)
def test_the_function_stays(name, made, images, original):
    before = original
    if name in ON_ADAPTERS:
        config = SegmentConfig(model="small", adapter="taught", threads=1)
        before = Predictor.load(config).model
    assert distance(model_of(result_of(name, made, images)), before) < 2e-2


@pytest.mark.parametrize("name", ["token-merge", "svd", "lora-int8"])
def test_the_function_stays_about_the_same(name, made, images, original):
    before = original
    if name in ON_ADAPTERS:
        config = SegmentConfig(model="small", adapter="taught", threads=1)
        before = Predictor.load(config).model
    changed = answers(model_of(result_of(name, made, images)))
    for own, other in zip(changed, answers(before), strict=True):
        cosine = torch.cosine_similarity(own.flatten(), other.flatten(), dim=0)
        assert cosine > 0.9


@pytest.mark.parametrize("name", FEWER_PARAMETERS)
def test_parameters_are_fewer(name, made, images):
    record = result_of(name, made, images).record
    assert record["after"]["parameters"] < 0.97 * record["before"]["parameters"]


@pytest.mark.parametrize("name", FEWER_PRODUCTS)
def test_products_are_fewer(name, made, images, original):
    # of this small model merged tokens spare the least, 1.6 %
    assert products(model_of(result_of(name, made, images))) < 0.99 * products(original)


@pytest.mark.parametrize("name", SMALLER_FILES)
def test_files_are_smaller(name, made, images, home):
    result = result_of(name, made, images)
    source = home / "adapters" / "taught" if name in ON_ADAPTERS else home / "small"
    file = "adapter.safetensors" if name in ON_ADAPTERS else "model.safetensors"
    assert (result.folder / file).stat().st_size < 0.97 * (source / file).stat().st_size


PIPELINES = (
    ("head-prune", "mlp-prune", "block-prune", "distil"),
    ("mlp-prune", "channel-prune", "svd", "distil", "sparsify"),
    ("share", "distil", "bf16"),
    ("block-prune", "token-merge", "svd", "fuse"),
    ("head-prune", "window", "sparsify", "fuse", "fp16"),
    ("share", "qat"),
    ("lora-sparsify", "lora-int8", "merge", "head-prune", "svd"),
)


@pytest.mark.parametrize("names", PIPELINES, ids="+".join)
def test_methods_work_together(names, images):
    adapter = "taught" if "merge" in names else None
    result = compress(
        "small",
        names,
        config=FAST,
        adapter=adapter,
        overwrite=True,
        material=Material.find([images]),
    )
    assert [step["method"] for step in result.record["steps"]] == list(names)
    model, manifest = load_model(result.name)
    assert manifest.compression["steps"] == result.record["steps"]
    outputs = outputs_of(model, tile())
    assert all(torch.isfinite(output).all() for output in outputs)


def test_a_compressed_model_can_be_compressed_again(made, images):
    first = result_of("head-prune", made, images)
    second = compress(
        first.name, ["mlp-prune", "svd"], config=FAST, material=Material.find([images])
    )
    assert second.record["source"]["name"] == first.name
    assert second.record["after"]["parameters"] < first.record["after"]["parameters"]


def test_every_method_of_this_suite_is_in_the_list():
    named = {m.name for m in METHODS}
    assert {*EXACT, *FEWER_PRODUCTS, *SMALLER_FILES, *itertools.chain(*PIPELINES)} <= named


def test_methods_that_a_network_cannot_do_are_left_out_and_the_others_go_on(home, images):
    config = dataclasses.replace(
        compressible_model().config,
        backbone="mobilenetv4_conv_small_050",
        feature_blocks=None,
        shape=None,
    )
    save_model(home / "mobile", compressible_model(config))
    with pytest.warns(CompressionWarning, match="no plain transformer"):
        result = compress(
            "mobile",
            ["head-prune", "fuse", "sparsify"],
            config=FAST,
            material=Material.find([images]),
        )
    assert [s["method"] for s in result.record["skipped"]] == ["head-prune"]
    assert [s["method"] for s in result.record["steps"]] == ["sparsify", "fuse"]
    assert load_model(result.name)[0].config.shape.fused


def test_methods_that_need_images_say_so():
    with pytest.warns(CompressionWarning, match="needs images"):
        result = compress("small", ["svd", "sparsify"], config=FAST, overwrite=True)
    assert [s["method"] for s in result.record["steps"]] == ["sparsify"]


@pytest.mark.parametrize(
    "name",
    [
        "head-prune",
        "mlp-prune",
        "block-prune",
        "channel-prune",
        "token-merge",
        "window",
        "svd",
        "share",
        "fuse",
        "sparsify",
    ],
)
def test_lora_learns_on_what_was_compressed_and_is_put_on_merged(name, made, images, home):
    result = result_of(name, made, images)
    adapter = f"on-{name}"
    write_adapter(home / "adapters" / adapter, result.name, blocks=(1, 2))
    with_adapter = Predictor.load(SegmentConfig(model=result.name, adapter=adapter, threads=1))
    merged = compress(result.name, ["merge"], config=FAST, adapter=adapter)
    assert distance(with_adapter.model, load_model(result.name)[0]) > 1e-3
    assert distance(load_model(merged.name)[0], with_adapter.model) < 2e-2
