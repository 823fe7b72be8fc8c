"""From what a user names to ways of compressing: several methods, each apart or joined. No torch.

A comma parts variants, a plus joins methods to one: ``svd,head-prune+distil`` makes two.

``distil`` without a student recovers what other methods lost, and gains nothing alone. So
beside methods that change the network, ``svd,head-prune,distil`` asks for three variants:
each of them as it is, and both together recovered by distillation.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path  # noqa: TC003 - read when a study is restored
from typing import TYPE_CHECKING

from dinomask.compress.method import Stage
from dinomask.compress.methods import METHODS, find_methods
from dinomask.config import BenchConfig, CompressConfig, SegmentConfig
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RECOVERED = (Stage.PRUNE, Stage.FACTORISE, Stage.SHARE)
"""What methods of these stages lose, training wins back."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way to compress a model.

    Attributes
    ----------
    methods : names, in the order in which they are applied
    """

    methods: tuple[str, ...]

    @property
    def name(self) -> str:
        """As it is typed, and as it is called in tables."""
        return "+".join(self.methods)

    @property
    def of_adapter(self) -> bool:
        """Whether the result is an adapter again, not a model."""
        return all(method.stage == Stage.ADAPTER for method in find_methods(self.methods))


@dataclasses.dataclass(frozen=True)
class Study:
    """What is to be compressed, how, and judged by what.

    Attributes
    ----------
    model : name or folder of a checkpoint
    recipes : the ways to compress it, each a variant
    places : data sets, folders of images, or images
    adapter : on the model
    other : data of another domain, to see what generalisation is lost
    out : folder of the results, one in it each, or of the only one; None takes places among
        the user's models
    overwrite : replace results that were made otherwise
    config, bench, segment : settings
    """

    model: str
    recipes: tuple[Recipe, ...]
    places: tuple[Path, ...]
    adapter: str | None = None
    other: tuple[Path, ...] = ()
    out: Path | None = None
    overwrite: bool = False
    config: CompressConfig = dataclasses.field(default_factory=CompressConfig)
    bench: BenchConfig = dataclasses.field(default_factory=BenchConfig)
    segment: SegmentConfig = dataclasses.field(default_factory=SegmentConfig)


def choose_recipes(words: Iterable[str], *, student: str | None = None) -> tuple[Recipe, ...]:
    """Return the ways of compressing that a user named.

    Parameters
    ----------
    words : of the option ``--method``; each may name several, parted by commas
    student : of the distillation; with one ``distil`` is a way by itself

    Raises
    ------
    SettingsError
        If a method is unknown, named twice in one way, or none is named.

    Examples
    --------
    >>> [recipe.name for recipe in choose_recipes(["bf16,merge+fp16"])]
    ['bf16', 'merge+fp16']
    """
    named = [part.strip() for word in words for part in word.split(",") if part.strip()]
    chosen = [_recipe(part.split("+")) for part in named]
    if not chosen:
        raise SettingsError(
            expected="at least one compression method",
            got="none",
            remedy=f"Choose among {', '.join(method.name for method in METHODS)}.",
        )
    recovered = _to_recover(chosen)
    if student is None and recovered and Recipe(("distil",)) in chosen:
        joined = _recipe([*recovered, "distil"])
        chosen = [joined if recipe.methods == ("distil",) else recipe for recipe in chosen]
    # the same one twice would be measured twice
    return tuple(dict.fromkeys(chosen))


def _recipe(names: Sequence[str]) -> Recipe:
    return Recipe(tuple(method.name for method in find_methods(names)))


def _to_recover(recipes: Sequence[Recipe]) -> list[str]:
    """Return the methods named by themselves that change the network."""
    single = [recipe.methods[0] for recipe in recipes if len(recipe.methods) == 1]
    return [name for name in single if find_methods([name])[0].stage in RECOVERED]
