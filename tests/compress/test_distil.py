"""Students come closer to their teacher, and a training that was stopped goes on."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dinomask.compress.distil import train_to_answer_alike
from dinomask.compress.distil_losses import (
    Answer,
    Projections,
    box_loss,
    feature_loss,
    mask_loss,
)
from dinomask.compress.material import Material
from dinomask.compress.pipeline import compress
from dinomask.compress.qat import round_rows, round_tensor, rounded_products
from dinomask.compress.student import average_said, new_student
from dinomask.compress.subject import Subject
from dinomask.compress.work import CompressionWarning, Work
from dinomask.config import DistilSettings
from dinomask.errors import CancelledError, SettingsError
from dinomask.nets.packing import quantised
from dinomask.nets.zoo import load_model
from tests.compress.small import CONFIG, FAST, compressible_model, save_model, write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory, sample_nuclei, sample_nuclei_labels):
    return write_images(tmp_path_factory.mktemp("images"), sample_nuclei, sample_nuclei_labels)


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path))
    save_model(tmp_path / "small", compressible_model())
    return tmp_path


@pytest.fixture
def tiles():
    return torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))


def apart(student, teacher, tiles) -> dict[str, float]:
    with torch.no_grad():
        own, other = Answer.of(student, tiles), Answer.of(teacher, tiles)
        return {
            "features": float(feature_loss(own, other, Projections(student, teacher))),
            "boxes": float(box_loss(own.dense, other.dense)),
            "masks": float(mask_loss(student, own, teacher, other, 8)),
        }


def test_a_model_differs_from_itself_in_nothing_and_from_others_in_all(tiles):
    teacher, other = compressible_model(), compressible_model(seed=1)
    same, different = apart(teacher, teacher, tiles), apart(other, teacher, tiles)
    assert same["features"] == 0
    assert all(different[kind] > same[kind] for kind in same)


def test_narrower_students_are_compared_by_projections():
    student = compressible_model(dataclasses.replace(CONFIG, pyramid_width=8, detail_width=8))
    projections = Projections(student, compressible_model())
    assert [p.weight.shape[:2] for p in projections] == [(16, 8)] * 4


def test_a_stranger_learns_to_answer_as_its_teacher_does(images, models):
    material = Material.find([images])
    original = Subject.load("small")
    work = Work(FAST, original, material, torch.device("cpu"), models)
    settings = DistilSettings(
        minutes=None, steps=30, batch=2, crop_px=112, learning_rate=2e-3, generated_share=0.0
    )
    tiles = material.tiles(work.predictor(), 4, seed=7, tile_px=112)
    stranger = compressible_model(seed=1)
    before = apart(stranger, original.model, tiles)
    after = apart(train_to_answer_alike(stranger, settings, work), original.model, tiles)
    assert after["features"] < 0.5 * before["features"]


def test_a_distillation_that_was_stopped_goes_on_where_it_stopped(images, models):
    seen = []

    def stop(progress):
        seen.append(progress)
        if progress.stage == "distil" and progress.done >= 300:
            raise CancelledError(expected="to go on", got="a wish to stop", remedy="Start again.")

    settings = dataclasses.replace(
        FAST, distil=DistilSettings(minutes=None, steps=6, batch=1, crop_px=112)
    )
    material = Material.find([images])
    whole = compress("small", ["share", "distil"], models / "whole", settings, material=material)
    with pytest.raises(CancelledError):
        compress(
            "small",
            ["share", "distil"],
            models / "parts",
            settings,
            material=material,
            on_progress=stop,
        )
    assert not (models / "parts").exists()
    steps = []
    made = compress(
        "small",
        ["share", "distil"],
        models / "parts",
        settings,
        material=material,
        on_progress=lambda p: steps.append(p.done) if p.stage == "distil" else None,
    )
    assert min(done for done in steps if done > 1) > 300
    assert {path.name for path in models.iterdir()} == {"small", "whole", "parts"}
    one, other = (load_model(str(r.folder))[0].state_dict() for r in (whole, made))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-3, rtol=1e-3)


def test_a_student_of_another_family_is_narrower_and_used_by_its_name(images):
    settings = dataclasses.replace(
        FAST,
        distil=dataclasses.replace(
            FAST.distil, student="mobilenetv4_conv_small_050", student_width=0.5
        ),
    )
    made = compress("small", ["distil"], config=settings, material=Material.find([images]))
    model, manifest = load_model(made.name)
    assert model.config.backbone == "mobilenetv4_conv_small_050"
    assert model.config.pyramid_width == 8 and model.config.shape is None
    assert "student" in manifest.compression["steps"][0]["notes"][0]


def begun(name, width, images, models):
    """Return a teacher, a student before its training, and what the teacher's backbone says."""
    settings = dataclasses.replace(FAST.distil, student=name, student_width=width)
    original, material = Subject.load("small"), Material.find([images])
    work = Work(FAST, original, material, torch.device("cpu"), models)
    student = new_student(settings, work).eval()
    return original.model, student, average_said(original.model, work.tiles())


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_a_student_begins_with_what_its_teacher_finds_without_a_backbone(
    images, models, tiles, width
):
    teacher, student, said = begun("mobilenetv3_small_050", width, images, models)
    with torch.no_grad():
        own = student.features(tiles)
        hook = student.backbone.register_forward_hook(lambda _m, _g, maps: [m * 0 for m in maps])
        silent = student.features(tiles)
        hook.remove()
        hook = teacher.pyramid.lateral.register_forward_hook(
            lambda _m, _g, maps: said[:, None, None].expand_as(maps)
        )
        wanted = teacher.features(tiles)
        hook.remove()
    for a, b, c in zip(own.levels, silent.levels, wanted.levels, strict=True):
        # what the new backbone says makes no difference yet
        torch.testing.assert_close(a, b)
        assert a.shape[1] == width * c.shape[1]
        if width == 1:
            torch.testing.assert_close(a, c, atol=1e-4, rtol=1e-4)


def test_a_student_whose_pixels_are_normalised_otherwise_sees_the_same(images, models, tiles):
    teacher, student, _ = begun("mobilenetv4_conv_small_050", 1.0, images, models)
    assert student.mean.flatten().tolist() != teacher.mean.flatten().tolist()
    own, wanted = (
        model.pyramid.stem.to_2[0]((tiles - model.mean) / model.std) for model in (student, teacher)
    )
    # beyond the border lies the mean colour of each
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(own[inner], wanted[inner], atol=1e-4, rtol=1e-4)


def test_students_that_do_not_exist_are_named(images):
    settings = dataclasses.replace(
        FAST, distil=dataclasses.replace(FAST.distil, student="mobilenetv9")
    )
    with (
        pytest.warns(CompressionWarning, match="no student mobilenetv9"),
        pytest.raises(SettingsError, match="at least one method"),
    ):
        compress("small", ["distil"], config=settings, material=Material.find([images]))


def test_rounded_products_are_those_of_eight_bits_and_let_gradients_through():
    model = compressible_model()
    layer = model.mask_iou.hidden[0]
    values = torch.randn(4, layer.in_features)
    plain = layer(values)
    with rounded_products(model):
        rounded = layer(values)
        rounded.sum().backward()
    assert torch.equal(layer(values), plain)
    assert layer.weight.grad is not None and bool((layer.weight.grad != 0).any())
    torch.testing.assert_close(round_rows(layer.weight), quantised(layer.weight))
    expected = torch.nn.functional.linear(round_tensor(values), quantised(layer.weight), layer.bias)
    torch.testing.assert_close(rounded, expected)
    assert len(round_tensor(torch.randn(5000)).unique()) <= 256
