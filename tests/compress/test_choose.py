"""What a user types, and the ways of compressing that are meant."""

from __future__ import annotations

import pytest

from dinomask.compress import choose
from dinomask.compress.choose import Recipe, choose_recipes
from dinomask.compress.method import Method, Stage
from dinomask.errors import SettingsError


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed list, so that a new method changes no test."""
    from dinomask.compress import methods

    stages = {
        "head-prune": Stage.PRUNE,
        "svd": Stage.FACTORISE,
        "distil": Stage.TRAIN,
        "bf16": Stage.QUANTISE,
        "int8-openvino": Stage.EXPORT,
    }
    listed = tuple(Method(name, "", stage, "") for name, stage in stages.items())
    monkeypatch.setattr(methods, "METHODS", listed)
    monkeypatch.setattr(choose, "METHODS", listed)


def names(*words: str, student: str | None = None) -> list[str]:
    return [recipe.name for recipe in choose_recipes(words, student=student)]


def test_commas_part_and_pluses_join() -> None:
    assert names("bf16,svd+bf16") == ["bf16", "svd+bf16"]
    assert names("bf16", "svd + bf16".replace(" ", "")) == ["bf16", "svd+bf16"]


def test_joined_methods_are_put_in_the_order_they_are_applied_in() -> None:
    assert names("bf16+distil+head-prune") == ["head-prune+distil+bf16"]


def test_distillation_recovers_what_the_others_lost() -> None:
    found = names("int8-openvino,head-prune,svd,distil")
    assert found == ["int8-openvino", "head-prune", "svd", "head-prune+svd+distil"]


def test_distillation_into_a_student_or_with_nothing_to_recover_stands_alone() -> None:
    assert names("svd,distil", student="mobilenetv4_conv_small") == ["svd", "distil"]
    assert names("bf16,distil") == ["bf16", "distil"]


def test_the_same_way_is_measured_once() -> None:
    assert names("bf16", "bf16", "bf16+svd,svd+bf16") == ["bf16", "svd+bf16"]


@pytest.mark.parametrize("words", [(), ("",), (" , ",), ("bf16,hed-prune",), ("svd+svd",)])
def test_what_can_not_be_meant_is_refused_with_the_methods_there_are(
    words: tuple[str, ...],
) -> None:
    with pytest.raises(SettingsError, match=r"head-prune|once"):
        choose_recipes(words)


def test_a_recipe_of_an_adapters_own_compression_gives_an_adapter() -> None:
    assert not Recipe(("svd",)).of_adapter
