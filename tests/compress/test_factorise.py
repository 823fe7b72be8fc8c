"""Low rank keeps the energy it promises, and whitening the energy that counts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dinomask.compress.calibration import Judge
from dinomask.compress.factorise import SVD, low_rank_factors, split_if_it_pays
from dinomask.compress.material import Material
from dinomask.compress.statistics import InputStats
from dinomask.compress.subject import Subject
from dinomask.compress.work import Work
from dinomask.config import NetworkShape, SvdSettings
from dinomask.errors import ModelError
from dinomask.nets.low_rank import LowRankLinear, full_weight, split_linear
from dinomask.nets.zoo import load_model
from tests.compress.small import FAST, compressible_model, save_model, write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory, sample_nuclei, sample_nuclei_labels):
    return write_images(tmp_path_factory.mktemp("images"), sample_nuclei, sample_nuclei_labels)


@given(energy=st.floats(0.05, 0.999), seed=st.integers(0, 50))
def test_the_least_rank_with_that_energy_is_taken(energy, seed):
    weight = torch.randn(12, 20, generator=torch.Generator().manual_seed(seed))
    up, down, rank = low_rank_factors(weight, energy, None)
    left = 1 - (weight - (up @ down).float()).square().sum() / weight.square().sum()
    assert left >= energy - 1e-5
    singular = torch.linalg.svdvals(weight).square()
    assert rank == 1 or singular[: rank - 1].sum() / singular.sum() < energy


def test_whitening_spends_rank_where_inputs_vary():
    chance = torch.Generator().manual_seed(0)
    weight = torch.randn(16, 16, generator=chance)
    inputs = torch.randn(2000, 16, generator=chance)
    inputs[:, 4:] *= 0.01
    stats = InputStats.empty(16)
    stats.see(inputs)
    up, down, rank = low_rank_factors(weight, 0.99, stats)
    assert rank <= 4
    truth, found = inputs @ weight.T, inputs @ (up @ down).float().T
    assert (found - truth).square().sum() < 0.02 * truth.square().sum()


def test_layers_that_rank_would_not_make_smaller_stay_whole():
    model = compressible_model()
    path = f"backbone.{model.backbone.block_paths[0]}.mlp.fc1"
    layer = model.get_submodule(path)
    assert split_if_it_pays(model, path, 0.9999, None) is None
    assert model.get_submodule(path) is layer


def test_split_layers_answer_as_their_product_and_keep_the_mean():
    model = compressible_model()
    path = f"backbone.{model.backbone.block_paths[0]}.mlp.fc1"
    layer = model.get_submodule(path)
    inputs = torch.randn(400, layer.in_features) + 3
    stats = InputStats.empty(layer.in_features)
    stats.see(inputs)
    rank = split_if_it_pays(model, path, 0.3, stats)
    split = model.get_submodule(path)
    assert isinstance(split, LowRankLinear) and split.rank == rank
    expected = inputs @ full_weight(split).T + split.up.bias
    torch.testing.assert_close(split(inputs), expected, atol=1e-4, rtol=1e-4)
    whole = layer(inputs).mean(0)
    torch.testing.assert_close(split(inputs).mean(0), whole, atol=2e-2, rtol=2e-2)


@given(step=st.integers(1, 9), energy=st.floats(0.05, 0.999))
@settings(max_examples=20)
def test_ranks_are_multiples_that_keep_no_less_energy(step, energy):
    weight = torch.randn(12, 20, generator=torch.Generator().manual_seed(1))
    _, _, least = low_rank_factors(weight, energy, None)
    _, _, rank = low_rank_factors(weight, energy, None, step)
    assert rank == 12 or (rank % step == 0 and least <= rank < least + step)


@pytest.mark.filterwarnings("ignore::dinomask.compress.work.CompressionWarning")
def test_less_is_left_out_where_the_objects_would_change(tmp_path, images):
    manifest = save_model(tmp_path / "model", compressible_model())
    subject = Subject(load_model(str(tmp_path / "model"))[0], manifest)
    work = Work(FAST, subject, Material.find([images]), torch.device("cpu"), tmp_path)
    lenient = SVD.apply(subject, SvdSettings(energy=0.2, least_agreement=0.001), work)
    strict = SVD.apply(subject, SvdSettings(energy=0.2, least_agreement=0.999), work)
    assert work.notes[1].endswith("energy 0.2") and not work.notes[-1].endswith("energy 0.2")
    judge = Judge.of(subject, work)
    assert judge.agreement(strict.model) >= judge.agreement(lenient.model)
    assert not (subject.model.config.shape or NetworkShape()).low_rank


def test_layers_that_do_not_exist_cannot_be_split():
    with pytest.raises(ModelError, match="a linear layer at no_such"):
        split_linear(compressible_model(), "no_such.layer", 3)
