"""Two of four: recognised where it is, used where the GPU can."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dinomask.compress.sparsify import SPARSE_24, two_of_four
from dinomask.compress.subject import Subject
from dinomask.config import DetectConfig, NetworkShape
from dinomask.nets.catalogue import Manifest
from dinomask.nets.sparse24 import has_pattern, has_sparse_cores, use_sparse_cores
from dinomask.run.predictor import Predictor
from tests.compress.small import CONFIG, compressible_model


def sparse_model():
    model = compressible_model()
    made = SPARSE_24.apply(Subject(model, Manifest("small", model.config)), None, None)
    return made.model


def test_the_pattern_is_recognised_and_noted():
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    assert not has_pattern(weight)
    assert has_pattern(weight * two_of_four(weight))
    # sides that the GPU can't divide
    assert not has_pattern(torch.zeros(60, 128))
    assert sparse_model().config.shape.sparse_24


def test_without_such_a_gpu_or_pattern_nothing_changes():
    plain = compressible_model(dataclasses.replace(CONFIG, shape=NetworkShape(heads=(3, 3, 3, 3))))
    assert use_sparse_cores(plain, torch.float16) == 0
    assert use_sparse_cores(sparse_model(), torch.float32) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not has_sparse_cores(), reason="a GPU before Ampere")
def test_sparse_cores_compute_what_dense_ones_do():
    model = sparse_model().cuda()
    manifest = Manifest("small", model.config, score_threshold=0.05)
    tile = torch.rand(3, 112, 112, generator=torch.Generator().manual_seed(0)).numpy()
    found = []
    for sparse in (False, True):
        if sparse:
            assert use_sparse_cores(model, torch.float16) > 0
        predictor = Predictor(model, manifest, torch.device("cuda"), torch.float16)
        found.append(predictor.detect(tile, DetectConfig(score_threshold=0.05)))
    assert len(found[0]) == pytest.approx(len(found[1]), rel=0.1)
