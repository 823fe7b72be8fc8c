"""The list of methods: complete, importable without torch, found by name."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from dinomask.compress.artefacts import reason_against_sums
from dinomask.compress.methods import METHODS, find_methods
from dinomask.compress.subject import Subject
from dinomask.config import CompressConfig
from dinomask.errors import SettingsError
from dinomask.nets import precision
from dinomask.nets.catalogue import Manifest
from tests.compress.small import compressible_model


def test_listing_methods_imports_no_torch():
    code = "import sys, dinomask.compress.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_can_be_loaded_and_says_what_it_gains(method):
    implementation = method.load()
    assert callable(implementation.apply) and callable(implementation.reason_against)
    assert method.summary and method.gain.endswith(".")
    settings = method.settings(CompressConfig())
    assert settings is None or dataclasses.is_dataclass(settings)


def test_the_list_is_in_the_order_of_the_stages():
    stages = [method.stage for method in METHODS]
    assert stages == sorted(stages)


def test_methods_are_sorted_by_stage_whatever_the_order_of_their_names():
    assert [m.name for m in find_methods(["bf16", "merge"])] == ["merge", "bf16"]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["mrege"], "Did you mean merge"), (["merge", "merge"], "twice"), ([], "at least one")],
)
def test_names_that_cannot_be_used_are_refused(names, message):
    with pytest.raises(SettingsError, match=message):
        find_methods(names)


def test_settings_all_belong_to_a_method():
    nested = {
        field.name.replace("_", "-")
        for field in dataclasses.fields(CompressConfig)
        if dataclasses.is_dataclass(field.default)
    }
    assert nested <= {method.name for method in METHODS}


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-onnx", "int8-onnx-dynamic"])
def test_sums_that_would_overflow_are_refused(monkeypatch, name):
    abilities = precision.processor_abilities()
    monkeypatch.setattr(precision, "processor_abilities", lambda: abilities | {"vnni": True})
    assert reason_against_sums() is None
    monkeypatch.setattr(precision, "processor_abilities", lambda: abilities | {"vnni": False})
    model = compressible_model()
    (method,) = (method for method in METHODS if method.name == name)
    reason = method.load().reason_against(Subject(model, Manifest("small", model.config)), None)
    assert reason is not None
    assert "VNNI" in reason
